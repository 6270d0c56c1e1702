"""python -m rtalib evaluate: the robustness card of a network."""

import time

import click

from rtalib.cli.options import NETWORK, downloads, executor, network_options, one_line_errors, option, outputs


def names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


@click.command()
@network_options
@option("--dataset", "cifar10 | shapes10 | tiny-imagenet | a folder of class folders | a .npz | a .parquet; its test split.", required=True)
@option("--out", "Folder for card.html, card.md, card.json, cells.csv and summary.csv.", required=True, metavar="DIR")
@option("--limit", "Only so many images, classes balanced.  [default: all]", type=int, metavar="N")
@option("--side", "Scale pictures to this side, if they differ in size.", type=int, metavar="PX")
@option("--corruptions", "Comma-separated.  [default: all 15]", metavar="A,B")
@option("--attacks", "Comma-separated: pgd | odi_pgd | apgd_ce | apgd_t | all | none.", default="none", metavar="A,B")
@option("--eps", "Radii of the attacks, in units of 1/255.", default="1,2,4,8", metavar="E,F")
@option("--attack-limit", "Only so many images are attacked, the first ones.", type=int, default=500, metavar="N")
@option("--seed", "Of the random draws.", type=int, default=0)
@executor
@option("--workers", "Processes.  [default: one per GPU, else one per core]", type=int, metavar="N")
@outputs
@downloads
def evaluate(dataset: str, out: str, corruptions: str | None, attacks: str, eps: str, executor: str, workers: int | None, **given) -> int:
    from rtalib.yours import card, cells, page

    started, at = time.monotonic(), {name: given.pop(name) for name in ("limit", "side", "attack_limit", "seed")}
    chosen = {"none": (), "all": tuple(cells.ATTACKS)}.get(attacks) if attacks in ("none", "all") else names(attacks)
    with one_line_errors():
        try:
            radii = tuple(float(number) for number in eps.split(","))
        except ValueError:
            raise ValueError(f"eps: expected numbers, comma-separated, in units of 1/255, got {eps!r}") from None
        network = cells.NetworkSpec(**given)
        request = card.CardRequest(network, dataset, corruptions=names(corruptions), attacks=chosen, eps=radii, **at)
        made = card.evaluate(request, executor=executor, workers=workers)
        path = page.write(made, out)
    print(
        f"{network.label} on {made.data.name}, {len(made.data):,} images: clean {made.clean:.1f} %, mean over corruptions {made.mean:.1f} %"
    )
    for line in made.summary[1:3]:
        print(f"{line['name']} {line['value']:.1f}  ({line['note']})")
    for line in made.slices[:3]:
        print(f"worst: {line['class']} under {line['what']} {line['accuracy']:.1f} %, taken for {line['taken_for']}")
    print(f"{path} ({time.monotonic() - started:.0f} s)")
    return 0


evaluate.help = f"""Write the robustness card of a network.

Accuracy on clean images, under 15 corruptions at five severities and under attacks; calibration; classes and pictures that fail. A killed
run resumes, and a larger --limit computes the new images alone.

{NETWORK}"""
