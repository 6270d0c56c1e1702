"""What each published table is said to show, in our words, as comparisons of two methods on one column (published/claims.csv).

A claim whose text starts with "Control:" is ours: it compares with a null baseline that the papers lack. The claims of the tables named
"ours-..." go beyond both papers (notebooks 05, 19 and 20); some of their methods are made of others, see `report.collect.MADE`.
"""

from dataclasses import dataclass

from rtalib.results.published import read_csv


@dataclass(frozen=True)
class Claim:
    """`better` is above `worse` on `metric` (percent), or at most `margin` points below it if margin > 0.

    The margin of "does not harm" is our choice, half a point of accuracy: the papers give none.
    """

    id: str
    paper: str  # "rta" | "cf" | "ours"
    table: str  # "table1" ...
    text: str
    better: str
    worse: str
    metric: str
    margin: float = 0.0


def _load() -> dict[str, tuple[Claim, ...]]:
    """{"cf-table2": its claims} in the order of the file."""
    claims: dict[str, tuple[Claim, ...]] = {}
    for line in read_csv("claims"):
        table = line["table"]
        paper, _, line["table"] = table.partition("-")
        claims[table] = (*claims.get(table, ()), Claim(**line | {"paper": paper, "margin": float(line["margin"])}))
    return claims


CLAIMS = _load() | {"cf-table7": ()}  # the hours of one method's phases: nothing to compare
