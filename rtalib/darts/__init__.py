"""Differentiable architecture search: genotypes, the networks they stand for, and how to find them."""

from rtalib.darts.choose import choose
from rtalib.darts.genotype import GENOTYPES, Genotype, random_genotype
from rtalib.darts.network import Network
from rtalib.darts.robust_darts import early_stop
from rtalib.darts.search import SearchResult, search
from rtalib.darts.select import edge_normalized, magnitude
from rtalib.darts.settings import METHODS, PRESETS, Adaptation, Choice, Curvature, Projection, Settings, StopRule
from rtalib.darts.space import SPACES, Space
from rtalib.darts.supernet.fused import FusedSupernet
from rtalib.darts.supernet.plain import Supernet
from rtalib.darts.weights.files import load_network, save_network
