"""Where the gain of CF-DARTSE comes from: its architecture, the failures as training data, or both at once; and whose failures help whom.

Pure functions of the rows of the CF-DARTS tables. With R the deployed architecture trained again, A the refined one, F and B the same two
trained on the failures as well, the gain parts into B - R = (A - R) + (F - R) + (B - A - F + R).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from rtalib.corruptions import CORRUPTIONS
from rtalib.experiments.repair.rows import OwnStart, Trial
from rtalib.experiments.repair.tables import AGAIN, CF, CFE, DEPLOYED, MATCHED, NULLS, searching_first
from rtalib.results.contrasts import Contrast, gain, minus
from rtalib.results.papers import FAMILIES, GUIDES
from rtalib.results.tables import CONTEXT, values
from rtalib.scale_settings import TogetherScale

DATA, RANDOM, RANDOM_DATA = NULLS[1:]
METHODS = (CF, CFE, AGAIN, DATA, RANDOM, RANDOM_DATA, *MATCHED)
SHORT = {name: short for short, name in GUIDES.items()}
SAME, OTHER = "same family", "other families"


def _parts(name: str, alone: str, both: str) -> dict[str, Contrast]:
    whole, architecture, data = gain(both, AGAIN.name), gain(alone, AGAIN.name), gain(DATA.name, AGAIN.name)
    return {
        f"{name}: whole gain": whole,
        f"{name}: architecture": architecture,
        f"{name}: failures as data": data,
        f"{name}: interaction": minus(minus(whole, architecture), data),
    }


SEARCHED, DRAWN = _parts("CF-DARTSE", CF.name, CFE.name), _parts("Random cell", RANDOM.name, RANDOM_DATA.name)
OF_ITS_SIZE = _parts("Matched random cell", *(method.name for method in MATCHED))
PARTS = SEARCHED | DRAWN | OF_ITS_SIZE
# What the failures add as data, cell by cell: the difference of two of these is an interaction.
ADDED = {
    "failures as data, deployed cell": gain(DATA.name, AGAIN.name),
    "failures as data, CF-DARTS cell": gain(CFE.name, CF.name),
    "failures as data, random cell": gain(RANDOM_DATA.name, RANDOM.name),
    "failures as data, matched random cell": gain(MATCHED[1].name, MATCHED[0].name),
}
CONTRASTS = PARTS | ADDED


def part_trials(seeds: Sequence[int], protocols: Sequence[str], common: dict) -> list[Trial]:
    """The rows of Table 2 that the parts are made of, under each protocol."""
    seen = [{**common, "seed": seed, "protocol": protocol} for protocol in protocols for seed in seeds]
    return searching_first([method.trial(each) for each in seen for method in METHODS])


def start_trials(seeds: Sequence[int], common: dict, own: TogetherScale) -> list[Trial]:
    """The parts once more, each seed with a deployed network of its own: n is then the number of deployed networks, not of retrainings.

    The random cells are of the size of the refined one.
    """
    setup = replace(common["setup"], arch_lr=own.arch_lr or common["setup"].arch_lr)
    methods = (DEPLOYED, *(method for method in METHODS if method not in (RANDOM, RANDOM_DATA)))
    found = searching_first([method.trial({**common, "seed": seed, "setup": setup}) for seed in seeds for method in methods])
    return [OwnStart(**vars(trial), start=trial.seed, arch_weight_decay=own.arch_weight_decay) for trial in found]


# ---------------------------------------------------------------------------------------------------------- neighbours


def neighbour_trials(seeds: Sequence[int], guides: Sequence[str], common: dict) -> list[Trial]:
    """The rows of Table 3 that say what a guide does for the other corruptions."""
    guided = [{**common, "seed": seed, "corruption": GUIDES[guide]} for seed in seeds for guide in guides]
    return searching_first([method.trial(each) for each in guided for method in (CF, CFE, AGAIN)])


def neighbours(guide: str) -> tuple[str, ...]:
    """The corruptions of the guide's family, without itself."""
    return tuple(name for members in FAMILIES.values() if guide in members for name in members if name != guide)


def gain_matrix(rows: Sequence[Mapping], method: str) -> pd.DataFrame:
    """Guide x corruption: points above the deployed architecture trained again, the mean over matched seeds."""
    guides = [name for name in GUIDES.values() if any(row["method"] == method and row["corruption"] == name for row in rows)]
    lines = {
        guide: [
            (values(rows, f"{SHORT[guide]}: {method}", name) - values(rows, f"{SHORT[guide]}: {AGAIN.name}", name)).mean()
            for name in CORRUPTIONS
        ]
        for guide in guides
    }
    return pd.DataFrame.from_dict(lines, orient="index", columns=CORRUPTIONS)


def with_families(rows: Sequence[Mapping]) -> list[dict]:
    """The rows, and for CF-DARTS and CF-DARTSE and each seed two more: `gain` in the guide's own family without the guide, and in the
    other families, each the mean over corruptions and then over guides, of the seeds for which every guide was measured."""
    found, guides = [], sorted({row["corruption"] for row in rows})
    for method in (CF.name, CFE.name):
        pairs = {(row["seed"], row["corruption"], row["method"]): row for row in rows if row["method"] in (method, AGAIN.name)}
        for seed in dict.fromkeys(row["seed"] for row in rows):
            if not all((seed, guide, name) in pairs for guide in guides for name in (method, AGAIN.name)):
                continue
            sums = {SAME: 0.0, OTHER: 0.0}
            for guide in guides:
                gains = {name: pairs[seed, guide, method][name] - pairs[seed, guide, AGAIN.name][name] for name in CORRUPTIONS}
                near = neighbours(guide)
                far = [name for name in CORRUPTIONS if name not in near and name != guide]
                for where, names in ((SAME, near), (OTHER, far)):
                    sums[where] += sum(gains[name] for name in names) / len(names) / len(guides)
            same = {name: pairs[seed, guides[0], method].get(name) for name in CONTEXT if name != "corruption"}
            same |= {"seed": seed, "corruption": None}
            same["key"] = " ".join(row["key"] for (other, *_), row in pairs.items() if other == seed and row.get("key"))
            found += [{"method": f"{method}: {where}", **same, "gain": total} for where, total in sums.items()]
    return [*rows, *found]
