"""The files of a card: card.json, cells.csv, summary.csv, images.csv, card.md, and card.html, one page that opens without a network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from rtalib.corruptions import corrupt
from rtalib.data.thumbnails import png
from rtalib.infra import store
from rtalib.results.papers import CORRUPTION_LABELS
from rtalib.yours import metrics
from rtalib.yours.card import Card
from rtalib.yours.gate import Cell

FILES = ("card.json", "cells.csv", "summary.csv", "images.csv", "card.md", "card.html")
SAME = ("network_identity", "images", "benchmark", "frost", "seed")  # of the provenance: cards that agree in these may replace each other
SHOWN = 96  # pixels of the longer side of a picture on the page
ATTACK_LABELS = {"pgd": "PGD-20", "odi_pgd": "ODI-PGD", "apgd_ce": "APGD-CE", "apgd_t": "APGD-T"}


def check_folder(out: str | Path, provenance: Mapping) -> None:
    """ValueError if the folder holds the card of another network or of other images."""
    path = Path(out) / "card.json"
    if not path.exists():
        return
    try:
        made = json.loads(path.read_bytes())["provenance"]
        other = next((name for name in SAME if made[name] != provenance[name]), None)
    except (ValueError, KeyError, TypeError):
        other = "format"
    if other:
        raise ValueError(f"out: {path} is a card of another {other.replace('_', ' ')}; choose another folder")


def write(card: Card, out: str | Path, compared: Sequence[Cell] = ()) -> Path:
    """Write FILES into the folder, and gate.csv if there is a comparison; returns the page's path.

    ValueError if the folder holds another card; that is not overwritten.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    out = Path(out)
    check_folder(out, card.facts["provenance"])
    pages = Environment(
        loader=PackageLoader("rtalib.yours"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    facts = {
        "card": card,
        "made": card.facts["provenance"],
        "labels": {what: ATTACK_LABELS.get(what) or what.replace("_", " ").replace("jpeg", "JPEG") for what in card.levels},
        "against": metrics.reference(card.data.name),
        "standing": standing(card),
        "pictures": [pictures(card, line) for line in card.slices],
    }
    contents = {
        "card.json": json.dumps(card.json(), indent=1) + "\n",
        "cells.csv": _csv(card.cells),
        "summary.csv": _csv(card.summary),
        "images.csv": _csv(card.per_image),
        "card.md": pages.get_template("card.md.jinja").render(**facts),
        "card.html": pages.get_template("card.html.jinja").render(**facts),
    }
    for name in FILES:
        store.write_atomic(out / name, contents[name])
    if compared:
        store.write_atomic(out / "gate.csv", _csv([vars(cell) for cell in compared]))
    return out / "card.html"


def _csv(lines: Sequence[Mapping]) -> str:
    return pd.DataFrame(lines).round(3).to_csv(index=False, lineterminator="\n")


def standing(card: Card) -> list[dict]:
    """This network among the published ones, by the mean over corruptions, the best first; empty for sets without any."""
    if len(card.types) < len(CORRUPTION_LABELS) or not metrics.published(card.data.name):
        return []
    lines = [{"network": one.network, "clean": one.clean, "mean": one.mean, "own": False} for one in metrics.published(card.data.name)]
    lines.append({"network": card.request.network.label, "clean": card.clean, "mean": card.mean, "own": True})
    return sorted(lines, key=lambda line: -line["mean"])


def pictures(card: Card, line: Mapping) -> list[dict]:
    """The first failures of a slice: each image before and after, as addresses that hold them, and the severity."""
    found = []
    for at, severity in line["images"]:
        clean, index = card.data.images[at : at + 1], torch.tensor([at])
        how = {"seed": card.request.seed, "benchmark": card.facts["provenance"]["benchmark"]}
        after = corrupt(clean, line["what"], severity, index=index, **how)
        found.append({"before": png(clean[0], SHOWN), "after": png(after[0], SHOWN), "severity": severity})
    return found
