"""Folders of class folders: the pictures in them, their classes and splits, and what is left out.

What is left out for a reason that its owner may not know is said in one warning: hidden and empty folders, broken links, unread formats.
"""

import hashlib
import os
import warnings
from collections import defaultdict
from pathlib import Path

from rtalib.data.bounds import class_names, parse_json, read_text
from rtalib.data.pictures import OTHER_PICTURES, SUFFIXES

CORRUPTED = ("cifar10-c", "cifar100-c", "tiny-imagenet-c")
NAMES = ("shapes10", "cifar10", "tiny-imagenet", *(f"{name}/<corruption>/<severity>" for name in CORRUPTED))
SPLIT_NAMES = {"train": ("train", "training"), "test": ("test", "valid", "validation", "val", "testing")}
LONGEST = 60  # letters of a name of ours that holds a name of the user's
Labelled = tuple[list[tuple[Path, int]], tuple[str, ...]]  # (file, class number) of each picture, class names
LeftOut = defaultdict[str, list[Path]]  # reason -> what is left out for it


def root_folder(root: str | Path | None = None) -> Path:
    """Where named data sets are looked for: `root`, else $RTALIB_DATA, else ~/.cache/rtalib."""
    base = _expanded(root if root is not None else os.environ.get("RTALIB_DATA") or "~/.cache/rtalib")
    try:
        base.is_dir()
    except OSError as error:  # it is too long, say; a folder that is not there is no error yet
        raise ValueError(f"{'RTALIB_DATA' if root is None else 'root'}: {error.strerror}: {str(base)[:100]}") from error
    return base


def _expanded(name: str | Path) -> Path:
    """With the home folder instead of ~; a name without one stays as it is, where Path.expanduser fails."""
    return Path(os.path.expanduser(name))


def places(name: str, base: Path) -> tuple[Path, Path]:
    """Where a data set that is given by its path may lie: as given, or below `base`."""
    return _expanded(name), base / name


def run_label(dataset: str) -> str:
    """What the name of a run's folder says of its data set. Of a path that is the last part and a digest of the whole, because a/b and a_b,
    or equal names in two working folders, are different data sets."""
    if dataset.split("/")[0] in {name.split("/")[0] for name in NAMES}:
        return dataset.replace("/", "_")
    given, below = map(os.path.abspath, places(dataset, root_folder()))
    path = below if os.path.exists(below) and not os.path.exists(given) else given
    return f"{os.path.basename(path)[:LONGEST]}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}"


def class_folder_files(folder: Path, split: str) -> Labelled:
    """([(file, class)], class names) of a folder of class folders, or of train/ and test/ (or valid/, val/, ...) with such.

    Capitals in the names of splits do not matter. Without split folders one file in five, chosen by the hash of its class and name, is a
    test image: adding files never moves others. What `python -m rtalib corrupt` wrote of one split is that split, whole.
    """
    made_of, classes = _corrupted_set(folder)
    if made_of is not None:
        if made_of != split:
            raise ValueError(f"split: {folder} holds corrupted images of the {made_of!r} split, got {split!r}")
        return class_files(folder, classes)
    found = split_folders(folder)
    if not found:
        files, names = class_files(folder, classes)
        files = [(file, k) for file, k in files if _is_test(file, names[k]) == (split == "test")]
        if not files:
            raise ValueError(f"{folder}: too few images for a {split} split by file name; make train/ and test/ folders")
        return files, names
    if found[split] is None:
        names = "/, ".join(SPLIT_NAMES["test"])
        raise FileNotFoundError(f"{folder} has train/ but no {names}/ folder with class folders for split={split!r}")
    files, names = class_files(found["train"])
    return (files, names) if split == "train" else class_files(found[split], names)


def split_folders(folder: Path) -> dict[str, Path | None]:
    """{'train': folder or None, 'test': folder or None}; empty if there is no train/ with class folders in it.

    Of several test folders the first of SPLIT_NAMES with class folders is taken: test/ often holds pictures without labels.
    """
    here: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            here[path.name.lower()].append(path)
    found = {}
    for split, names in SPLIT_NAMES.items():
        places = [path for name in names for path in here[name]]
        found[split] = next((path for path in places if class_folders(path)), None)  # `train` may be a class
        same = [] if found[split] is None else here[found[split].name.lower()]
        if len(same) > 1:
            raise ValueError(f"{folder} holds both {same[0].name}/ and {same[1].name}/; which of them is the {split} split?")
    return found if found["train"] is not None else {}


