"""Bring verdicts, tables and reports of the committed record up to its rows: python docs/record.py.

Rows are what was measured; everything that this script writes is computed from them.
"""

from pathlib import Path

import pandas as pd

from rtalib import report
from rtalib.report import collect
from rtalib.results import tables
from rtalib.results.figures import claims, style

RECORD = Path(__file__).resolve().parents[1] / "outputs" / "record"
TOGETHER = ("together", "gain-parts", "own-starts", "severity-budget", "coverage", "neighbours")  # the questions of notebook 20


def main() -> None:
    for run in sorted(path.parent for path in RECORD.glob("*/tables")):
        found, folder = collect.collect(run), run / "tables"
        for section in found.sections:
            for block in section.blocks[:1]:
                if section.published and block.detailed is not None:
                    tables.save(block.detailed, folder, section.id)
                if section.published and block.verdicts is not None:
                    tables.save(block.verdicts, folder, f"{section.id}-verdicts")
        ours = found.claims[found.claims["table"].isin(TOGETHER)]
        question = ours["table"] + ours["group"].str.extract(r"· (paper|disjoint)$")[0].radd(", ").fillna("")
        if (folder / "together-verdicts.csv").exists():
            tables.save(ours.drop(columns=["table", "group"]).assign(question=question), folder, "together-verdicts")
        chance = found.claims[(found.claims["table"] == "search-or-chance") & (found.claims["seeds"] > 0)]
        if len(chance):
            tables.save(chance.drop(columns=["table", "group"]), folder, "search-or-chance-verdict")
        report.write(run).unlink()  # the page can be made again, and is heavy
        print(f"{run.name}: {found.tally}")
    picture()


def picture() -> None:
    """docs/images/published-measured.png: RTA's claims at scale cpu, those of CF-DARTS' Table 2 at night."""
    every = {run: pd.read_csv(RECORD / run / "claims.csv") for run in ("night-cifar10", "cpu-cifar10")}
    repair, rta = every["night-cifar10"], every["cpu-cifar10"]
    shown = pd.concat([rta[rta["table"].str.startswith("rta")], repair[repair["table"] == "cf-table2"]])
    drawing = claims.published_against_measured(shown, "RTA: scale cpu · CF-DARTS, Table 2: scale night · cifar10")
    with style.use_style():
        drawing.savefig(RECORD.parents[1] / "docs" / "images" / "published-measured.png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
