"""The published tables of both papers as data, cell by cell, with the places where a paper contradicts itself.

RTA: "Robust TrivialAugment + Iterative Search" (tables 1-4, and the counts that its authors' notebook prints).
CF_DARTS: core-failure-set guided DARTS (tables 1-7). The cells lie in published/*.csv; a cell that a paper leaves empty is absent.
CLAIMS: what each table is said to show, as pairs of methods that measured rows can be tested on (see claims.py).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from rtalib.errors import unknown
from rtalib.results.claims import CLAIMS, Claim

NAMES = {"rta": "RTA + iterative search", "cf": "CF-DARTS"}
# Library name of a corruption -> its heading in the CF-DARTS tables, in the benchmark's order.
CORRUPTION_LABELS = {
    "gaussian_noise": "Gauss",
    "shot_noise": "Shot",
    "impulse_noise": "Impulse",
    "defocus_blur": "Defocus",
    "glass_blur": "Glass",
    "motion_blur": "Motion",
    "zoom_blur": "Zoom",
    "snow": "Snow",
    "frost": "Frost",
    "fog": "Fog",
    "brightness": "Bright",
    "contrast": "Contrast",
    "elastic_transform": "Elastic",
    "pixelate": "Pixel",
    "jpeg_compression": "Jpeg",
}
LABELS = {"clean": "Clean", "fail": "Fail", "common_fail": "Common fail", **CORRUPTION_LABELS, "others": "Others", "mean": "Mean"}
LABELS |= {"corruptions": "Seen corr.", "held_out_severities": "Other severities", "held_out_types": "Other types"}
LABELS |= {"transfer_fgsm": "FGSM", "transfer_bim": "BIM", "transfer_pgd": "PGD", "transfer_l2": "L2"}
# Abbreviation of a guiding corruption in the paper -> library name. Rows of tables 3 and 4 are named "gb: CF-DARTS" and so on.
GUIDES = {"gn": "gaussian_noise", "gb": "glass_blur", "fg": "fog", "pl": "pixelate"}


@dataclass(frozen=True)
class Conflict:
    """A cell of which the paper gives two values, or whose printed value cannot mean what its column says."""

    method: str
    column: str
    printed: float
    other: float | None  # None: no second number is printed
    note: str


@dataclass(frozen=True)
class Published:
    """One published table: `rows[method][column]` and, where printed, `std[method][column]`, both in `unit`.

    `settings[method]` are columns that describe a method and are not results; `runs` is how many runs a number averages
    (None: the paper does not say). Column names are the library's; method names are the paper's own.
    """

    paper: str  # "rta" | "cf"
    table: str  # "table1" ...
    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, float]]
    std: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unit: str = "percent"
    runs: int | None = None
    notes: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name of the table in result rows, e.g. "cf-table2"."""
        return f"{self.paper}-{self.table}"

    def value(self, method: str, column: str) -> float | None:
        """The printed number, or None where the paper prints none. "mean" and "others" are averages (see `derived`).

        "gb: Org. DNN" falls back to "Org. DNN": a network that no corruption guided belongs to every block.
        """
        row = self.rows.get(method) or self.rows.get(split_guide(method)[1])
        return None if row is None else derived(row, column, guide=split_guide(method)[0])


def label(column: str) -> str:
    """Heading of a column: the paper's word for a corruption, else the name with its underscores as spaces."""
    return LABELS.get(column) or column.replace("_", " ").capitalize()


def split_guide(method: str) -> tuple[str | None, str]:
    """ "gb: CF-DARTS" -> ("glass_blur", "CF-DARTS"); "CF-DARTS" -> (None, "CF-DARTS")."""
    head, colon, tail = method.partition(": ")
    return (GUIDES[head], tail) if colon and head in GUIDES else (None, method)


def derived(row: Mapping[str, object], column: str, *, guide: str | None = None) -> float | None:
    """`row[column]` as a float, or None. Two columns are computed from the corruption columns that the row holds:

    "mean": their average; "others": their average without the guiding corruption (`guide`, else row["corruption"], else Gaussian noise).
    """
    if column in ("mean", "others"):
        guide = guide or str(row.get("corruption") or "gaussian_noise")
        names = [name for name in CORRUPTION_LABELS if row.get(name) is not None and (column == "mean" or name != guide)]
        return sum(float(row[name]) for name in names) / len(names) if names else None
    value = row.get(column)
    return None if value is None or isinstance(value, str) else float(value)


