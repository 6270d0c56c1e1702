"""A corrupted copy of a whole data set on disk, in the published layouts: `python -m rtalib corrupt`.

Here: the arguments, the run and what is reported of it. `inputs` reads images, `layouts` writes them, `manifest` says what is finished.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import torch

import rtalib
from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, SEVERITIES, benchmark_for, frost_source
from rtalib.corruptions.on_disk import inputs, layouts, manifest, published_md5
from rtalib.corruptions.on_disk.layouts import FORMATS, LABELS, LAYOUTS, Task
from rtalib.data import bounds
from rtalib.errors import unknown
from rtalib.infra import grid, store
from rtalib.infra.grid.cell import environment
from rtalib.infra.provenance import cores

DEVICES = ("auto", "cpu", "cuda")
RUN, TABLE, RECIPE = "corrupt", "blocks", "rtalib corrupt"  # of the grid's rows


def plan(
    dataset: str | Path,
    out: str | Path,
    *,
    benchmark: str | None = None,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    split: str = "test",
    seed: int = 0,
    limit: int | None = None,
    layout: str | None = None,
    format: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    root: str | Path | None = None,
) -> Task:
    """Plan corrupted copies of a data set in the folder `out`.

    dataset, split, root, limit: as in load_dataset; or a folder of pictures at any depth and of any sizes from 16 px, whose names are kept
    (the split is taken from train/ and test/ if they exist, else all pictures). The random draws of an image depend on its number in the
    whole split or folder.
    layout: 'arrays': `<type>.npy`, uint8 (5 N,H,W,3), severity 1 first, and labels.npy; 'folders': `<type>/<severity>/<class>/<name>` in
    a `format`, 'png' or 'jpeg' (quality 85, 4:2:0, as Tiny-ImageNet-C and ImageNet-C were saved). Default: folders for tiny-imagenet
    (jpeg) and for folders of pictures (png), else arrays.
    benchmark: whose constants; default by the (median) shorter side: cifar10-c to 48 px, tiny-imagenet-c to 112, else imagecorruptions.
    device: 'auto' is CUDA if there is a GPU. workers: processes, on the CPU only, default one per core, fewer if memory
    does not hold the largest picture so often.

    Raises ValueError, TypeError or FileNotFoundError for arguments and files that cannot be used, and for a folder `out` that holds
    anything made with other parameters.
    """
    _check(dataset, out, corruptions, severities, {"benchmark": benchmark, "layout": layout, "format": format, "device": device})
    device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if workers is not None and (workers < 1 or (workers > 1 and device == "cuda")):
        raise ValueError(f"workers: expected {'1 on a GPU' if device == 'cuda' else 'at least 1'}, got {workers}")
    source, part_of = inputs.find(str(dataset), split, limit, root, layout)
    in_folders = layout == "folders" if layout else isinstance(source, inputs.Folder) or dataset == "tiny-imagenet"
    types, severities = tuple(dict.fromkeys(corruptions)), tuple(sorted(set(severities)))
    if not in_folders and severities != SEVERITIES:
        raise ValueError("severities: an array holds all five; for some of them use layout 'folders'")
    if not in_folders and format:
        raise ValueError("format: arrays hold raw pixels; a format is for layout 'folders'")
    layout = "folders" if in_folders else "arrays"
    if in_folders:
        format = format or ("jpeg" if dataset == "tiny-imagenet" else "png")
        source.names(format)  # raises for names that cannot be written
    benchmark = benchmark or benchmark_for(source.side)
    parameters = {
        "dataset": dataset if dataset in inputs.NAMED else Path(dataset).name,
        "split": part_of,
        "limit": limit,
        "images": len(source),
        "digest": source.digest,
        "benchmark": benchmark,
        "seed": seed,
        "layout": layout,
        "format": format,
        "frost": frost_source().partition(":")[0],  # the photographs are checked by hash: where they lie does not matter
        "rtalib": rtalib.__version__,
    }
    held = inputs.HELD_BYTES * source.largest
    workers = workers or (1 if device == "cuda" else min(cores(), max(1, int(bounds.memory() // held))))
    bounds.check_memory(workers * held, f"workers: {workers}, each with a picture of {source.largest:,} pixels,")
    blocks = layouts.blocks(layout, types, severities)
    task = Task(_folder(out, source), source, layout, format, benchmark, seed, device, workers, blocks, parameters)
    manifest.check(task)
    return task


def run(task: Task) -> dict:
    """Write what is missing; resumes an interrupted run. Progress goes to stderr.

    Returns the manifest: 'parameters', 'classes', 'files' with size and digests, and what computed them. OSError if the disk fails, a
    picture cannot be decoded or a worker keeps dying; finished blocks are kept.
    """
    task.out.mkdir(parents=True, exist_ok=True)
    lock = task.out / ".lock"
    if store.is_locked(lock):
        print(f"waiting: another run writes to {task.out}", file=sys.stderr, flush=True)
    with store.locked(lock), environment(RTALIB_OUTPUTS=str(task.work)), redirect_stdout(sys.stderr):
        task.work.mkdir(parents=True, exist_ok=True)
        facts = manifest.check(task)
        left = [part for part in task.parts if not manifest.is_finished(task, part, facts)]
        if left:
            _write(task, left, facts)
        shutil.rmtree(task.out / ".work", ignore_errors=True)
    return facts


def _write(task: Task, left: list[str], facts: dict) -> None:
    """Compute the blocks of these parts as cells of a grid. A part is committed with its last block."""
    blocks = [block for block in task.blocks if block.part in left]
    waiting = Counter(block.part for block in blocks)

    def finish(row: dict) -> str:
        waiting[row["part"]] -= 1
        if not waiting[row["part"]]:
            manifest.commit(task, facts, row)
        return _limit(row)

    if LABELS in left:
        layouts.write_labels(task)
        manifest.commit(task, facts, {"part": LABELS})
    for block in blocks:  # a finished block whose file was removed or changed is computed again
        key = store.key(RECIPE, 1, [block, task.key])
        if (row := store.read_row(RUN, TABLE, key)) and not layouts.is_written(task, block, row):
            store.row_path(RUN, TABLE, key).unlink(missing_ok=True)
    if task.layout == "arrays":
        layouts.claim_arrays(task, list(waiting))
    how = "1 process" if task.workers == 1 else f"{task.workers} processes"
    what = f"{len(left)} {'files' if task.layout == 'arrays' else 'folders'} to write to {task.out} ({task.device}, {how})"
    print(f"{len(task.source):,} images, benchmark {task.benchmark}, {what}", flush=True)
    where = {"executor": "serial"} if task.workers == 1 else {"workers": task.workers, "gpus": 0}
    names = {"recipe": RECIPE, "run": RUN, "table": TABLE, "inputs": task.key}
    try:
        rows = grid.run(partial(layouts.write, task), blocks, ordered=True, stop=True, describe=finish, **names, **where)
    except grid.GridError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error
    for row in rows:  # parts with blocks that an earlier run had finished
        if waiting[row["part"]]:
            waiting[row["part"]] = 0
            manifest.commit(task, facts, row)


def _limit(row: dict) -> str:
    """Which step a folder's seconds went to, nothing for arrays."""
    spent = {step: row[step] for step in ("reading", "corrupting", "writing") if step in row}
    if not spent:
        return ""
    slowest = max(spent, key=spent.get)
    return f"{row['part']}, {slowest} limits ({100 * spent[slowest] / max(sum(spent.values()), 1e-9):.0f} % of the time)"


