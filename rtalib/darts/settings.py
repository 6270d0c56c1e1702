"""Every number of a search, frozen and checked; the published settings of each method are in presets.toml."""

from dataclasses import dataclass, fields, replace

from rtalib.darts.choose import Choice
from rtalib.darts.darts_pt import Projection
from rtalib.darts.operations import STEMS
from rtalib.darts.robust_darts import Adaptation, Curvature, StopRule
from rtalib.darts.space import Space, get_space
from rtalib.darts.supernet.pc_darts import MASKS
from rtalib.errors import check_name, check_number
from rtalib.infra.data_files import build, inherited, read_toml

FILE = "presets.toml"
ORDERS = (1, 2)
TERMS = ("differences", "exact")
MOST_DROPPED = 0.99  # largest probability of drop path: at 1 nothing would be left to scale up


@dataclass(frozen=True)
class Settings:
    """All numbers of a search. Defaults are those of first-order DARTS on CIFAR-10 (Liu et al., ICLR 2019).

    space: a name in SPACES, or a Space. channels, layers, stem: of the supernet. partial: K of partial channels (1: all are mixed), `mask`
        which channels ('fixed' or 'random').
    epochs: with architecture and weights in turns (the epochs of `projection` are added); steps_per_epoch: default len(train) / batch_size,
        rounded up; batches are drawn with replacement.
    lr, lr_min, momentum, weight_decay, grad_clip: SGD on the weights, cosine from lr to lr_min. arch_lr, arch_weight_decay: Adam on the
        architecture, betas (0.5, 0.999). order: 1 or 2 (unrolled, with its second `term` by 'differences' or 'exact'). weights_first: the
        weights' step before the architecture's, as in CF-DARTS' section 3.4; DARTS' own code does the reverse.
    warm_up: first epochs without architecture steps. fixed_alphas: none at all, the architecture parameters keep their initial values.
    drop_path: probability reached at the last epoch, rising linearly; above 0, squares of `cutout` pixels are cut from both halves'
        images as well, with a probability that rises from 0 to 1 (RobustDARTS couples the two).
    grid: (weight_decay, drop_path) of several searches; `choice` selects one of them. Empty: one search with the settings' own.
    curvature, stop, adaptation: measurement of the eigenvalue, early stopping by it, and DARTS-ADA; None: off.
    projection: DARTS-PT's selection; None: the strongest operations and edges, by alphas and, if there are any, betas.
    """

    space: str | Space = "darts"
    channels: int = 16
    layers: int = 8
    stem: str = "cifar"
    partial: int = 1
    mask: str = "fixed"
    epochs: int = 50
    steps_per_epoch: int | None = None
    batch_size: int = 64
    lr: float = 0.025
    lr_min: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 3e-4
    grad_clip: float = 5.0
    arch_lr: float = 3e-4
    arch_weight_decay: float = 1e-3
    order: int = 1
    term: str = "differences"
    weights_first: bool = False
    warm_up: int = 0
    fixed_alphas: bool = False
    drop_path: float = 0.0
    cutout: int = 16
    grid: tuple[tuple[float, float], ...] = ()
    choice: Choice = Choice()
    curvature: Curvature | None = None
    stop: StopRule | None = None
    adaptation: Adaptation | None = None
    projection: Projection | None = None

    def __post_init__(self):
        for name in ("channels", "layers", "epochs", "batch_size", "partial"):
            check_number(name, getattr(self, name), 1, integer=True)
        if self.steps_per_epoch is not None:
            check_number("steps_per_epoch", self.steps_per_epoch, 1, integer=True)
        for name in ("lr", "lr_min", "momentum", "arch_lr", "arch_weight_decay"):
            check_number(name, getattr(self, name))
        for name in ("warm_up", "cutout"):
            check_number(name, getattr(self, name), 0, integer=True)
        for weight_decay, drop_path in (*self.grid, (self.weight_decay, self.drop_path)):
            check_number("weight_decay", weight_decay)
            check_number("drop_path", drop_path, 0, MOST_DROPPED)
        for name, options in (("order", ORDERS), ("term", TERMS), ("mask", MASKS), ("stem", STEMS)):
            if getattr(self, name) not in options:
                raise ValueError(f"{name}: available are {', '.join(map(str, options))}, got {getattr(self, name)!r}")
        get_space(self.space)
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.stop is not None and self.curvature is None:
            raise ValueError("stop: needs the eigenvalue, so set curvature, too")
        if self.adaptation is not None and self.stop is None:
            raise ValueError("adaptation: needs to know when to roll back, so set stop, too")
        if self.projection is not None and (self.stop is not None or self.partial > 1):
            raise ValueError("projection: goes with neither stop nor partial channels (whose bypass no decision removes)")

    @property
    def total_epochs(self) -> int:
        return self.epochs + (self.projection.epochs if self.projection else 0)


PARTS = {"choice": Choice, "curvature": Curvature, "stop": StopRule, "adaptation": Adaptation, "projection": Projection}


def _presets() -> dict[str, dict[str, Settings]]:
    """{method: {preset: settings}} of presets.toml."""
    methods: dict[str, dict[str, Settings]] = {}
    for method, presets in read_toml(__package__, FILE).items():
        methods[method] = {}
        for preset, table in inherited(presets).items():
            place = f"{FILE}, {method}.{preset}"
            parts = {name: build(kind, table[name], f"{place}.{name}") for name, kind in PARTS.items() if name in table}
            methods[method][preset] = build(Settings, table | parts, place)
    return methods


PRESETS = _presets()
METHODS = tuple(PRESETS)


def settings_for(method: str, preset: str = "published", *, warm_start: bool = False, **changes: object) -> Settings:
    """The settings of a method's preset with `changes` to its fields.

    warm_start: the supernet is already trained, so a refinement needs no warm-up. ValueError for an unknown method, preset or field, and
    for a weight decay or drop path beside a grid of them.
    """
    check_name("search method", method, PRESETS)
    check_name(f"preset of {method}", preset, PRESETS[method])
    known = [field.name for field in fields(Settings)]
    for name in changes:
        check_name("setting", name, known)
    if warm_start and preset.startswith("refinement"):
        changes = {"warm_up": 0, **changes}
    settings = replace(PRESETS[method][preset], **changes)
    for name in ("weight_decay", "drop_path"):
        if settings.grid and name in changes:
            raise ValueError(f"{name}: the grid sets it; pass grid=() for one search with {name}={changes[name]}")
    return settings
