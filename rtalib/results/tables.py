"""Measured beside published: pure functions from result rows (flat dicts) to pandas tables.

A row has "method", "seed" and percent values; RTA rows also have "model", and the result of a (method, seed) is the mean over its models.
Every table made here states the scale and the data set of its rows in `attrs` and in its caption.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from scipy import stats

from rtalib.results import papers
from rtalib.results.papers import CORRUPTION_LABELS, GUIDES, SHORT, Claim, Published, derived, split_guide
from rtalib.results.style import save as save
from rtalib.results.style import style as style
from rtalib.results.style import wide as wide

CONTEXT = ("scale", "dataset", "protocol", "corruption")  # rows of a method that differ in these are different experiments
LEVEL = 0.05


def frame(rows: Iterable[Mapping]) -> pd.DataFrame:
    """One line per row without nested values (stamp, history), methods in the order of their first appearance."""
    return pd.DataFrame([{name: value for name, value in row.items() if not isinstance(value, (dict, list))} for row in rows])


def _same(name: str, other: str) -> bool:
    """Method names are equal up to spaces."""
    return name.replace(" ", "") == other.replace(" ", "")


def select(rows: Sequence[Mapping], method: str) -> list[Mapping]:
    """Rows of a published or claimed method; "gb: CF-DARTS" asks for the guiding corruption too (a row without one fits every block)."""
    guide, name = split_guide(method)
    chosen = [row for row in rows if _same(str(row["method"]), name) or _same(str(row["method"]), method)]
    return chosen if guide is None else [row for row in chosen if row.get("corruption") in (None, guide)]


def _check_one_experiment(rows: Sequence[Mapping], what: str, names: Sequence[str] = CONTEXT) -> None:
    for name in names:
        found = sorted({str(row[name]) for row in rows if row.get(name) is not None})
        if len(found) > 1:
            raise ValueError(f"rows of {what!r} mix values of {name}: {', '.join(found)}; expected one. Select the rows of one first.")


def _cells(rows: Sequence[Mapping], method: str, column: str) -> dict[tuple, float]:
    """{(seed, model): value} of a method; model is "" if the rows have none."""
    chosen = select(rows, method)
    _check_one_experiment(chosen, method)
    cells: dict[tuple, float] = {}
    for row in chosen:
        key, value = (row.get("seed", 0), str(row.get("model", ""))), derived(row, column)
        if value is None or value != value:
            continue
        if cells.setdefault(key, value) != value:
            raise ValueError(
                f"rows of {method!r} give {column!r} twice for seed {key[0]} {key[1]}: {cells[key]} and {value}; expected one row"
            )
    return cells


def values(rows: Sequence[Mapping], method: str, column: str) -> pd.Series:
    """Measured values of a method by seed, each the mean over models; empty if nothing was measured.

    A seed that lacks some models does not count, because its mean would be over other models.
    """
    cells = _cells(rows, method, column)
    return _by_seed(cells, cells)


def _by_seed(cells: Mapping[tuple, float], measured: Iterable[tuple]) -> pd.Series:
    """The mean over models, by seed, of the seeds that have all models of `measured`, which are pairs of a seed and a model."""
    models = dict.fromkeys(model for _, model in measured)
    seeds = [seed for seed in dict.fromkeys(seed for seed, _ in cells) if all((seed, model) in cells for model in models)]
    means = [sum(cells[seed, model] for model in models) / len(models) for seed in seeds]
    return pd.Series(means, index=pd.Index(seeds, name="seed"), dtype=float)


def interval(numbers: Iterable[float]) -> float:
    """Half width of the 95 % Student-t confidence interval of the mean; NaN for fewer than two numbers."""
    sample = pd.Series(list(numbers), dtype=float)
    if len(sample) < 2:
        return float("nan")
    return float(stats.t.ppf(1 - LEVEL / 2, len(sample) - 1) * sample.std(ddof=1) / len(sample) ** 0.5)


def context(rows: Sequence[Mapping]) -> dict:
    """Scale, data set, protocol, seeds and image counts that the rows state, joined by commas if there are several."""
    facts = {}
    for name in ("scale", "dataset", "protocol", "corruption", "seed", "n_train", "n_eval"):
        found = list(dict.fromkeys(row[name] for row in rows if row.get(name) is not None))
        if found:
            facts[name] = ", ".join(map(str, sorted(found) if name == "seed" else found))
    return facts


def caption(rows: Sequence[Mapping], published: Published) -> str:
    """One line that says what was published, what was measured and at which size."""
    title = f"{SHORT[published.paper]} {published.table.replace('table', 'table ').replace('figure', 'figure ')}: {published.title}."
    if not rows:
        return f"{title} Not measured in this run."
    advice = "" if context(rows).get("scale") == "paper" else " Not the paper's setting: compare differences between rows, not levels."
    return f"{title} {conditions(rows)}{advice}"


def conditions(rows: Sequence[Mapping]) -> str:
    """ "Measured: scale demo, data shapes10, ..., seeds 0, 1, on 2 cores of ...", as far as the rows state it."""
    facts, hosts = context(rows), hardware(rows)
    size = f"scale {facts.get('scale', 'not stated')}, data {facts.get('dataset', 'not stated')}"
    parts = [f"{name.replace('_', ' ')} {facts[name]}" for name in ("protocol", "n_train", "n_eval") if name in facts]
    return f"Measured: {', '.join([size, *parts])}, seeds {facts.get('seed', 'not stated')}{', on ' if hosts else ''}{hosts}."


def hardware(rows: Sequence[Mapping]) -> str:
    """The hardware in the rows' stamps, the GPU or else cores and CPU, joined by " and "; empty without stamps."""
    stamps = [row["stamp"] for row in rows if row.get("stamp")]
    names = [stamp.get("gpu") or f"{stamp.get('cores', 'unknown')} cores of {stamp.get('cpu', 'an unknown CPU')}" for stamp in stamps]
    return " and ".join(dict.fromkeys(map(str, names)))


