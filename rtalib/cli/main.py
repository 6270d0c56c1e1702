"""The commands of `python -m rtalib`. A command imports what it needs, so that --help answers at once."""

import json
from collections.abc import Sequence
from functools import partial

import click

from rtalib.cli import process
from rtalib.cli.evaluate import evaluate
from rtalib.cli.options import (
    EXECUTORS,
    SCALES,
    books,
    downloads,
    executor,
    of_a_run,
    one_line_errors,
    opening,
    option,
    outputs,
    separated,
    table_names,
    table_seeds,
)
from rtalib.cli.repair import repair
from rtalib.errors import check_number

TABLE = "TABLE: rta-table1, cf-table2, cf-figure4, table2 (of both papers), ..., all"


def main(arguments: Sequence[str] | None = None) -> int:
    return run(commands, arguments, "python -m rtalib")


def run(command: click.Command, arguments: Sequence[str] | None, name: str) -> int:
    """Run a command of that name; returns the exit status of process.run."""
    return process.run(lambda: command.main(arguments, prog_name=name, standalone_mode=False))


# ------------------------------------------------------------------------------------------------------------- commands


@click.group(no_args_is_help=False, context_settings={"max_content_width": 120})
def commands() -> None:
    """Reproduce the experiments of both papers, and make robust data of your own."""


@commands.command()
@click.argument("numbers", nargs=-1, metavar="[NN]...")
@table_seeds
@option("--executor", f"How the cells of tables are computed: {EXECUTORS}.  [default: the notebook's own]")
@click.option("-p", "--parameter", help="Set a parameter of the notebooks; may be repeated.", multiple=True, metavar="NAME=VALUE")
@option("--timeout", "Stop a notebook that takes longer.  [default: never]", type=float, metavar="MINUTES")
@click.option("--again", help="Run also the notebooks that are up to date.", is_flag=True)
@of_a_run
@books
@downloads
def reproduce(numbers: tuple, timeout: float | None, again: bool, scale: str, dataset: str, notebooks: str | None, **given) -> int:
    """Run the numbered notebooks in order and write the report. NN: only these, such as 03 or 03_rta.

    Skipped are those at the beginning whose parameters, code and data have not changed since they last ran.
    """
    from rtalib.cli import reproduce

    with one_line_errors():
        if timeout is not None:
            check_number("--timeout", timeout, 0, open_low=True, unit=" minutes")
        run = reproduce.run_name(scale, dataset)
        chosen = reproduce.select(reproduce.numbered(notebooks), numbers)
        jobs = reproduce.jobs(chosen, scale=scale, dataset=dataset, **given)
    return reproduce.run(jobs, run, timeout, again=again)


@commands.command()
@of_a_run
@books
def status(scale: str, dataset: str, notebooks: str | None) -> None:
    """Show what is done, running, failed and missing."""
    from rtalib.cli import reproduce, status

    with one_line_errors():
        print(status.text(reproduce.run_name(scale, dataset), [path.stem for path in reproduce.numbered(notebooks)]))


@commands.command()
@of_a_run
@books
def report(scale: str, dataset: str, notebooks: str | None) -> None:
    """Write the report from the finished rows."""
    from rtalib.cli import reproduce

    with one_line_errors():
        folder = reproduce.folder_of(reproduce.run_name(scale, dataset))
    reproduce.write_report(folder)


@commands.command()
@table_names
@option("--hours", "Assumed for a cell that is like no stored one.", type=float, metavar="H")
@option("--rehearse", "First run a few steps of every kind of work at full size, and measure time and memory.", is_flag=True)
@option("--longest", "Of a step of the rehearsal; larger batches are measured in part.  [default: no limit]", type=float, metavar="SECONDS")
@table_seeds
@of_a_run
@downloads
def plan(tables: tuple[str, ...], seeds: str | None, **given) -> None:
    from rtalib.cli import plan

    with one_line_errors():
        print(plan.text(plan.collect(tables, seeds=plan.seeds(seeds), **given)))


plan.help = f"""Show what tables would compute and how long it takes.

For each table: its cells, those already stored, and the estimated time for the rest; then the hours on 1, 8 and 64 devices. {TABLE}"""


