"""The command line: notebooks, their state, tables, the report, sources, corrupted data, robust sets, the store, benchmarks.

Everything heavy is imported by the command that needs it, so that --help answers at once.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import command as cli_bench
from rtalib.cli import store as cli_store
from rtalib.cli import tables as cli_tables

if TYPE_CHECKING:
    from rtalib.infra.nb import NotebookResult

USAGE_ERROR, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 (something failed), 2 (bad arguments), 130 (interrupted)."""
    options = _parser().parse_args(arguments)
    if getattr(options, "outputs", None):
        os.environ["RTALIB_OUTPUTS"] = str(Path(options.outputs).absolute())
    try:
        return options.command(options)
    except UsageError as error:
        print(f"rtalib: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("\ninterrupted; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


class UsageError(Exception):
    """An argument that cannot be used; its text is one line for the user."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rtalib", description="Reproduce the notebooks' experiments from the command line.")
    commands = parser.add_subparsers(required=True, metavar="command")
    reproduce = _command(commands, "reproduce", _reproduce, "run the numbered notebooks in order and write the report")
    status = _command(commands, "status", _status, "show what is done, running, failed and missing")
    report = _command(commands, "report", _report, "write the report from the finished rows")
    sources = _command(commands, "sources", _sources, "train or find the source models that RTA attacks, and measure them")
    _corrupt_options(_command(commands, "corrupt", _corrupt, "write a corrupted copy of a data set or of a folder of pictures"))
    _rta_options(_command(commands, "rta", _rta, "make a robust data set of your own images"))
    cli_tables.add_commands(commands)
    cli_store.add_command(commands)
    cli_bench.add_command(commands)
    _command(commands, "env", _env, "print versions and hardware as JSON")

    add = reproduce.add_argument
    add("numbers", nargs="*", metavar="NN", help="only these notebooks: 03, or 03_rta (default: all)")
    add("--seeds", help="comma-separated, such as 0,1,2 (default: the scale's own)")
    add("--executor", help="serial | processes | ray: how a table's cells are computed (default: the notebook's own)")
    add("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set a notebook's parameter; may be repeated")
    add("--timeout", type=float, metavar="MINUTES", help="stop a notebook that takes longer (default: never)")
    sources.add_argument("--sources", metavar="A,B", help="comma-separated (default: all fifteen)")
    sources.add_argument("--executor", default="processes", help="serial | processes | ray (default: processes)")
    for command in (reproduce, status, report, sources):
        add = command.add_argument
        add("--scale", default="demo", help="smoke | demo | cpu | night | small | paper (default: demo)")
        add("--dataset", default="shapes10", help="shapes10 | cifar10 | tiny-imagenet | a path (default: shapes10, built in)")
        add("--outputs", metavar="DIR", help="folder for results (default: $RTALIB_OUTPUTS, else ./outputs)")
    for command in (reproduce, status, report):
        command.add_argument("--notebooks", metavar="DIR", help="folder of notebooks (default: the repository's)")
    return parser


CORRUPT_NOTES = """
A killed run goes on where it was. Where to put the copy, so that load_dataset and every DATASET option find it:
  cifar10         --out $RTALIB_DATA/CIFAR-10-C         then 'cifar10-c/fog/3'
  tiny-imagenet   --out $RTALIB_DATA/Tiny-ImageNet-C    then 'tiny-imagenet-c/fog/3'
  a folder        --out anywhere                        then the path DIR/fog/3, which has the split of the original
"""


def _corrupt_options(command: argparse.ArgumentParser) -> None:
    command.formatter_class, command.epilog = argparse.RawDescriptionHelpFormatter, CORRUPT_NOTES
    add = command.add_argument
    add("--dataset", required=True, help="cifar10 | shapes10 | tiny-imagenet | a folder of pictures of any sizes | a .npz | a .parquet")
    add("--out", required=True, metavar="DIR", help="folder to write; it holds one data set, made with one set of parameters")
    add("--benchmark", help="whose constants: cifar10-c | tiny-imagenet-c | imagecorruptions (default: by the size of the images)")
    add("--corruptions", metavar="A,B", help="comma-separated (default: all 15); others may be added later")
    add("--severities", metavar="1,2", help="comma-separated (default: 1,2,3,4,5; arrays hold all five)")
    add("--split", default="test", help="train | test (default); a folder without train/ and test/ is taken whole")
    add("--seed", type=int, default=0, help="of the random draws (default: 0)")
    add("--limit", type=int, metavar="N", help="only so many images, classes balanced, as load_dataset chooses them")
    add("--layout", help="arrays: <type>.npy as in CIFAR-10-C | folders: <type>/<severity>/<class>/<name> as in Tiny-ImageNet-C")
    add("--format", help="of folders: png (default, lossless) | jpeg (quality 85 as in Tiny-ImageNet-C, and the default for tiny-imagenet)")
    add("--device", default="auto", help="auto | cpu | cuda (default: auto)")
    add("--workers", type=int, metavar="N", help="processes on the CPU (default: one per core)")


def _rta_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--images", required=True, metavar="DIR", help="class folders with pictures of any sizes | cifar10 | shapes10 | a .npz | a .parquet"
    )
    add("--out", required=True, metavar="DIR", help="folder for data.npz (or what --format asks for), card.json, preview.png")
    add("--size", type=int, required=True, metavar="N", help="images to make; more than there are take every image again")
    add("--iterative", action="store_true", help="mine them with the networks themselves (default: draw them)")
    add("--originals", action="store_true", help="put the originals in front; they count towards N")
    add("--side", type=int, default=32, help="pixels to which pictures in folders are scaled, 16 to 64 (default: 32)")
    add("--format", default="npz", help="comma-separated: npz | parquet | competition (default: npz)")
    add("--scale", default="demo", help="of the sources and the search: smoke | demo | cpu | night | small | paper (default: demo)")
    add("--seed", type=int, default=0, help="of all random draws (default: 0)")
    add("--score", action="store_true", help="train on the originals and on the robust set, and score both on perturbed test images")
    add("--executor", default="processes", help="serial | processes | ray (default: processes)")
    add("--workers", type=int, metavar="N", help="processes (default: one per GPU, else one per core)")


def _command(commands: Any, name: str, function: Any, help: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    command.set_defaults(command=function)
    return command


# ------------------------------------------------------------------------------------------------------------ commands


def _reproduce(options: argparse.Namespace) -> int:
    run, jobs = _plan(options)
    os.environ["RTALIB_OUTPUTS"] = str(_outputs())  # for the notebooks and their workers
    folder = _outputs() / run
    expected = _about(60 * sum(job.minutes for job in jobs))
    count = "1 notebook" if len(jobs) == 1 else f"{len(jobs)} notebooks"
    print(f"{count}, scale {options.scale}, data {options.dataset}{expected}; results in {_shown(folder)}", flush=True)
    results = _run_all(jobs, run, folder, options.timeout)
    failed = [result for result in results if result.status != "ok"]
    for result in failed:
        executed = folder / "notebooks" / f"{result.notebook}.ipynb"
        print(f"\n{result.notebook} {result.status}; see {_shown(executed)}\n{result.error}", file=sys.stderr)
    print(f"\n{len(results) - len(failed)} of {len(results)} notebooks ok", flush=True)
    _write_report(run)
    return 1 if failed else 0


def _status(options: argparse.Namespace) -> int:
    from rtalib.cli import status

    print(status.text(status.collect(_run_name(options), _notebooks(options))))
    return 0


def _report(options: argparse.Namespace) -> int:
    _write_report(_run_name(options))
    return 0


def _sources(options: argparse.Namespace) -> int:
    from rtalib.experiments.rta import source_study
    from rtalib.infra import grid

    os.environ["RTALIB_OUTPUTS"] = str(_outputs())  # for the workers
    chosen = {"sources": options.sources.split(",")} if options.sources else {}
    try:
        rows = source_study.run_study(options.scale, options.dataset, executor=options.executor, **chosen)
    except grid.GridError as error:
        print(f"rtalib: {error}", file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError) as error:  # of the arguments: those of a cell come as GridError
        raise UsageError(error) from None
    print(f"\n{source_study.text_table(rows)}")
    return 0


def _corrupt(options: argparse.Namespace) -> int:
    from rtalib.corruptions import on_disk

    arguments = {name: value for name, value in vars(options).items() if value is not None and name not in ("command", "dataset", "out")}
    try:
        if options.corruptions:
            arguments["corruptions"] = options.corruptions.split(",")
        if options.severities:
            arguments["severities"] = [int(level) for level in options.severities.split(",")]
        plan = on_disk.plan(options.dataset, options.out, **arguments)
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise UsageError(error) from None
    try:
        manifest = on_disk.run(plan)
    except (OSError, RuntimeError) as error:
        print(f"rtalib: {error}; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 1
    print("\n".join(on_disk.report(options.out, manifest)))
    return 0


def _rta(options: argparse.Namespace) -> int:
    from rtalib.experiments.rta import your_images
    from rtalib.infra import grid

    os.environ["RTALIB_OUTPUTS"] = str(_outputs())  # for the workers
    how = {"executor": options.executor, "workers": options.workers}
    try:
        order = your_images.SetRequest(
            *(options.images, options.size, options.iterative, options.originals, options.side, options.scale, options.seed)
        )
        robust = your_images.make(order, options.out, options.format.split(","), **how)
        rows = your_images.score(order, **how) if options.score else []
    except grid.GridError as error:
        print(f"rtalib: {error}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise UsageError(error) from None
    print(f"\n{your_images.text(robust, options.out)}")
    for row in rows:
        parts = ", ".join(f"{part} {row[part]:.1f}" for part in ("clean", "corruptions", "transfer_pgd"))
        print(f"{row['model']} trained on {row['trained_on']} ({row['n_train']} images): score {row['score']:.1f} ({parts})")
    return 0


def _env(options: argparse.Namespace) -> int:
    from rtalib.infra.provenance import stamp

    print(json.dumps(stamp(), indent=1))
    return 0


# ------------------------------------------------------------------------------------------------------------ planning


@dataclass(frozen=True)
class Job:
    """One notebook to run; minutes is what its title cell states for the scale, 0 if it states nothing."""

    notebook: Path
    parameters: dict[str, Any]
    minutes: float


def _plan(options: argparse.Namespace) -> tuple[str, list[Job]]:
    """The run's name and its jobs, every argument checked before anything runs."""
    from rtalib import scales
    from rtalib.errors import unknown
    from rtalib.infra import grid, nb

    run = _run_name(options)
    if options.executor not in (None, *grid.EXECUTORS):
        raise UsageError(unknown("executor", options.executor, grid.EXECUTORS))
    common = {"scale": options.scale, "dataset": options.dataset}
    if options.executor:
        common["executor"] = options.executor
    notebooks = _select(_notebooks(options), options.numbers)
    declared = {path: nb.declared(path) for path in notebooks}
    special = dict(_pair(text) for text in options.parameter)
    if "seed" in special and not any("seed" in defaults for defaults in declared.values()):
        special["seeds"] = special.pop("seed")  # -p seed=1 is a list of one
    for name in special:
        if not any(name in defaults for defaults in declared.values()):
            raise UsageError(unknown("parameter", name, sorted({known for defaults in declared.values() for known in defaults})))
    jobs = []
    for path, defaults in declared.items():
        try:
            seeds = options.seeds or ",".join(map(str, scales.get(options.scale).notebook_seeds(path.stem)))
            given = {**common, "seeds": seeds, **special}
            values = {name: nb.parse(name, text, defaults) for name, text in given.items() if name in defaults}
            jobs.append(Job(path, nb.coerce(values, defaults), nb.minutes(path).get(options.scale, 0.0)))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path.stem}: {error}") from None
    return run, jobs


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"-p: expected name=value, got {text!r}")
    return name, value


