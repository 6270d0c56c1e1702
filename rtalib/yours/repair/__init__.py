"""What `rtalib.repair` offers: the CF-DARTS paper's protocol and tables, and repairs of a network of your own."""

from typing import Any

from rtalib import lazily
from rtalib.experiments import repair as paper

_load, _names = lazily(
    __name__,
    {
        "climb": "Ladder case_of_corruption case_of_failures ladder read save",
        "rungs": "RUNGS Case NotApplicable Settings",
        "selectors": "SELECTORS",
        "your_network": "METHODS RepairResult repair",
        "core_or_random": "",
        "failures": "read_failures",
        "figure": "ladder_figure selector_dots",
    },
)


def __getattr__(name: str) -> Any:
    return _load(name) if name in _names() else getattr(paper, name)


def __dir__() -> list[str]:
    return sorted({*_names(), *dir(paper)})
