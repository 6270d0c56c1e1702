"""What each published table is said to show, in our words, as comparisons of two methods on one column.

A claim whose text starts with "Control:" is ours: a null baseline that the papers lack.
"""

from dataclasses import dataclass

BARS = ("TA", "Cutout", "FGSM", "I-FGSM", "Corruptions", "RTA(Ours)")
LADDER = ("10,000 Ori(baseline)", "5 × 10,000 Ori", *(f"10,000 Ori + 4 × 10,000 Ori with {name}" for name in BARS))
NULL = "Org. DNN (retrained)"  # the same architecture, trained again with another seed
NO_HARM = 0.5  # points of clean accuracy that "not harmed" may cost; our choice, the papers give none


@dataclass(frozen=True)
class Claim:
    """`better` is above `worse` on `metric` (percent), or at most `margin` points below it when margin > 0."""

    id: str
    paper: str
    table: str
    text: str
    better: str
    worse: str
    metric: str
    margin: float = 0.0


def _rta_table1() -> list[Claim]:
    short = ("originals", "5 × originals", *BARS)
    pairs = list(zip(LADDER[1:], LADDER[:-1], short[1:], short[:-1], strict=True))
    ladder = [
        Claim(f"rta1.{i}", "rta", "table1", f"{better} scores above {worse}", a, b, "score")
        for i, (a, b, better, worse) in enumerate(pairs, start=1)
    ]
    return ladder + [
        Claim(
            "rta1.8",
            "rta",
            "table1",
            "RTA scores above 5 × originals: not more of the same",
            LADDER[-1],
            LADDER[1],
            "score",
        ),
        Claim("rta1.9", "rta", "table1", "RTA scores above TrivialAugment", LADDER[-1], LADDER[2], "score"),
        Claim("rta1.10", "rta", "table1", "RTA scores above adversarial examples alone (I-FGSM)", LADDER[-1], LADDER[5], "score"),
    ]


def _rta_rest() -> dict[str, list[Claim]]:
    setup = "180 epochs, lr decay by 0.1 at [120, 140,160]."
    return {
        "rta-table2": [
            Claim("rta2.1", "rta", "table2", "label smoothing 0.1 scores above none", "LS 0.1, WD 1e-4", "LS 0, WD 1e-4", "score"),
            Claim("rta2.2", "rta", "table2", "label smoothing 0.1 scores above 0.15", "LS 0.1, WD 1e-4", "LS 0.15, WD 1e-4", "score"),
            Claim("rta2.3", "rta", "table2", "weight decay 5e-4 scores above 1e-4", "LS 0.1, WD 5e-4", "LS 0.1, WD 1e-4", "score"),
            Claim("rta2.4", "rta", "table2", "weight decay 5e-4 scores above 2e-4", "LS 0.1, WD 5e-4", "LS 0.1, WD 2e-4", "score"),
        ],
        "rta-table3": [
            Claim("rta3.1", "rta", "table3", "180 epochs score above 110", setup, "110 epochs, lr decay by 0.1 at [100,105].", "score"),
            Claim("rta3.2", "rta", "table3", "180 epochs score above 150", setup, "150 epochs, lr decay by 0.1 at [120, 135].", "score"),
            Claim(
                "rta3.3", "rta", "table3", "180 epochs score above 165", setup, "165 epochs, lr decay by 0.1 at [120, 135,150].", "score"
            ),
        ],
        "rta-table4": [
            Claim(
                "rta4.1",
                "rta",
                "table4",
                "stage II: iterative search adds to RTA",
                "StageII: RTA + Iterative search",
                "StageII: RTA",
                "score",
            ),
            Claim(
                "rta4.2", "rta", "table4", "stage I: iterative search adds to RTA", "StageI: RTA + Iterative search", "StageI: RTA", "score"
            ),
        ],
    }


def _cf(table: str, entries: list[tuple]) -> list[Claim]:
    """Claims cf<n>.1, cf<n>.2 ... from (text, better, worse, metric[, margin])."""
    number = table.removeprefix("table").removeprefix("figure")
    prefix = f"cf{number}" if table.startswith("table") else f"cf-fig{number}"
    return [Claim(f"{prefix}.{i}", "cf", table, *entry) for i, entry in enumerate(entries, start=1)]


