"""The source models that RTA attacks: two clean networks, and those contest defences that a plain training objective makes.

The contest (CVPR 2021 AML-CV, ARES platform) had 13 CIFAR-10 defences; RTA attacks them and two clean models. Of the 13, these four differ
from standard training by their objective alone, so a substitute of any size can be trained with `objective(source)`. The others need extra
data, other heads, weight perturbation, pruning, pre-training, early stopping on robust accuracy or batch replay.
"""

from dataclasses import dataclass

from rtalib.robust_training import Objective, fast_at, pgd_at, trades


@dataclass(frozen=True)
class Source:
    """One card. Accuracies are published ones in percent, at 8/255 unless `note` says otherwise; None where there is none.

    clean_accuracy, robust_accuracy (the authors' own attack), autoattack; starter_score: fraction misclassified under the contest's PGD-10;
    robustbench: the id of the same weights there; objective: what trains its substitute here, on the network that the scale names.
    """

    name: str
    architecture: str
    method: str
    paper: str
    objective: str
    clean_accuracy: float | None = None
    robust_accuracy: float | None = None
    autoattack: float | None = None
    starter_score: float | None = None
    robustbench: str | None = None
    note: str = ""


_CARDS = (
    Source(
        "clean_resnet50",
        "ResNet-50 with a 3x3 stem",
        "standard training",
        "He et al. 2016",
        "clean",
        note="RTA names it 'resnet50' without settings; the CIFAR stem is inferred from the contest's Stage I target",
    ),
    Source(
        "clean_wideresnet",
        "WRN-28-4 or WRN-34-10",
        "standard training",
        "Zagoruyko and Komodakis 2016",
        "clean",
        note="RTA names it 'wideresnet' without settings",
    ),
    Source(
        "pgd_at",
        "wide ResNet of Madry et al., about WRN-34-10",
        "PGD-AT",
        "Madry et al. 2018",
        "pgd_at",
        clean_accuracy=87.14,
        robust_accuracy=47.04,
        autoattack=44.04,
        starter_score=0.515,
        note="the published network sees per-image standardised inputs",
    ),
    Source(
        "wideresnet_trades",
        "WRN-34-10",
        "TRADES, beta 6",
        "Zhang et al. 2019",
        "trades",
        clean_accuracy=84.92,
        robust_accuracy=56.43,
        autoattack=53.08,
        starter_score=0.418,
        robustbench="Zhang2019Theoretically",
        note="published at eps 0.031",
    ),
    Source(
        "fast_at",
        "PreAct ResNet-18",
        "FastAT, 30 epochs",
        "Wong et al. 2020",
        "fast_at",
        clean_accuracy=83.34,
        robust_accuracy=46.06,
        autoattack=43.21,
        starter_score=0.492,
        robustbench="Wong2020Fast",
    ),
    Source(
        "label_smoothing",
        "WRN-34-10",
        "PGD-AT with label smoothing",
        "Pang et al. 2021",
        "label_smoothing",
        starter_score=0.418,
        note="the contest's smoothing value is unpublished; 0.1 here",
    ),
)
SOURCES: dict[str, Source] = {card.name: card for card in _CARDS}


def objective(source: Source, *, steps: int = 10) -> Objective | None:
    """The training objective of a source's substitute; None for standard training.

    steps: inner steps of PGD-AT and TRADES; fewer than 10 are taken proportionally longer, so that they reach as far. FastAT takes one.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    scale = 10 / min(steps, 10)
    step_size, trades_step = scale * 2 / 255, scale * 0.007
    return {
        "clean": None,
        "pgd_at": pgd_at(step_size=step_size, steps=steps),
        "trades": trades(step_size=trades_step, steps=steps),
        "fast_at": fast_at(),
        "label_smoothing": pgd_at(step_size=step_size, steps=steps, label_smoothing=0.1),
    }[source.objective]