def report(out: str | Path, facts: dict, root: str | Path | None = None) -> list[str]:
    """What the folder of this manifest holds, in one line; before it, for CIFAR-10-C, a comparison with the published files."""
    made, files = facts["parameters"], facts["files"]
    types = [name for name in CORRUPTIONS if any(file == f"{name}.npy" or file.startswith(f"{name}/") for file in files)]
    lines = []
    if (made["dataset"], made["split"], made["benchmark"], made["layout"]) == ("cifar10", "test", "cifar10-c", "arrays"):
        if made["limit"]:
            lines.append(f"not compared with the published MD5s: they are of all images, these are {made['images']:,}")
        else:
            lines += published_md5.report(Path(out), ["labels", *types], published_md5.cifar10_origin(root))
    size = sum(file["bytes"] for file in files.values()) / 1e6
    levels = 5 * len(types) if made["layout"] == "arrays" else len(files)
    what = f"{len(types)} of {len(CORRUPTIONS)} types, {levels} x {made['images']:,} images of {made['dataset']}"
    how = f"{made['split'] or 'whole folder'}, benchmark {made['benchmark']}, seed {made['seed']}, frost {made['frost']}"
    return [*lines, f"{out}: {what} ({how}), {size:,.1f} MB"]


def _check(dataset: object, out: object, corruptions: Sequence, severities: Sequence, choices: dict[str, str | None]) -> None:
    """Raise ValueError for an argument of `plan` that cannot be used, whatever the data set is."""
    for argument, value in (("dataset", dataset), ("out", out)):
        if not str(value):  # an unset variable of a shell script; as a path it would be the working folder
            raise ValueError(f"{argument}: expected a name or a path, got nothing")
    options = {"corruption": CORRUPTIONS, "benchmark": BENCHMARKS, "layout": LAYOUTS, "format": FORMATS, "device": DEVICES}
    for argument, value in [*(("corruption", name) for name in corruptions), *choices.items()]:
        if value is not None and value not in options[argument]:
            raise unknown(argument, value, options[argument])
    if not corruptions:
        raise ValueError(f"corruptions: expected at least one of {', '.join(CORRUPTIONS)}")
    if not severities or any(level not in SEVERITIES for level in severities):
        raise ValueError(f"severities: expected some of 1 to 5, got {', '.join(map(str, severities)) or 'none'}")
    if choices["device"] == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' was asked for, but torch finds no such device")


def _folder(out: str | Path, source: inputs.Loaded | inputs.Folder) -> Path:
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: {path} is not a folder")
    if isinstance(source, inputs.Folder) and path.resolve().is_relative_to(source.base.resolve()):
        raise ValueError(f"out: {path} lies in the data set itself; choose a folder outside {source.base}")
    return path
