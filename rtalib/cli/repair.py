"""python -m rtalib repair: the cheapest repair of a network that reaches a goal."""

import click

from rtalib.cli.options import NETWORK, network_options, one_line_errors, option, outputs


@click.command()
@network_options
@option("--corruption", "It fails under this corruption: one of the 15, such as gaussian_noise.", metavar="TYPE")
@option("--severity", "Of the corruption, 1 to 5.", type=click.IntRange(1, 5), default=3)
@option("--failures", "It fails on these: a folder of (class folders of) pictures | a .npz | a data set.", metavar="FOLDER")
@option(
    "--dataset",
    "Clean images of yours: cifar10 | shapes10 | tiny-imagenet | a folder of class folders | a .npz | a .parquet",
    required=True,
)
@option("--goal", "Gain in points of accuracy on failing images that no repair has seen.", type=float, required=True, metavar="POINTS")
@option("--out", "Folder for ladder.csv, ladder.json, ladder.png, network.safetensors and README.md.", required=True, metavar="DIR")
@option("--select", "core | random | farthest | facility-location | margin | el2n | k-means | herding", default="core")
@option("--budget", "Failures that are selected, each with its label.", type=int, default=100, metavar="B")
@option("--steps", "Batches of 64 in the training of all weights.", type=int, default=40, metavar="N")
@option("--rungs", "Comma-separated.  [default: statistics,entropy,head,finetune,data,architecture]", metavar="A,B")
@option("--all", "Climb on when the goal is met.", is_flag=True)
@option("--limit", "Only so many test images, classes balanced, and twice as many training images.", type=int, default=2000, metavar="N")
@option(
    "--others",
    "Clean images whose 15 corrupted copies give the change of the mean over corruptions; 0 leaves it out.",
    type=click.IntRange(min=0),
    default=200,
    metavar="N",
)
@option("--side", "Scale pictures to this side, if they differ in size.", type=int, metavar="PX")
@option("--scale", "Of the search for an architecture: smoke | demo | cpu | night | small | paper", default="demo")
@option("--seed", "Of all random draws.", type=int, default=0)
@outputs
def repair(network: str, corruption: str | None, severity: int, failures: str | None, dataset: str, goal: float, out: str, **given) -> int:
    from rtalib.yours.networks import open_network
    from rtalib.yours.repair import climb
    from rtalib.yours.repair import failures as reading
    from rtalib.yours.repair.rungs import RUNGS, Settings

    if (corruption is None) == (failures is None):
        raise click.UsageError("give one of --corruption TYPE and --failures FOLDER")
    how = {name: given.pop(name) for name in ("weights", "mean", "std", "size", "output")}
    names = given["rungs"].split(",") if given["rungs"] else tuple(RUNGS)
    with one_line_errors():
        settings = Settings(**{name: given[name] for name in ("select", "budget", "steps", "scale", "seed")})
        train, test = climb.own_images(dataset, given["limit"], given["side"])
        if corruption:
            case = climb.case_of_corruption(train, test, corruption, severity=severity)
        else:
            found, labeled = reading.read_failures(failures, test)
            case = climb.case_of_failures(train, test, found, labeled=labeled)
        opened = open_network(network, classes=test.num_classes, **how)
        made = climb.ladder(
            opened,
            case,
            goal=goal,
            settings=settings,
            rungs=names,
            all_rungs=given["all"],
            others=given["others"],
            on_rung=lambda row: print(line(row), flush=True),
        )
    arguments = [repr(network), *(f"{name}={value!r}" for name, value in how.items() if value is not None)]
    climb.save(made, out, f"open_network({', '.join(arguments)}, classes={test.num_classes})")
    reached = (
        f"{made.rung} reaches the goal" if made.facts["reached"] else f"no rung is known to reach the goal; {made.rung or 'none'} is kept"
    )
    print(f"{reached}; {out}/ladder.csv, ladder.png" + (", network.safetensors" if made.rung else ""))
    return 0


def line(row: dict) -> str:
    """A rung in one line."""
    if not row["applies"]:
        return f"{row['rung']:<13} does not apply: {row['note']}"
    gain = "gain not measured" if row["gain"] is None else f"gain {row['gain']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"
    others = "" if row["corrupted"] is None else f", mean over corruptions {row['corrupted']:+.1f}"
    return f"{row['rung']:<13} {gain}, clean {row['clean']:+.1f}{others}; {row['labels']} labels, {row['seconds']:.1f} s"


repair.help = f"""Repair a network by the cheapest means that reaches a goal.

Rungs, cheapest first: statistics and entropy (no labels), head, finetune (B labeled failures), data (none), architecture (DARTS cells).
Each starts from the given network and says what it gains on failing images that it has not seen, what it costs on clean images, its
labels and its seconds. A killed run resumes.

{NETWORK}"""