@commands.command()
@table_names
@executor
@table_seeds
@of_a_run
@downloads
def tables(tables: tuple[str, ...], seeds: str | None, **how: str) -> None:
    from rtalib.cli import plan

    with one_line_errors():
        how["seeds"] = plan.seeds(seeds)
        plan.check(tables, **how)  # every argument is checked before anything runs
    if failed := plan.compute(tables, **how):
        causes = "; ".join(f"{table} ({cause})" for table, cause in failed.items())
        raise click.ClickException(f"the same command computes what is missing. Not complete: {causes}")


tables.help = f"""Compute tables without their notebooks.

For batch jobs and machines without Jupyter. Finished rows are kept; `report` shows them. {TABLE}"""


@commands.command()
@click.argument("table")
@option("--hours", "Stop when the next decision would take longer.", type=float, required=True, metavar="H")
@executor
@of_a_run
def decide(table: str, hours: float, **how: str) -> None:
    """Spend hours on the seeds that decide claims of a table.

    Seeds go where a claim is open and nearest to a decision, one at a time. The tests are valid however often they are looked at.
    """
    from rtalib.cli import decide

    with one_line_errors():
        decide.spend(table, hours, **how)


@commands.command()
@option("--sources", "Comma-separated.  [default: all fifteen]", metavar="A,B")
@executor
@of_a_run
@downloads
def sources(sources: str | None, scale: str, dataset: str, executor: str) -> None:
    """Train or find the source models of RTA, and measure them."""
    from rtalib.experiments.rta import source_study

    chosen = {"sources": sources.split(",")} if sources else {}
    with one_line_errors():
        rows = source_study.run_study(scale, dataset, executor=executor, **chosen)
    print(f"\n{source_study.text_table(rows)}")


@commands.command()
@option("--dataset", "cifar10 | shapes10 | tiny-imagenet | a folder of pictures of any sizes | a .npz | a .parquet", required=True)
@option("--out", "Folder to write; it holds one data set, made with one set of parameters.", required=True, metavar="DIR")
@option("--benchmark", "Whose constants: cifar10-c | tiny-imagenet-c | imagecorruptions.  [default: by the size of the images]")
@option("--corruptions", "Comma-separated; others may be added later.  [default: all 15]", metavar="A,B")
@option("--severities", "Comma-separated; arrays hold all five.", default="1,2,3,4,5", metavar="1,2", callback=separated(int, "integers"))
@option("--split", "train | test; a folder without train/ and test/ is taken whole.", default="test")
@option("--seed", "Of the random draws.", type=int, default=0)
@option("--limit", "Only so many images, classes balanced, chosen as by load_dataset.", type=int, metavar="N")
@option("--layout", "arrays: <type>.npy as in CIFAR-10-C | folders: <type>/<severity>/<class>/<name> as in Tiny-ImageNet-C")
@option("--format", "Of folders: png (lossless) | jpeg (quality 85, as in Tiny-ImageNet-C).  [default: jpeg for tiny-imagenet, else png]")
@option("--device", "auto | cpu | cuda", default="auto")
@option("--workers", "Processes on the CPU.  [default: one per core]", type=int, metavar="N")
@downloads
def corrupt(dataset: str, out: str, corruptions: str | None, **given) -> None:
    """Write a corrupted copy of a data set or of your pictures.

    A killed run resumes. Put the copy where load_dataset and every --dataset find it:

    \b
      cifar10         --out $RTALIB_DATA/CIFAR-10-C         then 'cifar10-c/fog/3'
      tiny-imagenet   --out $RTALIB_DATA/Tiny-ImageNet-C    then 'tiny-imagenet-c/fog/3'
      a folder        --out anywhere                        then the path DIR/fog/3, which has the split of the original
    """
    from rtalib.corruptions import on_disk

    if corruptions:
        given["corruptions"] = corruptions.split(",")
    with one_line_errors():
        task = on_disk.plan(dataset, out, **given)
    try:
        manifest = on_disk.run(task)
    except OSError as error:
        raise click.ClickException(f"{error}; {process.RESUMES}") from error
    print("\n".join(on_disk.report(out, manifest)))


