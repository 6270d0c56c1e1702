"""A small data set, written corrupted, and what lies in the folder then."""

from pathlib import Path

import numpy as np
import torch

from rtalib import generate
from rtalib.corruptions import corrupt

N = 12
TYPES = ("brightness", "fog")


def write(dataset, out, **options) -> dict:
    options = {"corruptions": TYPES, "workers": 1, "device": "cpu"} | options
    return generate.run(generate.plan(dataset, out, **options))


def content(folder: Path) -> dict[str, bytes]:
    """Every file that is not hidden, without the manifest, which holds times."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "/." not in str(path.relative_to(folder.parent))}


def hidden(folder: Path) -> set[str]:
    """Names of the files that are hidden, or in a hidden folder."""
    return {path.name for path in folder.rglob("*") if path.is_file() and "/." in str(path.relative_to(folder.parent))}


def expected(images: torch.Tensor, name: str, severity: int, **options) -> np.ndarray:
    return corrupt(images, name, severity, **options).permute(0, 2, 3, 1).numpy()
