"""Small data sets and small batches for every test of corrupted data sets on disk."""

from pathlib import Path

import numpy as np
import pytest
from corrupted_sets import N
from PIL import Image

from rtalib import shapes10
from rtalib.corruptions.on_disk import layouts as generate_layouts


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    """Three batches in every block of twelve images; decoded pictures are kept in the test's own folder."""
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(generate_layouts.BATCH_PIXELS, "cpu", 4 * 32 * 32)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A data set of twelve images of three classes."""
    data = shapes10.make("test", N)
    np.savez(tmp_path / "shapes.npz", images=data.images.numpy(), labels=data.labels.numpy() % 3)
    return tmp_path / "shapes.npz"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of three sizes and formats, in folders with spaces and umlauts, below folders, and directly in the base."""
    base, sizes = tmp_path / "my photos", [(32, 20), (17, 40), (64, 48)]
    names = [
        "hund nr 1/a b.jpg",
        "hund nr 1/ä.PNG",
        "übergroß/x.bmp",
        "übergroß/tief/日本.png",
        "z.jpeg",
        "hund nr 1/c.png",
        "übergroß/y.png",
    ]
    for k, name in enumerate(names):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        width, height = sizes[k % 3]
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(base / name)
    (base / "leer").mkdir()
    (base / "hund nr 1" / ".hidden.png").write_bytes(b"no picture")
    (base / "notes.txt").write_text("no picture either")
    return base
