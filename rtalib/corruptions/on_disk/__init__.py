"""A corrupted copy of a whole data set on disk, in the published layouts: `python -m rtalib corrupt`.

Here: the arguments and what is said about the result. generate_inputs reads, generate_layouts writes, generate_run keeps the folder.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import rtalib
from rtalib.corruptions import BENCHMARKS, CORRUPTIONS, frost_source
from rtalib.corruptions.on_disk import inputs as generate_inputs
from rtalib.corruptions.on_disk import published_md5
from rtalib.corruptions.on_disk.inputs import Folder, Loaded
from rtalib.corruptions.on_disk.layouts import FORMATS, LAYOUTS, SEVERITIES, Part, Task, parts
from rtalib.corruptions.on_disk.pool import check, fill
from rtalib.errors import unknown
from rtalib.infra import store

MADE_FOR = {"cifar10-c": 48, "tiny-imagenet-c": 112}  # up to which side; beyond it, ImageNet-C's constants


@dataclass(frozen=True)
class Plan:
    """What `run` is to do: every argument checked, nothing written."""

    task: Task
    parts: list[Part]
    parameters: dict
    workers: int


def run(plan: Plan) -> dict:
    """Write what is missing; an interrupted run is taken up where it was. Progress goes to stderr.

    Returns the manifest: 'parameters', 'classes', 'files' with size and digests, and what computed them. OSError where the disk fails
    or a picture cannot be decoded, RuntimeError where a worker dies: what is finished is kept.
    """
    return fill(plan.task, plan.parts, plan.parameters, plan.workers)


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
) -> Plan:
    """Corrupted copies of a data set in the folder `out`.

    dataset, split, root, limit: as in load_dataset; or a folder of pictures at any depth and of any sizes from 16 px, whose names are kept
    (of train/ and test/ the split is taken, else all). The random draws of an image depend on its number in the whole split or folder.
    layout: 'arrays': `<type>.npy`, uint8 (5 N,H,W,3), severity 1 first, and labels.npy; 'folders':
    `<type>/<severity>/<class>/<name>` in a `format`, 'png' or 'jpeg' (quality 85, 4:2:0, as Tiny-ImageNet-C and ImageNet-C were saved).
    Defaults: folders for tiny-imagenet (jpeg) and for folders of pictures (png), else arrays.
    benchmark: whose constants; default by the (median) shorter side: cifar10-c to 48 px, tiny-imagenet-c to 112, else imagecorruptions.
    device: 'auto' is CUDA where there is one. workers: processes, on the CPU only, default one per core.

    Raises ValueError, TypeError or FileNotFoundError for arguments and files that cannot be used, and for a folder `out` that holds
    anything made with other parameters.
    """
    for argument, value in (("dataset", dataset), ("out", out)):
        if not str(value):  # an unset variable of a shell script; as a path it would be the working folder
            raise ValueError(f"{argument}: expected a name or a path, got nothing")
    types, severities = _names(corruptions), _levels(severities)
    device = _device(device)
    workers = _workers(workers, device)
    source, part_of = generate_inputs.find(str(dataset), split, limit, root, layout)
    layout = _layout(layout, source, dataset, severities)
    format = _format(format, layout, dataset)
    benchmark = benchmark or next((name for name, side in MADE_FOR.items() if source.side <= side), "imagecorruptions")
    if benchmark not in BENCHMARKS:
        raise unknown("benchmark", benchmark, BENCHMARKS)
    parameters = {
        "dataset": dataset if dataset in generate_inputs.NAMED else Path(dataset).name,
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
    task = Task(_folder(out, source), source, layout, format, benchmark, seed, device, store.key("generate", 1, parameters))
    wanted = parts(layout, types, severities)
    check(task, wanted, parameters)
    return Plan(task, wanted, parameters, workers)


def report(out: str | Path, manifest: dict, root: str | Path | None = None) -> list[str]:
    """What the folder holds, in one line; before it, for CIFAR-10-C, a comparison with the published files."""
    facts, files = manifest["parameters"], manifest["files"]
    types = [name for name in CORRUPTIONS if any(file == f"{name}.npy" or file.startswith(f"{name}/") for file in files)]
    lines = []
    if (facts["dataset"], facts["split"], facts["benchmark"], facts["layout"]) == ("cifar10", "test", "cifar10-c", "arrays"):
        if facts["limit"]:
            lines.append(f"not compared with the published MD5s: they are of all images, these are {facts['images']:,}")
        else:
            lines += published_md5.report(Path(out), ["labels", *types], published_md5.cifar10_origin(root))
    size = sum(file["bytes"] for file in files.values()) / 1e6
    levels = 5 * len(types) if facts["layout"] == "arrays" else len(files)
    what = f"{len(types)} of {len(CORRUPTIONS)} types, {levels} x {facts['images']:,} images of {facts['dataset']}"
    made = f"{facts['split'] or 'whole folder'}, benchmark {facts['benchmark']}, seed {facts['seed']}, frost {facts['frost']}"
    return [*lines, f"{out}: {what} ({made}), {size:,.1f} MB"]


# Arguments.


def _names(corruptions: Sequence[str]) -> tuple[str, ...]:
    for name in corruptions:
        if name not in CORRUPTIONS:
            raise unknown("corruption", name, CORRUPTIONS)
    if not corruptions:
        raise ValueError(f"corruptions: expected at least one of {', '.join(CORRUPTIONS)}")
    return tuple(dict.fromkeys(corruptions))


def _levels(severities: Sequence[int]) -> tuple[int, ...]:
    if not severities or any(level not in SEVERITIES for level in severities):
        raise ValueError(f"severities: expected some of 1 to 5, got {', '.join(map(str, severities)) or 'none'}")
    return tuple(sorted(set(severities)))


def _device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise unknown("device", device, ("auto", "cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' was asked for, but torch finds no such device")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _workers(workers: int | None, device: str) -> int:
    if workers is not None and (workers < 1 or (workers > 1 and device == "cuda")):
        raise ValueError(f"workers: expected {'1 on a GPU' if device == 'cuda' else 'at least 1'}, got {workers}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers or (1 if device == "cuda" else cores)


def _layout(layout: str | None, source: Loaded | Folder, dataset: str | Path, severities: tuple[int, ...]) -> str:
    if layout not in (None, *LAYOUTS):
        raise unknown("layout", layout, LAYOUTS)
    layout = layout or ("folders" if isinstance(source, Folder) or dataset == "tiny-imagenet" else "arrays")
    if layout == "arrays" and severities != SEVERITIES:
        raise ValueError("severities: an array holds all five; for some of them use layout 'folders'")
    return layout


def _format(format: str | None, layout: str, dataset: str | Path) -> str | None:
    if format not in (None, *FORMATS):
        raise unknown("format", format, FORMATS)
    if layout == "arrays" and format:
        raise ValueError("format: arrays hold raw pixels; a format is for layout 'folders'")
    return None if layout == "arrays" else format or ("jpeg" if dataset == "tiny-imagenet" else "png")


def _folder(out: str | Path, source: Loaded | Folder) -> Path:
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: {path} is not a folder")
    if isinstance(source, Folder) and path.resolve().is_relative_to(source.base.resolve()):
        raise ValueError(f"out: {path} lies in the data set itself; choose a folder outside {source.base}")
    return path
