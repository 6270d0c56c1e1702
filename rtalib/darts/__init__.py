"""Differentiable architecture search: genotypes, the networks they stand for, and how to find them."""

from rtalib.darts.genotype import GENOTYPES, Genotype, random_genotype
from rtalib.darts.network import Network
from rtalib.darts.search import METHODS, SearchResult, search
from rtalib.darts.select import magnitude
from rtalib.darts.space import SPACES, Space
from rtalib.darts.supernet import Supernet

__all__ = [
    "GENOTYPES",
    "METHODS",
    "SPACES",
    "Genotype",
    "Network",
    "SearchResult",
    "Space",
    "Supernet",
    "magnitude",
    "random_genotype",
    "search",
]