def _run_name(options: argparse.Namespace) -> str:
    from rtalib.scales import run_name

    try:
        return run_name(options.scale, options.dataset)
    except ValueError as error:
        raise UsageError(error) from None


def _notebooks(options: argparse.Namespace) -> list[Path]:
    """The numbered notebooks, in order."""
    folder = Path(options.notebooks) if options.notebooks else Path(__file__).absolute().parents[2] / "notebooks"
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise UsageError(f"--notebooks: no notebook named NN_topic.ipynb in {folder}; the notebooks come with a clone of the repository")
    return found


def _select(notebooks: list[Path], wanted: Sequence[str]) -> list[Path]:
    """Those named by number or by name; all of them when none is named."""
    from rtalib.errors import unknown

    chosen = set()
    for text in wanted:
        stem = text.removesuffix(".ipynb")
        number = stem.zfill(2)
        matches = [path for path in notebooks if path.stem == stem or path.stem[:2] == number]
        if not matches:
            raise UsageError(unknown("notebook", text, [path.stem for path in notebooks]))
        chosen.update(matches)
    return [path for path in notebooks if path in chosen or not wanted]


# ------------------------------------------------------------------------------------------------------------- running


def _run_all(jobs: list[Job], run: str, folder: Path, timeout: float | None) -> "list[NotebookResult]":
    """Run every job, also after a failure; status.json is kept up to date."""
    from rtalib.cli import status
    from rtalib.infra import nb

    results, started, stated = [], time.monotonic(), 0.0
    status.save(status.collect(run, [job.notebook for job in jobs]))
    for number, job in enumerate(jobs, 1):
        name = f"[{number}/{len(jobs)}] {job.notebook.stem}"
        print(f"{name}{_about(job.minutes * 60)}", flush=True)
        output = folder / "notebooks" / job.notebook.name
        results.append(nb.run(job.notebook, output, job.parameters, timeout=timeout and timeout * 60))
        status.save(status.collect(run, [done.notebook for done in jobs]))
        elapsed, stated = time.monotonic() - started, stated + job.minutes
        left = sum(later.minutes for later in jobs[number:]) * (elapsed / stated if stated else 60)
        verdict = f"{results[-1].status} in {status.clock(results[-1].seconds)}"
        print(f"{name} {verdict}; {status.clock(elapsed)} elapsed{_about(left, ' left')}", flush=True)
    return results


def _about(seconds: float, suffix: str = "") -> str:
    from rtalib.cli.status import clock

    return f", about {clock(seconds)}{suffix}" if seconds else ""


def _write_report(run: str) -> None:
    from rtalib import report

    folder = _outputs() / run
    if not folder.is_dir():
        raise UsageError(f"nothing was run yet: {_shown(folder)} does not exist")
    print(f"report: {_shown(report.write(folder))}")


def _outputs() -> Path:
    from rtalib.infra.store import outputs

    return outputs()


def _shown(path: Path) -> str:
    """The path as short as it can be said from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
