"""python -m rtalib evaluate: the robustness card of a network."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rtalib.cli.options import NETWORK, downloads, executor, network_options, one_line_errors, option, outputs, separated

if TYPE_CHECKING:
    from rtalib.yours.card import Card


def names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


@click.command()
@network_options
@option("--dataset", "cifar10 | shapes10 | tiny-imagenet | a folder of class folders | a .npz | a .parquet; its test split.", required=True)
@option("--out", "Folder for card.html, card.md, card.json, cells.csv, summary.csv and images.csv.", required=True, metavar="DIR")
@option("--limit", "Only so many images, classes balanced.  [default: all]", type=int, metavar="N")
@option("--side", "Scale pictures to this side, if they differ in size.", type=int, metavar="PX")
@option("--corruptions", "Comma-separated.  [default: all 15]", metavar="A,B")
@option("--attacks", "Comma-separated: pgd | odi_pgd | apgd_ce | apgd_t | all | none.", default="none", metavar="A,B")
@option("--eps", "Radii of the attacks, in units of 1/255.", default="1,2,4,8", metavar="E,F", callback=separated(float, "numbers"))
@option("--attack-limit", "Only so many images are attacked, the first ones.", type=int, default=500, metavar="N")
@option("--seed", "Of the random draws.", type=int, default=0)
@option("--against", "NETWORK to compare with cell by cell, opened with the same options; writes gate.csv, too.", metavar="OLD")
@option("--against-weights", "Its FILE.safetensors.", metavar="FILE")
@option("--gate", "Exit with 1 if a cell is worse than OLD's by more than this.", type=float, metavar="POINTS")
@option("--early", "End as soon as the gate is sure of that; the card is of the images seen by then.", is_flag=True)
@executor
@option("--workers", "Processes.  [default: one per GPU, else one per core]", type=int, metavar="N")
@outputs
@downloads
def evaluate(dataset: str, out: str, executor: str, workers: int | None, **given) -> int:
    from rtalib.yours import card, cells, gate, page

    started, how = time.monotonic(), {"executor": executor, "workers": workers}
    against, weights, points, early = (given.pop(name) for name in ("against", "against_weights", "gate", "early"))
    found = []
    with one_line_errors():
        options = {name: given.pop(name) for name in ("limit", "side", "attack_limit", "seed", "eps")}
        options["corruptions"] = names(given.pop("corruptions"))
        attacks = given.pop("attacks")
        options["attacks"] = {"none": (), "all": tuple(cells.ATTACKS)}.get(attacks, names(attacks))
        request = card.CardRequest(cells.NetworkSpec(**given), dataset, **options)
        if against is None:
            if points is not None or early:
                raise ValueError("gate: needs --against OLD")
            made = card.evaluate(request, **how)
        else:
            old = replace(request, network=replace(request.network, network=against, weights=weights))
            made, found = gate.gate(old, request, points or 0.0, early=early, **how)
        path = page.write(made, out, found)
    print(summary(made))
    if found:
        print(gate.text(found, points or 0.0))
    print(f"{path} ({time.monotonic() - started:.0f} s)")
    return int(points is not None and any(cell.worse for cell in found))


def summary(made: Card) -> str:
    head = f"{made.request.network.label} on {made.data.name}, {len(made.data):,} images"
    lines = [f"{head}: clean {made.clean:.1f} %, mean over corruptions {made.mean:.1f} %"]
    lines += [f"{line['name']} {line['value']:.1f}  ({line['note']})" for line in made.summary if "mCE" in line["name"]]
    lines += [
        f"worst: {line['class']} under {line['what']} {line['accuracy']:.1f} %, taken for {line['taken_for']}" for line in made.slices[:3]
    ]
    return "\n".join(lines)


evaluate.help = f"""Write the robustness card of a network.

Accuracy on clean images, under 15 corruptions at five severities and under attacks; calibration; classes and pictures that fail. A killed
run resumes, and a larger --limit computes the new images alone.

{NETWORK}"""
