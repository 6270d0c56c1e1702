"""python -m rtalib reproduce: which notebooks run, with which parameters, and running them one after the other."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Any

from rtalib import scales
from rtalib.cli import fresh
from rtalib.corruptions import CORRUPTIONS, HELD_OUT
from rtalib.data import folders, loading
from rtalib.errors import LARGEST_SEED, check_name, check_number, unknown
from rtalib.experiments.rta.protocols import PROTOCOLS
from rtalib.infra import grid, nb, store
from rtalib.infra.grid.progress import clock
from rtalib.scales import run_name

__all__ = ["Job", "folder_of", "jobs", "numbered", "run", "run_name", "select", "write_report"]

NOTEBOOKS, NUMBERED = Path(__file__).absolute().parents[2] / "notebooks", "[0-9][0-9]_*.ipynb"  # in a clone
EARLY = ("00", "10")  # the others wait for them, so that the first table comes after a minute
VALUES = {"protocol": PROTOCOLS, "corruption": (*CORRUPTIONS, *HELD_OUT)}  # of parameters of notebooks


@dataclass(frozen=True)
class Job:
    """One notebook to run; minutes: what its title cell states for the scale, 0 if it states nothing."""

    notebook: Path
    parameters: dict[str, Any]
    minutes: float


def numbered(folder: str | None) -> list[Path]:
    """The numbered notebooks, in order."""
    home = Path(folder) if folder else NOTEBOOKS
    if found := sorted(home.glob(NUMBERED)):
        return found
    raise ValueError(f"--notebooks: no notebook named NN_topic.ipynb in {home}; the notebooks come with a clone of the repository")


def select(notebooks: list[Path], wanted: Sequence[str]) -> list[Path]:
    """Those named by number or by name, in order; all of them if none is named, EARLY ones first."""
    chosen = set()
    for text in wanted:
        stem = text.removesuffix(".ipynb")
        matches = [path for path in notebooks if path.stem == stem or path.stem[:2] == stem.zfill(2)]
        if not matches:
            raise unknown("notebook", text, [path.stem for path in notebooks])
        chosen.update(matches)
    return sorted(chosen or notebooks, key=_place)


def _place(notebook: Path) -> tuple[bool, str]:
    return notebook.stem[:2] not in EARLY, notebook.stem


def jobs(
    notebooks: list[Path], *, scale: str, dataset: str, seeds: str | None, executor: str | None, parameter: Sequence[str]
) -> list[Job]:
    """The notebooks with their parameters, every argument checked. parameter: texts NAME=VALUE."""
    if executor not in (None, *grid.EXECUTORS):
        raise unknown("executor", executor, grid.EXECUTORS)
    _check_dataset(dataset)
    from rtalib.cli import plan  # here, because it imports this module

    chosen = ",".join(map(str, plan.seeds(seeds)))
    declared = {path: nb.declared(path) for path in notebooks}
    known = sorted({name for defaults in declared.values() for name in defaults})
    special = dict(_pair(text) for text in parameter)
    if "seed" in special and "seed" not in known:
        special["seeds"] = special.pop("seed")  # -p seed=1 is a list of one
    for name in special:
        check_name("parameter", name, known)
        if name in VALUES and special[name]:
            check_name(name, special[name], VALUES[name])
    found = []
    for path, defaults in declared.items():
        at = scales.get(scale)
        own = {"seeds": chosen or ",".join(map(str, at.notebook_seeds(path.stem))), "protocol": at.protocol}
        given = {"scale": scale, "dataset": dataset, **own} | ({"executor": executor} if executor else {}) | special
        try:
            values = nb.coerce({name: nb.parse(name, text, defaults) for name, text in given.items() if name in defaults}, defaults)
            for seed in values.get("seeds", ()):
                check_number("seeds", seed, 0, LARGEST_SEED, integer=True)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path.stem}: {error}") from None
        found.append(Job(path, values, nb.minutes(path).get(scale, 0.0)))
    return found


def _check_dataset(name: str) -> None:
    """Before a kernel starts: a name of load_dataset, or a path that is there."""
    if name.split("/")[0] not in {known.split("/")[0] for known in folders.NAMES}:
        try:
            loading.existing(name, folders.root_folder())
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"--dataset: {str(error).removeprefix('name: ')}") from error


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"-p: expected name=value, got {text!r}")
    return name, value


def run(jobs: list[Job], name: str, timeout: float | None, *, again: bool = False) -> int:
    """Run every job, also after a failure, and write the report; returns the exit status. timeout: minutes for one notebook.

    Jobs whose last run is still good are skipped unless `again`: those before the first that is not, since all later ones build on it.
    """
    folder = store.outputs() / name
    todo = jobs if again else list(dropwhile(partial(_is_fresh, folder), jobs))
    skipped, failed, started, stated = len(jobs) - len(todo), 0, time.monotonic(), 0.0
    print(f"{_heading(jobs)}{_about(sum(job.minutes for job in todo))}; results in {_shown(folder)}", flush=True)
    if skipped:
        print(f"{skipped} of {len(jobs)} up to date; --again runs them all the same", flush=True)
    for number, job in enumerate(todo, 1):
        title = f"[{skipped + number}/{len(jobs)}] {job.notebook.stem}"
        print(f"{title}{_about(job.minutes)}", flush=True)
        output = folder / "notebooks" / job.notebook.name
        inputs = fresh.inputs(job.notebook, job.parameters)
        result = nb.run(job.notebook, output, job.parameters, timeout=timeout and timeout * 60, inputs=inputs)
        elapsed, stated = time.monotonic() - started, stated + job.minutes
        left = sum(later.minutes for later in todo[number:]) * (elapsed / 60 / stated if stated else 1)
        print(f"{title} {result.status} in {clock(result.seconds)}; {clock(elapsed)} elapsed{_about(left, ' left')}", flush=True)
        if result.status != "ok":
            failed += 1
            print(f"\n{result.notebook} {result.status}; see {_shown(output)}\n{result.error}\n", file=sys.stderr)
    print(f"\n{len(jobs) - failed} of {len(jobs)} notebooks ok", flush=True)
    if fresh.is_newest(folder / "report.html"):  # as after notebook 90, which wrote it before its own page could be made
        if todo:
            from rtalib.report import notebooks

            notebooks.write(folder, [])
        print(f"report: {_shown(folder / 'report.html')}")
    else:
        write_report(folder)
    return 1 if failed else 0


def _heading(jobs: list[Job]) -> str:
    count = "1 notebook" if len(jobs) == 1 else f"{len(jobs)} notebooks"
    seeds = {tuple(job.parameters.get("seeds", ())) for job in jobs}
    of_all = f", seeds {', '.join(map(str, *seeds))}" if len(seeds) == 1 and () not in seeds else ""
    return "{count}, scale {scale}, data {dataset}{seeds}".format(count=count, **jobs[0].parameters | {"seeds": of_all})


def _is_fresh(folder: Path, job: Job) -> bool:
    output = folder / "notebooks" / job.notebook.name
    earlier = [path for path in output.parent.glob(NUMBERED) if _place(path) < _place(output)]
    return fresh.is_fresh(job.notebook, output, fresh.inputs(job.notebook, job.parameters), earlier)


def folder_of(run: str) -> Path:
    """The folder of a run that has begun; ValueError if nothing was run."""
    folder = store.outputs() / run
    if not folder.is_dir():
        raise ValueError(f"nothing was run yet: {_shown(folder)} does not exist")
    return folder


def write_report(folder: Path) -> None:
    from rtalib import report

    print(f"report: {_shown(report.write(folder))}")


def _about(minutes: float, suffix: str = "") -> str:
    return f", about {clock(60 * minutes)}{suffix}" if minutes else ""


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
