"""Claims tested on measured rows: on matched seeds, or against every training of a network that was deployed once; corrected for the number
of claims of their table, with the power of the test, and with what other test images and other weights of a score would change."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from scipy import stats

from rtalib.results import papers
from rtalib.results.papers import CORRUPTION_LABELS, Claim
from rtalib.results.statistics import LEVEL, POWER, Difference, holm, paired, sample_bound, welch
from rtalib.results.values import by_seed, cells, check_one_experiment, conditions, lone, select, values

LEAST = 1.0  # points that a test should be able to show where no paper prints a difference; our choice
UNDECIDED_SEARCH = 1.5  # nats: above it, alphas are so even that rounding picks the cell, and a verdict on architectures would be on luck
WEIGHTS = ("families", "untransferred")  # of the parts of RTA's score, other than equal ones; see papers.derived
BY_CONSTRUCTION = ("fail", "common_fail")  # columns in which the deployed network itself is no sample: it is wrong on all its failures


def verdicts(rows: Sequence[Mapping], claims: Sequence[Claim]) -> pd.DataFrame:
    """Each claim tested, two-sided, on matched seeds of its two methods (paired t-test).

    Each seed is one sample, the mean over its models: models of a seed share a training set and are not independent. A seed that lacks a
    model of either method is left out. A method that is one deployed network (kind 'deployed') is no constant: it stands with all
    trainings of the same architecture ("... (retrained)"), and the test is Welch's.

    Columns: claim, text, better, worse, metric, margin; published (difference printed in the paper), published_p (Welch's t on the printed
    means and deviations); difference (measured), low, high (95 % interval over seeds), seeds, test, p, holm (p corrected for the claims
    that were tested here), power (the chance to find the published difference with these seeds, or LEAST points if none is printed), images
    (half width that other test images would add, at most, see statistics.sample_bound; NaN if the rows do not say how many there are),
    entropy (of the searches behind the better method, nats), families, families_p, untransferred, untransferred_p (RTA's score with other
    weights), verdict, rows (the keys of the tested rows, which name their files in rows/<table>/ and their entries in the store).

    verdict: "reproduced": difference > 0, "not reproduced": difference < 0, both with a corrected p < .05; "not after correction": p < .05
    before it alone; "not found": p >= .05 although the power is at least .8; "cannot be decided" at this scale otherwise, and always for a
    claim on architectures alone whose searches ended undecided; "missing": no seed was measured. With a margin m, the test is of
    difference + m.
    """
    columns = ["claim", "text", "better", "worse", "metric", "margin", "published", "published_p", "difference", "low", "high", "seeds"]
    columns += ["test", "p", "holm", "power", "images", "entropy", *(f"{name}{end}" for name in WEIGHTS for end in ("", "_p"))]
    found = [_tested(rows, claim) for claim in claims]
    corrected = holm([line["p"] for line in found])
    lines = [line | {"holm": p, "verdict": _verdict(line, p)} for line, p in zip(found, corrected, strict=True)]
    table = pd.DataFrame(lines, columns=[*columns, "verdict", "rows"])
    table.attrs = {"caption": f"Claims, by t-tests over seeds, corrected for their number (Holm). {conditions(rows)}"} if rows else {}
    return table


def _verdict(line: Mapping, corrected: float) -> str:
    if not line["seeds"]:
        return "missing"
    if line["architectures"] and line["entropy"] > UNDECIDED_SEARCH:
        return "cannot be decided"
    if corrected < LEVEL:
        return "reproduced" if line["difference"] + line["margin"] > 0 else "not reproduced"
    if line["p"] < LEVEL:
        return "not after correction"
    return "not found" if line["power"] >= POWER else "cannot be decided"


def _tested(rows: Sequence[Mapping], claim: Claim) -> dict:
    both = [select(rows, name) for name in (claim.better, claim.worse)]
    check_one_experiment([row for chosen in both for row in chosen], claim.id)
    found, test, seeds, used = compared(rows, claim)
    low, high = found.bounds
    printed = published_difference(claim)
    effect = printed["published"] + claim.margin
    others = {name: compared(rows, replace(claim, metric=name))[0] for name in WEIGHTS} if claim.metric == "score" else {}
    entropies = [row["entropy"] for row in both[0] if row.get("entropy") is not None]
    keys = [str(row.get("key") or "") for row in used]
    return {
        **{"claim": claim.id, **{name: getattr(claim, name) for name in ("text", "better", "worse", "metric", "margin")}},
        **printed,
        **{"difference": found.mean, "low": low, "high": high, "seeds": seeds, "test": test, "p": found.p(-claim.margin)},
        **{"power": found.power(effect if effect > 0 else LEAST), "images": _other_images(both, rows, claim)},
        **{"entropy": sum(entropies) / len(entropies) if entropies else math.nan},
        **{name: difference.mean for name, difference in others.items()},
        **{f"{name}_p": difference.p() for name, difference in others.items()},
        "architectures": bool(both[0] and both[1]) and not any(row.get("extended") for chosen in both for row in chosen),
        "rows": " ".join(dict.fromkeys(key for text in keys for key in text.split())),
    }


def compared(rows: Sequence[Mapping], claim: Claim) -> tuple[Difference, str, int, list[Mapping]]:
    """(the difference of a claim's two methods, the name of its test, the number of seeds, the rows used)."""
    better, worse = select(rows, claim.better), select(rows, claim.worse)
    if lone(worse) and claim.metric not in BY_CONSTRUCTION:
        again = select(rows, f"{claim.worse} (retrained)")
        trainings = [*values(rows, claim.worse, claim.metric)[:1], *values(rows, f"{claim.worse} (retrained)", claim.metric)]
        sample = values(rows, claim.better, claim.metric)
        return welch(sample, trainings), f"Welch, {len(trainings)} trainings", len(sample), [*better, *worse[:1], *again]
    sample = _differences(rows, claim)
    return paired(sample), "paired", len(sample), [row for row in (*better, *worse) if row.get("seed", 0) in sample.index]


def _differences(rows: Sequence[Mapping], claim: Claim) -> pd.Series:
    """How far the better method is above the worse one, the mean over models, by seed; only seeds that have all models of both."""
    if claim.metric == "columns":
        return _columns_won(rows, claim)
    better, worse = (cells(rows, method, claim.metric) for method in (claim.better, claim.worse))
    return by_seed({key: better[key] - worse[key] for key in better if key in worse}, (*better, *worse))


def _columns_won(rows: Sequence[Mapping], claim: Claim) -> pd.Series:
    """By seed, the corruptions besides Gaussian noise in which the better method is ahead less those in which it is behind, in percent."""
    names = [name for name in CORRUPTION_LABELS if name != "gaussian_noise"]
    ahead = [(values(rows, claim.better, name) - values(rows, claim.worse, name)).dropna() for name in names]
    return 100 * pd.concat([(gap > 0).astype(float) - (gap < 0) for gap in ahead if len(gap)] or [pd.Series(dtype=float)], axis=1).mean(
        axis=1
    )


def _other_images(both: Sequence[Sequence[Mapping]], rows: Sequence[Mapping], claim: Claim) -> float:
    """The bound on what other test images would change, from the least number of base images that the rows state."""
    means = [float(values(rows, method, claim.metric).mean()) for method in (claim.better, claim.worse)]
    counts = [_base_images(row, claim.metric) for chosen in both for row in chosen]
    percent = claim.metric != "columns" and all(0 <= mean <= 100 for mean in means)  # other columns are no accuracies
    if not percent or not counts or None in counts:
        return math.nan
    return sample_bound(*means, min(counts))


def _base_images(row: Mapping, metric: str) -> float | None:
    """How many different images a number of the row rests on: all views of an image count once, failures at least five to an image."""
    if metric in BY_CONSTRUCTION:
        return row[f"n_{metric}"] / 5 if row.get(f"n_{metric}") else None
    setup = row.get("setup") or (row.get("spec") or {}).get("setup") or {}
    return setup.get("evaluated") or row.get("n_eval")


def published_difference(claim: Claim) -> dict[str, float]:
    """The claim on the printed numbers: difference, and Welch's p if means, deviations and the number of runs are printed."""
    table = papers.PUBLISHED.get(f"{claim.paper}-{claim.table}")
    if claim.metric == "columns":
        printed = [{"method": name, "seed": 0, **table.rows.get(name, {})} for name in (claim.better, claim.worse)] if table else []
        return {"published": float(_columns_won(printed, claim).mean()), "published_p": math.nan}
    means = [None, None] if table is None else [table.value(method, claim.metric) for method in (claim.better, claim.worse)]
    if None in means:
        return {"published": math.nan, "published_p": math.nan}
    spread = [table.std.get(method, {}).get(claim.metric) for method in (claim.better, claim.worse)]
    p = math.nan
    if table.runs and None not in spread and claim.margin == 0:
        arguments = (means[0], spread[0], table.runs, means[1], spread[1], table.runs)
        p = float(stats.ttest_ind_from_stats(*arguments, equal_var=False).pvalue)
    return {"published": means[0] - means[1], "published_p": p}
