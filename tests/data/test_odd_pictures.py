"""Pictures and folders that nobody thought of, drawn by Hypothesis: read as a simple reference reads them, or refused in one line."""

import io
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from encoded import encode, oriented
from hypothesis import assume
from hypothesis import strategies as st
from odd_inputs import REFUSALS, attempt, damage, few_and_many, refused
from PIL import Image, ImageOps

from rtalib.corruptions.on_disk.inputs import find
from rtalib.data import pictures
from rtalib.data.loading import load_dataset

LOSSLESS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "RGB", "RGBA", "I;16", "I", "F"),
    "BMP": ("1", "L", "RGB"),
    "PPM": ("1", "L", "RGB", "I"),
    "WEBP": ("RGB", "RGBA"),
}
LOSSY = {"JPEG": ("L", "RGB", "CMYK"), "GIF": ("L", "P", "RGB")}
WITH_EXIF = ("PNG", "TIFF", "WEBP", "JPEG")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))


# ------------------------------------------------------------------------------------------------------- one picture


@st.composite
def images(draw, formats):
    """(format, the picture as Pillow holds it, EXIF orientation or None)"""
    format = draw(st.sampled_from(sorted(formats)))
    mode = draw(st.sampled_from(formats[format]))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if mode in ("I;16", "I", "F"):
        levels = random.integers(0, 65536, (height, width))
        image = Image.fromarray(levels.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA").convert(mode)
        if mode in ("RGBA", "LA") and draw(st.booleans()):
            image.putalpha(draw(st.sampled_from([0, 1, 254, 255])))
    return format, image, draw(st.one_of(st.none(), st.integers(0, 9))) if format in WITH_EXIF else None


def encoded(format, image, orientation):
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    return encode(image, format, **options) if orientation is None else oriented(image, format, orientation, **options)


def upright(pixels: np.ndarray, orientation: int | None) -> np.ndarray:
    """Transposed if rows and columns change places, then mirrored, by EXIF's table."""
    pixels = pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels
    return pixels[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]


def by_hand(image: Image.Image, orientation: int | None) -> np.ndarray:
    """float (H,W,3) of a lossless picture: levels, alpha and turns in NumPy."""
    if image.mode in ("I;16", "I"):
        return upright(np.stack([np.asarray(image) // 256] * 3, axis=-1), orientation)
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    return upright(rgba[..., :3] * alpha + 255 * (1 - alpha), orientation)


@few_and_many
def test_lossless_pictures(trials):
    def check(drawn):
        format, image, orientation = drawn
        data = encoded(*drawn)
        if image.mode == "F" or (image.mode == "I" and format == "TIFF"):
            with pytest.raises(ValueError, match="^here cannot be decoded as an image: it holds"):
                pictures.read("here", data)
            return
        found = pictures.read("here", data)
        expected = by_hand(image, orientation)
        assert found.mode == "RGB" and found.size == expected.shape[1::-1]
        opaque = image.mode[0] == "I" or np.asarray(image.convert("RGBA"))[..., 3].min() == 255
        assert np.abs(np.asarray(found) - expected).max() <= (0 if opaque else 1)
        assert sorted(pictures.size("here", data)) == sorted(found.size)

    attempt(trials, 120, check, images(LOSSLESS))


@few_and_many
def test_lossy_pictures(trials):
    def check(drawn):
        data = encoded(*drawn)
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(pictures.read("here", data)), np.asarray(ImageOps.exif_transpose(image).convert("RGB")))

    attempt(trials, 40, check, images(LOSSY))


@few_and_many
def test_damaged_pictures(trials):
    def check(drawn, spoil):
        data = spoil(encoded(*drawn))
        try:
            assert pictures.read("here", data).mode == "RGB"
        except ValueError as error:
            assert str(error).startswith("here cannot be decoded as an image: ") and "\n" not in str(error)

    attempt(trials, 120, check, images(LOSSLESS | LOSSY), damage(64))


# ------------------------------------------------------------------------------------------------------- folders

NAMES = st.sampled_from(["a", "b", "Zebra", "x y", "é", "train", "0", "__MACOSX", ".hidden", "c.png", "%s", "test"])
READ = (".png", ".jpeg", ".tif", ".webp", ".pgm", *([".avif"] if pictures.AVIF else []))
FILES = st.sampled_from(["0.png", "1.PNG", "2.jpeg", "3.tif", ".4.png", "notes.txt", "5.webp", "6.pgm", "7.avif"])


@st.composite
def trees(draw):
    """{path below the class folders: None for an empty folder, else a number}; and where links lead."""
    folders = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/".join(names))
    files = draw(st.dictionaries(st.tuples(folders, FILES), st.integers(0, 9), min_size=1, max_size=12))
    return files, draw(st.lists(folders, max_size=2)), draw(st.lists(st.tuples(folders, folders), max_size=2))


def plant(base: Path, tree) -> None:
    files, empty, links = tree
    for (folder, name), number in files.items():
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        try:
            (base / folder).mkdir(parents=True, exist_ok=True)
            (base / folder / name).write_bytes(encode(pixels, {".tif": "TIFF", ".webp": "WEBP"}.get(Path(name).suffix, "PNG")))
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            assume(False)
    for folder in empty:
        try:
            (base / folder).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            assume(False)
    for place, target in links:
        if not os.path.lexists(base / place) and (base / place).parent.is_dir() and (base / target).is_dir():
            (base / place).symlink_to(base / target)


def counted(base: Path) -> Counter:
    """Pictures by class as a simple walk counts them: each real folder once for a class, nothing hidden."""
    found = Counter()
    for path in base.iterdir():
        seen, todo = set(), [path]
        while todo:
            here = todo.pop()
            above = here.is_symlink() and here.resolve() in (here.parent.resolve(), *here.parent.resolve().parents)
            if above or not here.is_dir() or here.name.startswith(".") or os.path.realpath(here) in seen:
                continue
            seen.add(os.path.realpath(here))
            todo += here.iterdir()
            inside = (entry for entry in here.iterdir() if entry.is_file() and not entry.name.startswith("."))
            found[path.name] += sum(entry.suffix.lower() in READ for entry in inside)
    return +found


@few_and_many
def test_folders_of_class_folders(trials):
    def check(tree, train, test):
        with tempfile.TemporaryDirectory() as place:
            base = Path(place) / "set"
            plant(base / train, tree)
            plant(base / test, tree)
            expected = counted(base / train)
            try:
                data = load_dataset(base, "test")
            except REFUSALS as error:
                assert not expected and refused(error, str(base))
                return
            assert data.classes == tuple(sorted(expected))
            assert Counter(data.classes[k] for k in data.labels.tolist()) == expected
            listed = find(str(base), "test", None, None, None)[0]
            assert listed.classes == data.classes and len(listed) == len(data)
            rows = {row: image for rows, images in listed.batches(500) for row, image in zip(rows.tolist(), images, strict=True)}
            keyed = sorted((listed.files[row], image.numpy().tobytes()) for row, image in rows.items())
            assert Counter(pixels for _, pixels in keyed) == Counter(image.numpy().tobytes() for image in data.images)

    splits = st.sampled_from(["train", "Train", "training"]), st.sampled_from(["test", "VAL", "valid", "testing"])
    attempt(trials, 40, check, trees(), *splits)
