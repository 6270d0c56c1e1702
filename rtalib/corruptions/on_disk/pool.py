"""The folder that `generate` fills: its manifest, what is left to do, and the processes that do it.

manifest.json holds the parameters, and size and digests of every finished part. Order of events for each part: it is written under a hidden
name, entered in the manifest, renamed. So a final name is always whole and always in the manifest, whatever dies when; and what is there
but not in the manifest is somebody else's and is never touched.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from rtalib.corruptions.on_disk.layouts import Advance, Part, Task, missing, write
from rtalib.corruptions.on_disk.progress import Progress
from rtalib.infra import store
from rtalib.infra.grid.processes import end_with_driver
from rtalib.infra.provenance import stamp

MANIFEST, MADE_BY = "manifest.json", "rtalib corrupt"


def check(task: Task, wanted: list[Part], parameters: dict) -> dict:
    """The manifest to go on with. ValueError where the folder holds anything that was made otherwise; nothing is written."""
    manifest = _read_manifest(task.out, parameters)
    for part in wanted:
        if (task.out / part.name).exists() and part.name not in manifest["files"]:
            path = task.out / part.name
            raise ValueError(f"out: {path} was not made by this command ({MANIFEST} does not name it); choose another folder")
    return manifest


def fill(task: Task, wanted: list[Part], parameters: dict, workers: int) -> dict:
    """Compute the wanted parts that are not there, one run at a time in a folder; returns the manifest."""
    task.out.mkdir(parents=True, exist_ok=True)
    lock = task.out / ".lock"
    if store.is_locked(lock):
        print(f"waiting: another run writes in {task.out}", file=sys.stderr, flush=True)
    with store.locked(lock):
        return _fill(task, wanted, check(task, wanted, parameters), workers)


def _fill(task: Task, wanted: list[Part], manifest: dict, workers: int) -> dict:
    left = [part for part in wanted if not _is_finished(task.out, part, manifest)]
    images = {part: missing(task, part) for part in left}
    workers = max(1, min(workers, sum(count > 0 for count in images.values())))
    _save_manifest(task, manifest)

    def commit(part: Part, facts: dict) -> None:
        manifest["files"][part.name] = facts
        _save_manifest(task, manifest)
        os.replace(part.hidden(task.out), task.out / part.name)

    if left:
        print(_outline(task, left, workers), file=sys.stderr, flush=True)
    with Progress(sum(images.values()), "images") as progress:
        _run(task, left, workers, commit, progress)
    for part in wanted:
        part.hidden(task.out, "progress").unlink(missing_ok=True)
    return manifest


def _outline(task: Task, left: list[Part], workers: int) -> str:
    what = "files" if task.layout == "arrays" else "folders"
    how = "1 process" if workers == 1 else f"{workers} processes"
    return f"{len(task.source):,} images, benchmark {task.benchmark}, {len(left)} {what} to write to {task.out} ({task.device}, {how})"


def _read_manifest(out: Path, parameters: dict) -> dict:
    """The folder's manifest, or a new one. ValueError naming what differs where it was made with other parameters."""
    path = out / MANIFEST
    if not path.exists():
        return {"made_by": MADE_BY, "parameters": parameters, "files": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        made = manifest["parameters"] if manifest["made_by"] == MADE_BY else {}
    except (ValueError, KeyError, TypeError):
        made = {}
    if not made:
        raise ValueError(f"out: {path} was not written by this command; choose another folder")
    names = [name for name in {**made, **parameters} if made.get(name) != parameters.get(name)]
    if names:
        differences = "; ".join(f"{name} {made.get(name)!r}, not {parameters.get(name)!r}" for name in names)
        raise ValueError(f"out: {out} was made with other parameters: {differences}. Choose another folder")
    return manifest


def _save_manifest(task: Task, manifest: dict) -> None:
    classes = {"classes": task.source.classes}
    text = json.dumps(manifest | classes | {"device": task.device, "stamp": stamp()}, indent=1, ensure_ascii=True)
    store.write_atomic(task.out / MANIFEST, text)


def _is_finished(out: Path, part: Part, manifest: dict) -> bool:
    path, facts = out / part.name, manifest["files"].get(part.name)
    return facts is not None and (path.is_dir() or (path.exists() and path.stat().st_size == facts["bytes"]))


# Processes.


def _run(task: Task, left: list[Part], workers: int, commit: Callable[[Part, dict], None], progress: Progress) -> None:
    if workers == 1:
        for part in left:
            commit(part, write(task, part, progress.add))
        return
    context = multiprocessing.get_context("spawn")
    count, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (task, count, stop))
    try:
        pending = {pool.submit(_write_here, part): part for part in left}
        while pending:
            finished, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            progress.at(count.value)
            for future in finished:
                commit(pending.pop(future), future.result())
    except BrokenProcessPool:
        raise RuntimeError("a worker process died, perhaps out of memory; what is finished is kept, try fewer workers") from None
    finally:
        stop.set()  # workers give up at the next batch
        pool.shutdown(cancel_futures=True)


def _start_worker(task: Task, count: Any, stop: Any) -> None:
    """One thread each. Ctrl-C is the driver's to handle; a driver that is killed takes its workers along."""
    global _task, _advance
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_driver, daemon=True).start()
    torch.set_num_threads(1)
    _task, _advance = task, _counter(count, stop)


def _counter(count: Any, stop: Any) -> Advance:
    def advance(images: int) -> None:
        with count.get_lock():
            count.value += images
        if stop.is_set():
            raise InterruptedError("the run was stopped")

    return advance


def _write_here(part: Part) -> dict:
    return write(_task, part, _advance)