def _cf_table2() -> list[tuple]:
    augmentations = [
        (f"CF-DARTSE is above {name} on the failing examples", "CF-DARTSE", name, "fail") for name in ("DeepRepair", "AugMix", "CutMix")
    ]
    return [
        ("CF-DARTSE is above the original on the whole guiding corruption", "CF-DARTSE", "Org. DNN", "gaussian_noise"),
        ("CF-DARTS is above the original on the whole guiding corruption", "CF-DARTS", "Org. DNN", "gaussian_noise"),
        ("Control: CF-DARTS is above the retrained original on its failing examples", "CF-DARTS", "Org. DNN (retrained)", "fail"),
        ("Control: CF-DARTSE is above the retrained original on its failing examples", "CF-DARTSE", "Org. DNN (retrained)", "fail"),
        ("core failures guide better than random ones on the failing examples", "CF-DARTS", "RF-DARTS", "fail"),
        ("and so they do when added to the training set", "CF-DARTSE", "RF-DARTSE", "fail"),
        ("core failures guide better than augmented images on the failing examples", "CF-DARTS", "AU-DARTS", "fail"),
        ("and so they do when added to the training set (AU)", "CF-DARTSE", "AU-DARTSE", "fail"),
        *augmentations,
        ("training on the core failures adds to searching with them", "CF-DARTSE", "CF-DARTS", "fail"),
        ("CF-DARTS does not harm clean accuracy (0.5 points allowed)", "CF-DARTS", "Org. DNN", "clean", NO_HARM),
        ("CF-DARTSE does not harm clean accuracy (0.5 points allowed)", "CF-DARTSE", "Org. DNN", "clean", NO_HARM),
        ("CF-DARTSE keeps more clean accuracy than AugMix", "CF-DARTSE", "AugMix", "clean"),
        ("CF-DARTS is above the original on the other corruptions (mean)", "CF-DARTS", "Org. DNN", "others"),
        ("CF-DARTSE is above the original on the other corruptions (mean)", "CF-DARTSE", "Org. DNN", "others"),
        ("CF-DARTSE is above RF-DARTSE on the other corruptions (mean)", "CF-DARTSE", "RF-DARTSE", "others"),
        ("CF-DARTSE is above AU-DARTSE on the other corruptions (mean)", "CF-DARTSE", "AU-DARTSE", "others"),
        ("Control: CF-DARTS is above a random cell on the failing examples", "CF-DARTS", "Random cell", "fail"),
        ("Control: searching adds to training on the failures (failing examples)", "CF-DARTSE", "Org. DNN + failures", "fail"),
        ("Control: and so it does on the other corruptions (mean)", "CF-DARTSE", "Org. DNN + failures", "others"),
        ("Control: CF-DARTSE is above a random cell that trains on the failures", "CF-DARTSE", "Random cell + failures", "fail"),
    ]


def _cf_table3() -> list[tuple]:
    entries = []
    for guide, name in (("gn", "Gaussian noise"), ("gb", "glass blur"), ("fg", "fog"), ("pl", "pixelate")):
        cf, cfe, org, null = (f"{guide}: {method}" for method in ("CF-DARTS", "CF-DARTSE", "Org. DNN", NULL))
        entries += [
            (f"{name}: CF-DARTS is above the original on the other corruptions (mean)", cf, org, "others"),
            (f"{name}: CF-DARTSE is above the original on the other corruptions (mean)", cfe, org, "others"),
            (f"{name}: training on the core failures adds to searching with them", cfe, cf, "fail"),
            (f"{name}: CF-DARTS does not harm clean accuracy (0.5 points allowed)", cf, org, "clean", NO_HARM),
            (f"Control: {name}: CF-DARTS is above the retrained original on its failing examples", cf, null, "fail"),
        ]
    return entries


def _cf_table4() -> list[tuple]:
    entries = []
    for guide, name in (("gn", "Gaussian noise"), ("gb", "glass blur"), ("fg", "fog"), ("pl", "pixelate")):
        cf, rf, org = (f"{guide}: {method}" for method in ("CF-DARTS", "RF-DARTS", "Org. DNN"))
        entries += [
            (f"{name}: CF-DARTS is above the original on clean Tiny-ImageNet", cf, org, "clean"),
            (f"{name}: CF-DARTS is above the original on the 15 corruptions (mean)", cf, org, "mean"),
            (f"{name}: CF-DARTS is above RF-DARTS on clean Tiny-ImageNet", cf, rf, "clean"),
            (f"{name}: CF-DARTS is above RF-DARTS on the 15 corruptions (mean)", cf, rf, "mean"),
            (f"Control: {name}: CF-DARTS is above the original trained again, on clean images", cf, f"{guide}: {NULL}", "clean"),
            (f"Control: {name}: and on the 15 corruptions (mean)", cf, f"{guide}: {NULL}", "mean"),
        ]
    return entries


