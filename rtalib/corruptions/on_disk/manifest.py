"""manifest.json of a corrupted data set: its parameters, and the size and digests of every finished part.

A part is written in the hidden work folder, entered in the manifest and renamed, in this order. So a part under its final name is complete
and in the manifest, whatever dies when. A file that the manifest does not name is somebody else's and is never touched.
"""

import os

from rtalib.corruptions.on_disk import layouts
from rtalib.corruptions.on_disk.layouts import Task
from rtalib.infra import store
from rtalib.infra.provenance import stamp

NAME, MADE_BY = "manifest.json", "rtalib corrupt"


def check(task: Task) -> dict:
    """The manifest of the task's folder, or a new one; writes nothing. ValueError if the folder holds anything that was made otherwise."""
    path, manifest = task.out / NAME, {"made_by": MADE_BY, "parameters": task.parameters, "files": {}}
    if path.exists():
        manifest = read(path)
    made = manifest["parameters"]
    names = [name for name in {**made, **task.parameters} if made.get(name) != task.parameters.get(name)]
    if names:
        differences = "; ".join(f"{name} {made.get(name)!r}, not {task.parameters.get(name)!r}" for name in names)
        raise ValueError(f"out: {task.out} was made with other parameters: {differences}. Choose another folder")
    for path in (task.out / part for part in task.parts if part not in manifest["files"]):
        if path.exists():
            raise ValueError(f"out: {path} was not made by this command ({NAME} does not name it); choose another folder")
    return manifest


def read(path: os.PathLike) -> dict:
    """The manifest in a file; ValueError if it is damaged, or another's."""
    try:
        manifest = store.unseal(path.read_bytes())
        if (
            manifest["made_by"] == MADE_BY
            and manifest["parameters"].keys()
            and all(facts["sha256"] for facts in manifest["files"].values())
        ):
            return manifest
        reason = ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f" or is damaged ({error})"
    raise ValueError(f"out: {path} was not written by this command{reason}; choose another folder")


def is_finished(task: Task, part: str, manifest: dict) -> bool:
    """Whether a part is there as it was written; a damaged one is set aside."""
    path, facts = task.out / part, manifest["files"].get(part)
    if facts is None or not path.exists():
        return False
    found = layouts.folder_facts(path) if path.is_dir() else {"bytes": path.stat().st_size, "sha256": store.digest(path)}
    different = [f"{name} {found[name]}, not {facts[name]}" for name in found if found[name] != facts.get(name)]
    if different:
        store.set_aside(path, f"{different[0]}")
    return not different


def commit(task: Task, manifest: dict, row: dict) -> None:
    """Enter a complete part of the work folder in the manifest and give it its final name. row: that of the part's last block."""
    work, path = task.work / row["part"], task.out / row["part"]
    if work.is_dir():
        facts = {name: row[name] for name in ("files", "bytes", "sha256")}
    else:
        facts = {"bytes": work.stat().st_size} | {kind: store.digest(work, kind) for kind in ("sha256", "md5")}
    manifest["files"][row["part"]] = facts
    save(task, manifest)
    path.parent.mkdir(exist_ok=True)
    os.replace(work, path)


def save(task: Task, manifest: dict) -> None:
    facts = {"classes": task.source.classes, "device": task.device, "stamp": stamp()}
    store.write_atomic(task.out / NAME, store.seal(manifest | facts))