def compare(rows: Sequence[Mapping], published: Published, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Published and measured for every method and column, in the order of the paper; methods that it lacks (null baselines) follow.

    columns: by default those of the published table, and the columns of corruptions or failing examples that only the rows have.
    Returns a table with index (method, column) and: published, published_std, measured, std, interval (half width, 95 %), seeds, difference
    (measured - published). attrs: caption, unit, context. ValueError if rows of one method mix scales, data sets or protocols.
    """
    if columns is None:
        more = (*CORRUPTION_LABELS, "common_fail")
        extra = [name for name in more if name not in published.columns and any(row.get(name) is not None for row in rows)]
        columns = [*published.columns, *extra] if set(published.columns) & set(CORRUPTION_LABELS) else published.columns
    order = [name for name in ("clean", "fail", *CORRUPTION_LABELS) if name in columns]
    columns = order + [name for name in columns if name not in order]
    guided = any(split_guide(name)[0] for name in published.rows)
    _check_one_experiment(rows, published.id, CONTEXT[:-1] if guided else CONTEXT)
    known = {id(row) for method in published.rows for row in select(rows, method)}
    added = dict.fromkeys(_name(row, guided) for row in rows if id(row) not in known)
    records = []
    for method, column in itertools.product([*published.rows, *added], columns):
        found = values(rows, method, column)
        printed = published.value(method, column), published.std.get(method, {}).get(column)
        records.append((method, column, *printed, found.mean(), found.std(), interval(found), len(found)))
    names = ("method", "column", "published", "published_std", "measured", "std", "interval", "seeds")
    table = pd.DataFrame(records, columns=names).astype({"published": float, "published_std": float}).set_index(["method", "column"])
    table["difference"] = table["measured"] - table["published"]
    table.attrs = {"caption": caption(rows, published), "unit": published.unit, "context": context(rows), "id": published.id}
    table.attrs["conditions"] = conditions(rows) if rows else "Not measured."
    return table


def _name(row: Mapping, guided: bool) -> str:
    """Name of a method that the paper lacks, in tables with blocks with the prefix of its guiding corruption."""
    prefix = {name: short for short, name in GUIDES.items()}.get(str(row.get("corruption")))
    return f"{prefix}: {row['method']}" if guided and prefix else str(row["method"])


# -------------------------------------------------------------------------------------------------------------- claims


def t_test(sample: pd.Series, null: float = 0.0) -> tuple[float, float, float, float]:
    """Mean, low and high end of its 95 % Student interval, and p of a two-sided t-test against `null`.

    NaN for fewer than two numbers; p also if they are equal, because they say nothing about the spread.
    """
    mean, half = float(sample.mean()), interval(sample)
    spread = len(sample) > 1 and sample.std(ddof=1) > 1e-9
    return mean, mean - half, mean + half, float(stats.ttest_1samp(sample, null).pvalue) if spread else float("nan")


def verdicts(rows: Sequence[Mapping], claims: Sequence[Claim]) -> pd.DataFrame:
    """Each claim tested on matched seeds of its two methods by a paired t-test (two-sided).

    Each seed is one sample, the mean over its models: models of a seed share a training set and are not independent. A seed that lacks a
    model of either method is left out.

    Columns: claim, text, better, worse, metric, published (difference printed in the paper), published_p (Welch's t on the printed means
    and deviations), difference (measured), low, high (95 % interval), seeds, p, verdict:
    "reproduced": difference > 0, "not reproduced": difference < 0, both with p < .05 over at least two seeds; "undecided" at this number
    of seeds otherwise; "missing": no seed was measured. With a margin m, the test is of difference + m. rows: the keys of the tested rows,
    which name their files in rows/<table>/ and their entries in the store.
    """
    columns = ["claim", "text", "better", "worse", "metric", "margin", "published", "published_p"]
    columns += ["difference", "low", "high", "seeds", "p", "verdict", "rows"]
    table = pd.DataFrame([_verdict(rows, claim) for claim in claims], columns=columns)
    table.attrs = {"caption": f"Claims, by paired t-tests on matched seeds. {conditions(rows)}"} if rows else {}
    return table


def _verdict(rows: Sequence[Mapping], claim: Claim) -> dict:
    both = [row for name in (claim.better, claim.worse) for row in select(rows, name)]
    _check_one_experiment(both, claim.id)
    differences = _differences(rows, claim)
    mean, low, high, p = t_test(differences, -claim.margin)
    verdict = "undecided" if len(differences) else "missing"
    if p < LEVEL:
        verdict = "reproduced" if mean + claim.margin > 0 else "not reproduced"
    keys = [str(row.get("key") or "") for row in both if row.get("seed", 0) in differences.index]
    return {
        **{"claim": claim.id, **{name: getattr(claim, name) for name in ("text", "better", "worse", "metric", "margin")}},
        **published_difference(claim),
        **{"difference": mean, "low": low, "high": high, "seeds": len(differences), "p": p, "verdict": verdict},
        "rows": " ".join(dict.fromkeys(key for text in keys for key in text.split())),
    }


def _differences(rows: Sequence[Mapping], claim: Claim) -> pd.Series:
    """How far the better method is above the worse one, the mean over models, by seed; only seeds that have all models of both."""
    better, worse = (_cells(rows, method, claim.metric) for method in (claim.better, claim.worse))
    return _by_seed({key: better[key] - worse[key] for key in better if key in worse}, (*better, *worse))


def published_difference(claim: Claim) -> dict[str, float]:
    """The claim on the printed numbers: difference, and Welch's p if means, deviations and the number of runs are printed."""
    table = papers.PUBLISHED.get(f"{claim.paper}-{claim.table}")
    means = [None, None] if table is None else [table.value(method, claim.metric) for method in (claim.better, claim.worse)]
    if None in means:
        return {"published": float("nan"), "published_p": float("nan")}
    spread = [table.std.get(method, {}).get(claim.metric) for method in (claim.better, claim.worse)]
    p = float("nan")
    if table.runs and None not in spread and claim.margin == 0:
        arguments = (means[0], spread[0], table.runs, means[1], spread[1], table.runs)
        p = float(stats.ttest_ind_from_stats(*arguments, equal_var=False).pvalue)
    return {"published": means[0] - means[1], "published_p": p}


def wins(rows: Sequence[Mapping], *, reference: str = "Org. DNN") -> pd.DataFrame:
    """Per method: the number of corruption sets on which its mean over seeds exceeds that of `reference`, of those that both have, and the
    mean gap."""
    names = [name for name in CORRUPTION_LABELS if any(row.get(name) is not None for row in rows)]
    base = {name: values(rows, reference, name).mean() for name in names}
    found = []
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        gaps = pd.Series({name: values(rows, method, name).mean() - base[name] for name in names}, dtype=float).dropna()
        if not _same(method, reference) and len(gaps):
            found.append({"method": method, "wins": int((gaps > 0).sum()), "of": len(gaps), "mean gap": float(gaps.mean())})
    table = pd.DataFrame(found, columns=["method", "wins", "of", "mean gap"]).set_index("method")
    table.attrs = {"caption": f"Corruption sets on which a method is above {reference}.", "context": context(rows)}
    return table