def _cf_table5() -> list[tuple]:
    entries = []
    for base, extended in (("PCDARTS", "PCDARTSE"), ("DARTSPT", "DARTSPTSE"), ("RobDARTS", "RobDARTSE")):
        entries += [
            (f"{base}: core failures guide better than random ones", f"CF-{base}", f"RF-{base}", "fail"),
            (f"{base}: and so they do when added to the training set", f"CF-{extended}", f"RF-{extended}", "fail"),
            (f"{base}: the CF variant is above the original on the other corruptions (mean)", f"CF-{base}", base, "others"),
            (f"{base}: the CF-E variant is above the original on the other corruptions (mean)", f"CF-{extended}", base, "others"),
            (f"Control: {base}: the CF variant is above the retrained original", f"CF-{base}", f"{base} (retrained)", "fail"),
            (
                f"Control: {base}: the CF-E variant is above DARTS' on the common failing examples",
                f"CF-{extended}",
                "CF-DARTSE",
                "common_fail",
            ),
        ]
    return entries


def _cf_table6() -> list[tuple]:
    sizes = (1000, 5000, 10000, 15000, 20000)
    return [
        *(
            (f"{size:,} failures: core ones guide better than random ones", f"CF-DARTS({size})", f"RF-DARTS({size})", "fail")
            for size in sizes
        ),
        ("more failures are not better: 5,000 above 20,000", "CF-DARTS(5000)", "CF-DARTS(20000)", "fail"),
        ("another network: core failures guide better than random ones", "CF-DARTS", "RF-DARTS", "fail"),
        ("another network: and so they do when added to the training set", "CF-DARTSE", "RF-DARTSE", "fail"),
        ("another network: CF-DARTSE is above the original on the other corruptions (mean)", "CF-DARTSE", "Org. DNN-v2", "others"),
        ("Control: 1,000 core failures: above the retrained original", "CF-DARTS(1000)", NULL, "fail"),
        ("Control: another network: CF-DARTS is above it trained again", "CF-DARTS", "Org. DNN-v2 (retrained)", "fail"),
    ]


_CF_TABLE1 = [
    ("1,000 random failures guide the search: above the original on Gaussian noise", "DARTS-10³ GN", "Initial DNN", "gaussian_noise"),
    ("clean accuracy is not harmed (0.5 points allowed)", "DARTS-10³ GN", "Initial DNN", "clean", NO_HARM),
    ("more failures are not better: 5,000 above 10,000", "DARTS-5×10³ GN", "DARTS-10⁴ GN", "fail"),
    ("Control: 1,000 random failures: above the retrained original", "DARTS-10³ GN", "Initial DNN (retrained)", "fail"),
]
_CF_FIGURE4 = [
    ("a second iteration of CF-DARTS adds (mean of the other corruptions)", "CF-DARTS-2", "CF-DARTS-1", "others"),
    ("a third iteration of CF-DARTS adds (mean of the other corruptions)", "CF-DARTS-3", "CF-DARTS-2", "others"),
    ("a second iteration of CF-DARTSE adds (mean of the other corruptions)", "CF-DARTSE-2", "CF-DARTSE-1", "others"),
    ("a third iteration of CF-DARTSE adds (mean of the other corruptions)", "CF-DARTSE-3", "CF-DARTSE-2", "others"),
    ("Control: three iterations of CF-DARTS are above the retrained original (failing examples)", "CF-DARTS-3", NULL, "fail"),
]

_SEARCHED = ("DARTS", "PCDARTS", "DARTSPT", "RobDARTS")
_CHANCE = [
    (f"Control: the cell of {name} is above the median of random cells", name, "Random cell (median)", "clean") for name in _SEARCHED
]