def _cells(name: str) -> dict[str, dict[str, str]]:
    """published/<name>.csv as {method: {column: text}}, empty cells left out."""
    with resources.files("rtalib.results").joinpath("published", f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return {row.pop("method"): {column: text for column, text in row.items() if text} for row in csv.DictReader(file)}


def _load(paper: str, table: str, title: str, *, std: bool = False, settings: tuple[str, ...] = (), **more) -> Published:
    """The table whose cells are in published/<paper>-<table>.csv (and ...-std.csv); `settings` names columns that are no results."""
    cells = _cells(f"{paper}-{table}")
    columns = tuple(dict.fromkeys(column for row in cells.values() for column in row if column not in settings))
    order = ("clean", "fail", *CORRUPTION_LABELS)
    if set(columns) <= set(order):
        columns = tuple(column for column in order if column in columns)
    rows = {method: {column: float(row[column]) for column in columns if column in row} for method, row in cells.items()}
    deviations = {m: {c: float(text) for c, text in row.items()} for m, row in _cells(f"{paper}-{table}-std").items()} if std else {}
    chosen = {method: {name: row[name] for name in settings} for method, row in cells.items()} if settings else {}
    return Published(paper, table, title, columns, rows, std=deviations, settings=chosen, **more)


_HIDDEN = (
    "Score is measured on the contest's hidden set, which is not published and whose making was never documented. "
    "A score on the proxy parts has the same formula but another level: compare orders and differences between rows, not levels."
)
_TEST = "The rows train on the CIFAR-10 test images, from which the hidden set of stage I appears to be made."
_FAIL = (
    "Org. DNN has 0.00 on the failing examples by construction: they are its own errors. The network to beat there is the same "
    "architecture trained again, which the paper does not report."
)
_SINGLE = "Numbers without a spread; the text does not say how many runs they average."

RTA: dict[str, Published] = {
    "table1": _load(
        "rta",
        "table1",
        "Augmentations for generating training sets",
        notes=(_HIDDEN, _TEST, "FGSM, Cutout and TA settings are not stated."),
    ),
    "table2": _load(
        "rta",
        "table2",
        "Label smoothing and weight decay",
        settings=("label_smoothing", "weight_decay"),
        notes=(_HIDDEN, "The first row is the RTA row of table 1."),
    ),
    "table3": _load(
        "rta", "table3", "Early stopping: epochs and milestones", settings=("epochs",), notes=(_HIDDEN, "The first row ends table 2.")
    ),
    "table4": _load(
        "rta",
        "table4",
        "RTA + iterative search in the contest",
        notes=(
            _HIDDEN,
            "The rank is out of 3691 teams; the row without iterative search of stage II has none.",
            "Iterative search of stage I starts from the 99.11 of table 3.",
            "Stage II trains on CIFAR-10 training images. The text says that strong adversarial examples were removed from RTA; "
            "the authors' slides and code remove all of them.",
        ),
    ),
    "counts": _load(
        "rta",
        "counts",
        "Misclassified candidate images after each round of iterative search",
        unit="images of 160,000",
        notes=(
            "Printed in the authors' notebook, not in the paper: 16 candidates of each of 10,000 images; the method is the size of the "
            "training set before the round. An older run in the same notebook shows 32,142 / 28,325, 27,034 / 24,733 and 23,238 / 21,381.",
        ),
    ),
    "selection": _load(
        "rta",
        "selection",
        "Which rule chose the image in the last round of iterative search",
        unit="images of 10,000",
        notes=("Printed in the authors' notebook. Where neither model errs, the candidate is drawn at random.",),
    ),
    "candidates": _load(
        "rta",
        "candidates",
        "Accuracy per candidate before the last round of iterative search",
        notes=("Printed in the authors' notebook: 15 corruptions by number, and a sixteenth candidate that is not named.",),
    ),
}

_FAIL_SINGLE = (_FAIL, _SINGLE)
CF_DARTS: dict[str, Published] = {
    "table1": _load(
        "cf",
        "table1",
        "Preliminary experiment: random failures guide the search",
        notes=(
            _FAIL,
            "The third column is headed C_fail; the text and table 6 show that it is the failing examples without the selected ones.",
            "The rows repeat the RF-DARTS rows of table 6; table 2 gives RF-DARTS 17.07 as the mean of five runs where this has 14.06.",
        ),
        conflicts=(
            Conflict("DARTS-10³ GN", "fail", 14.06, 17.07, "One run here and in table 6; table 2 gives the mean of five as 17.07 ± 2.24."),
        ),
    ),
    "table2": _load(
        "cf",
        "table2",
        "CIFAR-10: clean, Gaussian-noise failures and 14 other corruptions",
        std=True,
        runs=5,
        notes=(
            _FAIL,
            "The text gives 50.35, 29.26 and 21.99 to DeepRepair, AugMix and CutMix in that order; the table gives 50.35 to AugMix.",
            "The text says that CF-DARTSE is best on most corruptions; on 9 of the 14 others AU-DARTSE is higher.",
            "Failing examples are test examples: search sees them, and the E variants train on them.",
        ),
        conflicts=(
            Conflict("CF-DARTSE", "fail", 87.77, 87.01, "Table 3 prints 87.01; every other cell agrees. Use 87.77 ± 2.08."),
            Conflict("AugMix", "fail", 50.35, 29.26, "The text's order gives AugMix 29.26; an order slip. Use the table's 50.35."),
            Conflict("DeepRepair", "fail", 29.26, 50.35, "The text's order gives DeepRepair 50.35; an order slip. Use the table's 29.26."),
        ),
    ),
    "table3": _load(
        "cf",
        "table3",
        "CIFAR-10: four guiding corruptions",
        notes=(
            *_FAIL_SINGLE,
            "One block per guiding corruption (gn Gaussian noise, gb glass blur, fg fog, pl pixelate); the guide's own column holds its "
            "failing examples only and is `fail` here. The group headings of the table are shifted; columns follow table 2.",
            "The text says that both methods beat the original on all data sets; not so: gn CF impulse, gb CF defocus and zoom, "
            "fg CFE Gaussian noise, pl CF and CFE defocus and contrast are lower.",
            "fg CF-DARTSE has 99.32 on clean images: its 1,000 fog failures cover most clean test images that the original gets wrong.",
        ),
        conflicts=(
            Conflict("gn: CF-DARTSE", "fail", 87.01, 87.77, "Table 2 prints 87.77 ± 2.08 for the same run. Use 87.77."),
            Conflict("fg: CF-DARTS", "fail", 93.27, None, "Other blocks have 18-50 here; almost surely measured on the whole fog set."),
        ),
    ),
    "table4": _load(
        "cf",
        "table4",
        "Tiny-ImageNet: architectures searched on CIFAR-10",
        notes=(
            _SINGLE,
            'The table labels two blocks "sb" and "fe"; the text speaks of glass blur (gb) and fog (fg), the names used here.',
            "The text says that gn CF beats gn RF on clean images and all 15 corruptions; on glass blur it is lower (23.00, 24.17).",
        ),
    ),
    "table5": _load(
        "cf",
        "table5",
        "Other search methods",
        notes=(
            *_FAIL_SINGLE,
            "Each search method has failing examples of its own, so `fail` does not compare between them.",
            'The E variants of DARTSPT are printed "DARTSPTSE"; kept as printed. The variant of RobDARTS is not named.',
            "The text calls this table Figure 5, which does not exist.",
        ),
    ),
    "table6": _load(
        "cf",
        "table6",
        "Size of the failure set; another initial network",
        notes=(
            *_FAIL_SINGLE,
            "Rows from Org. DNN-v2 on start from another network, with failing examples of its own (budget 1,000).",
            "Org. DNN-v2 is the best of five further searches; by which measure is not said.",
        ),
        conflicts=(
            Conflict("RF-DARTS(1000)", "fail", 14.06, 17.07, "A single run; table 2 gives the mean of five as 17.07 ± 2.24."),
            Conflict("CF-DARTS(1000)", "fail", 20.05, 18.27, "A single run; table 2 gives the mean of five as 18.27 ± 2.86."),
        ),
    ),
    "table7": _load(
        "cf",
        "table7",
        "Time cost",
        std=True,
        unit="hours",
        notes=("The hardware is not stated. The row of ratios is in percent.",),
        conflicts=(
            Conflict("CF-DARTS: ratio (%)", "selection", 1.0, 1.07, "0.4732 of 44.1472 hours is 1.07 %."),
            Conflict("CF-DARTS: ratio (%)", "search", 27.6, 27.57, "12.17 of 44.1472 hours is 27.57 %."),
            Conflict("CF-DARTS: ratio (%)", "retraining", 71.4, 71.36, "31.504 of 44.1472 hours is 71.36 %."),
        ),
    ),
}

CF_DARTS["figure4"] = Published(
    "cf",
    "figure4",
    "Further iterations",
    CF_DARTS["table2"].columns,
    rows={},
    notes=("A figure: no number of it is printed. Its sentences are the claims.",),
)

PUBLISHED: dict[str, Published] = {table.id: table for group in (RTA, CF_DARTS) for table in group.values()}


def get(table: str) -> Published:
    """The published table of an id such as "cf-table2"; ValueError with a suggestion for another name."""
    if table not in PUBLISHED:
        raise unknown("published table", table, PUBLISHED)
    return PUBLISHED[table]


__all__ = [
    "CF_DARTS",
    "CLAIMS",
    "CORRUPTION_LABELS",
    "Claim",
    "Conflict",
    "GUIDES",
    "LABELS",
    "NAMES",
    "PUBLISHED",
    "Published",
    "RTA",
    "derived",
    "get",
    "label",
    "split_guide",
]
