"""The published settings of each method, and short ones for refining a search."""

from dataclasses import fields, replace

from rtalib.darts.settings import Adaptation, Choice, Curvature, Projection, Settings, StopRule
from rtalib.errors import unknown

_DARTS = Settings()
_PC = Settings(partial=4, batch_size=256, lr=0.1, lr_min=0.0, arch_lr=6e-4, warm_up=15)  # Xu et al., ICLR 2020
_PT = Settings(space="no-none", projection=Projection())  # Wang et al., ICLR 2021
_ROBUST = Settings(order=2)  # Zela et al., ICLR 2020: L2 factors 1, 3, 9, 27
_L2 = ((3e-4, 0.0), (9e-4, 0.0), (27e-4, 0.0), (81e-4, 0.0))
_DROP_PATH = ((3e-4, 0.0), (3e-4, 0.2), (3e-4, 0.4), (3e-4, 0.6))
_STOP = {"curvature": Curvature(), "stop": StopRule()}
# A search of 20 epochs instead of 50: warm-up, interval, measurements and their rule are shortened in proportion.
_SHORT = {"epochs": 20}
_SHORT_STOP = {"curvature": Curvature(every=1), "stop": StopRule(lag=3, first=4)}

# method -> preset -> settings
PRESETS: dict[str, dict[str, Settings]] = {
    "darts": {
        "published": _DARTS,
        "second-order": replace(_DARTS, order=2),
        "refinement": replace(_DARTS, **_SHORT),
    },
    "pc-darts": {
        "published": _PC,
        "refinement": replace(_PC, **_SHORT, warm_up=6),
    },
    "darts-pt": {
        "published": _PT,
        "fixed-alphas": replace(_PT, fixed_alphas=True),
        "refinement": replace(_PT, **_SHORT, projection=Projection(interval=2)),
    },
    "robust-darts": {
        "published": replace(_ROBUST, grid=_L2),
        "drop-path": replace(_ROBUST, grid=_DROP_PATH),
        "early-stop": replace(_ROBUST, **_STOP),  # DARTS-ES as the code has it
        "early-stop-paper": replace(
            _ROBUST, curvature=Curvature(every=1), stop=StopRule(window=5, lag=5, ratio=1 / 0.75, first=0, centred=False)
        ),
        "adaptive": replace(_ROBUST, **_STOP, adaptation=Adaptation()),  # DARTS-ADA
        "refinement": replace(_ROBUST, **_SHORT, grid=_L2, choice=Choice(epochs=20)),
        "refinement-early-stop": replace(_ROBUST, **_SHORT, **_SHORT_STOP),
    },
}
METHODS = tuple(PRESETS)


def settings_for(method: str, preset: str = "published", *, warm_start: bool = False, **changes: object) -> Settings:
    """The settings of a method's preset with `changes` to its fields.

    warm_start: the supernet is trained already, so a refinement needs no warm-up. ValueError for an unknown method, preset or field, and
    for a weight decay or drop path next to a grid of them.
    """
    if method not in PRESETS:
        raise unknown("search method", method, METHODS)
    if preset not in PRESETS[method]:
        raise unknown(f"preset of {method}", preset, PRESETS[method])
    known = [field.name for field in fields(Settings)]
    for name in changes:
        if name not in known:
            raise unknown("setting", name, known)
    if warm_start and preset.startswith("refinement"):
        changes = {"warm_up": 0, **changes}
    settings = replace(PRESETS[method][preset], **changes)
    for name in ("weight_decay", "drop_path"):
        if settings.grid and name in changes:
            raise ValueError(f"{name}: the grid sets it; pass grid=() for one search with {name}={changes[name]}")
    return settings