# Beyond both papers (notebook 20). Some methods are differences of others: see together.CONTRASTS, gain_parts, severity_budget.
_TOGETHER = [
    ("both together are above RTA data alone (15 corruptions, mean)", "CF-DARTS cell, RTA", "Deployed cell, RTA", "mean"),
    ("both together are above the CF-DARTS cell alone (15 corruptions, mean)", "CF-DARTS cell, RTA", "CF-DARTS cell, originals", "mean"),
    ("and on failing examples of the deployed network", "CF-DARTS cell, RTA", "CF-DARTS cell, originals", "fail"),
    ("and on adversarial examples of a held-out source", "CF-DARTS cell, RTA", "CF-DARTS cell, originals", "transfer_pgd"),
    ("RTA data does not harm clean accuracy (0.5 points allowed)", "CF-DARTS cell, RTA", "CF-DARTS cell, originals", "clean", NO_HARM),
    ("interaction: RTA data adds more to the CF-DARTS cell than to the deployed one", "CF-DARTS cell: RTA", "Deployed cell: RTA", "mean"),
    ("RTA data is above as many originals with the core failures among them", "CF-DARTS cell, RTA", "CF-DARTS cell, failures", "mean"),
    ("the core failures add to RTA data (failing examples)", "CF-DARTS cell, RTA + failures", "CF-DARTS cell, RTA", "fail"),
]
_AS_DATA, _AS_CELL = "CF-DARTSE: failures as data", "CF-DARTSE: architecture"
_PARTS = [
    ("the architecture is a part of CF-DARTSE's gain (failing examples)", "CF-DARTS", NULL, "fail"),
    ("the failures as data are a part of it", "Org. DNN + failures", NULL, "fail"),
    ("the failures as data give more than the architecture", _AS_DATA, _AS_CELL, "fail"),
    ("and so they do on the other corruptions (mean)", _AS_DATA, _AS_CELL, "others"),
    (
        "interaction: the failures add more to the CF-DARTS cell",
        "failures as data, CF-DARTS cell",
        "failures as data, deployed cell",
        "fail",
    ),
    ("the searched architecture's part is above a random one's", _AS_CELL, "Random cell: architecture", "fail"),
    (
        "the failures add more to the CF-DARTS cell than to a random one",
        "failures as data, CF-DARTS cell",
        "failures as data, random cell",
        "fail",
    ),
]
_MOST, _ONE = "severity 3, 4 copies", "severity 3, 1 copy"
_BUDGET = [
    ("four RTA copies score above one", _MOST, _ONE, "score"),
    ("one RTA copy returns more points per hour than four", _ONE, _MOST, "return"),
    ("severity 3 scores above severity 1", _MOST, "severity 1, 4 copies", "score"),
    ("severity 3 scores above severity 5", _MOST, "severity 5, 4 copies", "score"),
    ("RTA copies score above as many steps on the originals", _MOST, "originals, 4 times more", "score"),
    ("RTA copies return more points per hour than more steps", _MOST, "originals, 4 times more", "return"),
]
_COVER = "StageII: RTA + Coverage search"
_COVERAGE = [
    ("coverage of the misclassified scores above a uniform choice among them", _COVER, "StageII: RTA + Iterative search", "score"),
    ("coverage of the misclassified scores above RTA's draw", _COVER, "StageII: RTA", "score"),
    ("coverage is above the uniform choice on unseen types", _COVER, "StageII: RTA + Iterative search", "held_out_types"),
]
_NEIGHBOURS = [
    (f"{name}'s gain is greater in the guide's own family than elsewhere", f"{name}: same family", f"{name}: other families", "gain")
    for name in ("CF-DARTS", "CF-DARTSE")
]


def _ours(table: str, prefix: str, entries: list[tuple]) -> dict[str, tuple[Claim, ...]]:
    return {f"ours-{table}": tuple(Claim(f"{prefix}.{i}", "ours", table, *entry) for i, entry in enumerate(entries, start=1))}


CLAIMS: dict[str, tuple[Claim, ...]] = {
    **_ours("search-or-chance", "chance", _CHANCE),
    **_ours("together", "together", _TOGETHER),
    **_ours("gain-parts", "parts", _PARTS),
    **_ours("severity-budget", "budget", _BUDGET),
    **_ours("coverage", "coverage", _COVERAGE),
    **_ours("neighbours", "neighbours", _NEIGHBOURS),
    "rta-table1": tuple(_rta_table1()),
    **{table: tuple(claims) for table, claims in _rta_rest().items()},
    **{
        f"cf-{table}": tuple(_cf(table, entries))
        for table, entries in {
            "table1": _CF_TABLE1,
            "table2": _cf_table2(),
            "table3": _cf_table3(),
            "table4": _cf_table4(),
            "table5": _cf_table5(),
            "table6": _cf_table6(),
            "figure4": _CF_FIGURE4,
        }.items()
    },
    "cf-table7": (),  # hours of one method's phases: nothing is compared
}
