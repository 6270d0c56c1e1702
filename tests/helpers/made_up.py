"""Made-up rows for tests of tables, figures and the report: no result of anything."""

import random

from rtalib import papers
from rtalib.results.papers import CORRUPTION_LABELS

STAMP = {
    "git": "0123456789abcdef",
    "dirty": True,
    "python": "3.11.9",
    "packages": {"torch": "2.15.0"},
    "cpu": "A CPU",
    "gpu": None,
    "time": "2026-01-02",
}


def rta_rows(seeds: int = 3, scale: str = "demo") -> list[dict]:
    noise = random.Random(0)
    rows = []
    for method, row in papers.RTA["table1"].rows.items():
        for seed in range(seeds):
            for model, shift in (("resnet50", 0.0), ("densenet121", -4.0)):
                parts = {name: row["score"] - 30 + shift + noise.gauss(0, 1) for name in ("clean", "corruptions", "transfer_pgd")}
                more = {"n_train": 500, "n_eval": 200, "seconds": 2.5, "key": str(len(rows)), "stamp": STAMP}
                score = sum(parts.values()) / len(parts)
                rows.append(
                    {"method": method, "seed": seed, "model": model, "scale": scale, "dataset": "shapes10", "score": score, **parts, **more}
                )
    return rows


def cf_rows(seeds: int = 3, corruption: str = "gaussian_noise", scale: str = "demo") -> list[dict]:
    noise = random.Random(1)
    table = papers.CF_DARTS["table2"].rows
    rows = []
    for method in [*table, "Org. DNN (retrained)"]:
        source = table.get(method, table["Org. DNN"])
        for seed in range(seeds):
            row = {"method": method, "seed": seed, "scale": scale, "dataset": "shapes10", "protocol": "disjoint", "corruption": corruption}
            row |= {name: source.get(name, 40.0) - 5 + noise.gauss(0, 1) for name in ("clean", *CORRUPTION_LABELS)}
            row["fail"] = 0.0 if method == "Org. DNN" else source["fail"] + 12 + noise.gauss(0, 1)
            row["history"] = [{"epoch": epoch, "clean": 10.0 * epoch + seed, "shot_noise": 5.0 * epoch} for epoch in (1, 2, 3)]
            rows.append({**row, "n_eval": 200, "seconds": 4.0, "key": str(len(rows)), "stamp": STAMP})
    return rows
