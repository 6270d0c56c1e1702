"""Failures of a network as their owner has them: a folder of pictures with or without class folders, a file of arrays, or a data set."""

from pathlib import Path

import numpy as np
import torch

from rtalib.data.decoding import decode
from rtalib.data.folders import all_pictures, class_files
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset
from rtalib.errors import unknown


def read_failures(name: str | Path, data: LabeledImages) -> tuple[LabeledImages, bool]:
    """(images at the side of `data` with its classes, whether they have labels).

    name: a folder whose class folders are some of those of `data`; a folder of loose pictures, which have no labels; or anything that
    load_dataset reads; its test split is taken. ValueError for a folder without a picture, or for other classes.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir() or (folder / "data.npy").exists():
        found = load_dataset(name, "test", side=data.images.shape[-1])
        if found.num_classes != data.num_classes:
            raise ValueError(f"failures: expected {data.num_classes} classes like {data.name!r}, got {found.num_classes} in {name}")
        return LabeledImages(found.images, found.labels, data.classes, found.name), True
    paths, named = all_pictures(folder)
    if not paths:
        raise ValueError(f"failures: {folder} holds no picture")
    for other in sorted(set(named) - set(data.classes)):
        raise unknown(f"class folder of the failures in {folder}", other, data.classes)
    files = class_files(folder, data.classes)[0] if named else [(path, 0) for path in paths]
    images = decode(((str(file), file) for file, _ in files), len(files), lambda shape: np.empty(shape, np.uint8), data.images.shape[-1])
    labels = torch.tensor([label for _, label in files])
    return LabeledImages(torch.from_numpy(images), labels, data.classes, folder.name), bool(named)
