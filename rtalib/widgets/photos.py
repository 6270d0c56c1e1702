"""Real photographs beside the shapes: those that come with scikit-image, and the user's own."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rtalib.data import pictures
from rtalib.data.images import LabeledImages

# In skimage/data of the package itself (NASA, Stefan van der Walt, Rachel Michetti, SpaceX; CC0, says skimage.data).
FILES = {"cat": "chelsea.png", "astronaut": "astronaut.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}
SIDE = 128  # pixels: as sharp as an explorer shows them, and quick enough for every corruption to follow a slider


def photographs(side: int = SIDE) -> LabeledImages:
    """Four photographs, cropped around the middle; ModuleNotFoundError if scikit-image (of the extra `notebooks`) is not installed."""
    package = importlib.util.find_spec("skimage")  # found, not imported: only its files are wanted
    if package is None:
        raise ModuleNotFoundError("scikit-image is not installed; its photographs come with `pip install rtalib[notebooks]`")
    folder = Path(package.submodule_search_locations[0]) / "data"
    images = torch.stack([fitted(name, folder / file, side) for name, file in FILES.items()])
    return LabeledImages(images, torch.arange(len(FILES)), tuple(FILES), "photographs")


def fitted(name: str, source: Path | bytes, side: int = SIDE) -> torch.Tensor:
    """uint8 (3,side,side): a picture, cropped around the middle; ValueError naming it if it cannot be read."""
    return torch.from_numpy(np.array(pictures.square(name, source, side))).permute(2, 0, 1).contiguous()


def own(paths: Sequence[Path | str], side: int = SIDE) -> dict[str, torch.Tensor]:
    """{name of the file: picture} for files of the user's; a folder stands for the pictures in it."""
    files = [file for path in map(Path, paths) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return {file.name: fitted(str(file), file, side) for file in files if file.suffix.lower() in pictures.SUFFIXES}