@commands.command()
@option("--images", "Class folders with pictures of any sizes | cifar10 | shapes10 | a .npz | a .parquet", required=True, metavar="DIR")
@option("--out", "Folder for data.npz (or the files of --format), card.json, manifest.csv and preview.png.", required=True, metavar="DIR")
@option("--size", "Images to make; if this is more than there are, every image is taken again.", type=int, required=True, metavar="N")
@option("--iterative", "Mine them with the networks themselves, instead of drawing them.", is_flag=True)
@option("--originals", "Put the originals in front; they count towards N.", is_flag=True)
@option("--side", "Pixels to which pictures in folders are scaled, 16 to 4000.", type=int, default=32)
@option("--format", "Comma-separated: npz | parquet | competition | folder (class folders of PNG)", default="npz")
@option("--scale", f"Of the sources and the search: {SCALES}", default="demo")
@option("--seed", "Of all random draws.", type=int, default=0)
@option("--network", "NETWORK of your own among those that are attacked, as in `evaluate`; the next options say how to open it.")
@partial(opening, resize="resize")
@option("--skip-unreadable", "Leave out pictures that cannot be read, and name them.", is_flag=True)
@option("--score", "Train on the originals and on the robust set, and score both on perturbed test images.", is_flag=True)
@executor
@option("--workers", "Processes.  [default: one per GPU, else one per core]", type=int, metavar="N")
@outputs
@downloads
def rta(
    images: str,
    out: str,
    format: str,
    score: bool,
    executor: str,
    workers: int | None,
    skip_unreadable: bool,
    network: str | None,
    **given,
) -> None:
    """Make a robust data set of your own images. One in five of a folder without train/ and test/ is kept as a test image."""
    from pathlib import Path

    from rtalib.yours import set_folder, your_images
    from rtalib.yours.cells import NetworkSpec

    form = {name: given.pop(name) for name in ("weights", "mean", "std", "resize", "output")}
    how = {"executor": executor, "workers": workers, "skip_unreadable": skip_unreadable}
    with one_line_errors():
        if network is None and (needless := next((name for name in form if form[name] is not None), None)):
            raise ValueError(f"--{needless}: says how to open --network, which is not given")
        form["size"] = form.pop("resize")
        order = your_images.request(images, network and NetworkSpec(network, **form), **given)
        robust = your_images.make(order, out, format.split(","), **how)
        rows = your_images.score(order, **how) if score else []
        if score:
            set_folder.add_score(Path(out), rows)
    print(f"\n{your_images.text(robust, out)}")
    for row in rows:
        parts = ", ".join(f"{part} {row[part]:.1f}" for part in ("clean", "corruptions", "transfer_pgd"))
        print(f"{row['model']} trained on {row['trained_on']} ({row['n_train']} images): score {row['score']:.1f} ({parts})")


commands.add_command(evaluate)
commands.add_command(repair)


@commands.command()
def env() -> None:
    """Print versions and hardware as JSON."""
    from rtalib.infra.provenance import stamp

    print(json.dumps(stamp(), indent=1))


@commands.group()
def store() -> None:
    """List, explain and clean what is stored."""


@store.command()
@click.argument("recipe", required=False)
@outputs
def ls(recipe: str | None) -> None:
    """List the entries, or those of one RECIPE: size, age, seconds of work, name."""
    from rtalib.cli import store

    with one_line_errors():
        print(store.ls(recipe))


@store.command()
@click.argument("key")
@outputs
def why(key: str) -> None:
    """Show what an entry or a row was made of, down to the leaves. KEY: its 16 digits, or the first of them."""
    from rtalib.infra.store import housekeeping

    with one_line_errors():
        print(housekeeping.why(key))


@store.command()
@option("--delete", "Remove it.", is_flag=True)
@option("--days", "Keep entries younger than this, even if no row uses them.", type=float, default=7.0)
@outputs
def gc(delete: bool, days: float) -> None:
    """Show what no table needs; --delete removes it."""
    from rtalib.cli import store

    with one_line_errors():
        print(store.gc(delete, days))