def class_folders(folder: Path) -> tuple[str, ...]:
    """Sorted names of the folders in `folder`, hidden ones left out."""
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def class_files(folder: Path, classes: tuple[str, ...] | None = None) -> Labelled:
    """Every picture below each class folder with its class number; linked folders are followed, hidden ones left out.

    Classes are the sorted names of the folders that hold pictures, unless given: then no other folder may hold any.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    left_out = LeftOut(list)
    loose, found = _by_folder(folder, left_out)
    if classes is None:
        classes = tuple(name for name in found if found[name])
    left_out["empty class folders"] += [folder / name for name in found if not found[name] and name not in set(classes)]
    left_out["pictures outside of class folders"] += loose
    warn_left_out(folder, left_out)
    if strange := [name for name in found if found[name] and name not in set(classes)]:
        raise ValueError(f"{folder}: class folders {', '.join(strange)} are not in train/, or are empty there")
    files = [(file, k) for k, name in enumerate(classes) for file in found.get(name, [])]
    if not files:
        raise ValueError(f"{folder}: no image found; expected class folders that hold {', '.join(sorted(SUFFIXES))} files")
    return files, classes


def all_pictures(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Every picture in `folder` and below, and the sorted names of the folders in it that hold any."""
    left_out = LeftOut(list)
    loose, found = _by_folder(folder, left_out)
    left_out["empty folders"] += [folder / name for name in found if not found[name]]
    warn_left_out(folder, left_out)
    return [*loose, *(file for files in found.values() for file in files)], tuple(name for name in found if found[name])


def _by_folder(folder: Path, left_out: LeftOut) -> tuple[list[Path], dict[str, list[Path]]]:
    """The pictures directly in `folder`, and those below each folder in it, by the folder's name, sorted."""
    loose, real, linked = _entries(folder, left_out)
    return loose, {path.name: pictures_below(path, left_out) for path in sorted(real + linked)}


def pictures_below(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """Picture files at any depth, sorted; linked folders are followed, each folder once, real ones first. `left_out` is added to."""
    left_out = LeftOut(list) if left_out is None else left_out
    found, seen = [], set()
    folders, linked = [folder], []
    while folders or linked:
        linked.sort()
        here = folders.pop() if folders else linked.pop(0)
        stat = here.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        pictures, real, links = _entries(here, left_out)
        found += pictures
        folders += real
        linked += links
    return sorted(found)


def pictures_in(folder: Path, left_out: LeftOut) -> list[Path]:
    """Picture files of this folder itself, sorted."""
    return sorted(_entries(folder, left_out)[0])


def _entries(folder: Path, left_out: LeftOut) -> tuple[list[Path], list[Path], list[Path]]:
    """(pictures, folders, linked folders) in a folder, in no order; what is left out goes to `left_out`."""
    pictures, real, linked = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            path, suffix, hidden = folder / entry.name, os.path.splitext(entry.name)[1].lower(), entry.name.startswith(".")
            if entry.is_dir():
                if not hidden and entry.is_symlink() and path.resolve() in path.parent.resolve().joinpath("x").parents:
                    left_out["links to a folder above"].append(path)  # its pictures are of other classes
                elif not hidden:
                    (linked if entry.is_symlink() else real).append(path)
                elif pictures_below(path):
                    left_out["hidden folders"].append(path)
            elif hidden:
                continue
            elif suffix in SUFFIXES and entry.is_file():
                pictures.append(path)
            elif suffix in SUFFIXES and entry.is_symlink():
                left_out["links that lead to no file"].append(path)
            elif suffix in OTHER_PICTURES:
                left_out["pictures of formats that are not read"].append(path)
    return pictures, real, linked


def warn_left_out(folder: Path, left_out: LeftOut) -> None:
    """One warning that names what is left out, by reason."""
    parts = []
    for reason, paths in left_out.items():
        if paths:
            names = [str(path.relative_to(folder)) for path in sorted(paths)]
            parts.append(f"{len(names)} {reason} ({', '.join(names[:3])}{', ...' if names[3:] else ''})")
    if parts:
        warnings.warn(f"{folder}: left out: {'; '.join(parts)}", stacklevel=2)


def _is_test(file: Path, class_name: str) -> bool:
    """By the name without suffix, so that a corrupted copy, which may be of another format, is on the side of its original."""
    name = file.name
    while Path(name).suffix.lower() in SUFFIXES:
        name = Path(name).stem
    return hashlib.sha256(os.fsencode(f"{class_name}/{name}")).digest()[0] % 5 == 0


def _corrupted_set(folder: Path) -> tuple[str | None, tuple[str, ...] | None]:
    """(split, class names) that DIR/<type>/<severity> was made of, by DIR/manifest.json; None for no split, and for any other folder.

    Of a set made with a limit, some class folders may be empty, and keep their numbers.
    """
    path = folder.absolute().parent.parent / "manifest.json"
    try:
        facts = parse_json(read_text(path), str(path))
        if facts["made_by"] != "rtalib corrupt":
            return None, None
        split = facts["parameters"]["split"]
        return (split if split in SPLIT_NAMES else None), class_names(facts["classes"], str(path))
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
