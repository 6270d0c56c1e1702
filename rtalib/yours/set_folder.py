"""A robust data set as class folders, its manifest, and the card beside it: which picture was made of what, and by what."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from rtalib.corruptions import CORRUPTIONS
from rtalib.data.images import LabeledImages
from rtalib.experiments.rta.iterative_search import Trace
from rtalib.infra import store

FOLDER, CARD, MANIFEST = "images", "card.json", "manifest.csv"


def check(out: Path, order: Mapping, digest: str) -> None:
    """ValueError unless the folder is free, or holds the set of the same order and of the same images."""
    if not (out / CARD).exists():
        if found := [path.name for path in (*out.glob("data.*"), out / FOLDER) if path.exists()]:
            raise ValueError(f"out: {out} holds {found[0]} without a {CARD} that says what it is; choose another folder")
        return
    try:
        card = json.loads((out / CARD).read_text())
        made = card["order"] | {"the images' digest": card["made_of"]["digest"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"out: {out / CARD} is no card of a data set ({error!r}); choose another folder") from error
    for name, value in (dict(order) | {"the images' digest": digest}).items():
        if made.get(name) != value:
            raise ValueError(f"out: {out} was made with other parameters: {name} {made.get(name)!r}, not {value!r}. Choose another folder")


def manifest(data: LabeledImages, trace: Trace, names: Sequence[str], severity: int) -> list[dict]:
    """One line an image, in order: file, original, operation, severity (of corruptions), class, split."""
    first, lines = len(data) - len(trace.image), []
    for at, k in enumerate(data.hard_labels.tolist()):
        operation = "original" if at < first else trace.operations[trace.operation[at - first]]
        lines.append(
            {
                "file": f"{FOLDER}/{data.classes[k]}/{at:06d}.png",
                "original": names[at if at < first else trace.image[at - first]],
                "operation": operation,
                "severity": severity if operation in CORRUPTIONS else "",
                "class": data.classes[k],
                "split": "train",
            }
        )
    return lines


def write(data: LabeledImages, lines: Sequence[Mapping], out: Path) -> None:
    """The images as lossless PNG in class folders, all or none; a folder that is there stays, since it holds the same set (see check)."""
    if (out / FOLDER).exists():
        return
    for name in data.classes:
        if Path(name).name != name or name in (".", ".."):
            raise ValueError(f"classes: {name!r} cannot be the name of a folder")
    with store.replacing(out / FOLDER) as (temporary,):
        for image, line in zip(data.images, lines, strict=True):
            path = temporary / Path(line["file"]).relative_to(FOLDER)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


def write_manifest(lines: Sequence[Mapping], out: Path) -> None:
    store.write_atomic(out / MANIFEST, pd.DataFrame(lines).to_csv(index=False, lineterminator="\n"))


def add_score(out: Path, rows: Sequence[Mapping]) -> None:
    """Enter the rows of `your_images.score` into the card, without what the card says already."""
    card = json.loads((out / CARD).read_text())
    left_out = ("order", "setup", "entries", "stamp")
    card["score"] = [{name: value for name, value in row.items() if name not in left_out} for row in rows]
    store.write_atomic(out / CARD, json.dumps(card, indent=1))
