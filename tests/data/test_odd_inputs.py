"""Inputs that nobody thought of, drawn by Hypothesis: each is read as a simple reference reads it, or refused in one line that names it.

A default run tries some 700, one with the slow tests some 10,000 more. Runs are reproducible: the same inputs each time.
"""

import io
import os
import pickle
import pickletools
import tarfile
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from encoded import encode, oriented
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from rtalib.corruptions.on_disk.inputs import find
from rtalib.data import pickles, pictures
from rtalib.data.loading import load_dataset

REFUSALS = (ValueError, TypeError, FileNotFoundError)
LOSSLESS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "RGB", "RGBA", "I;16", "I", "F"),
    "BMP": ("1", "L", "RGB"),
    "PPM": ("1", "L", "RGB", "I"),
    "WEBP": ("RGB", "RGBA"),
}
LOSSY = {"JPEG": ("L", "RGB", "CMYK"), "GIF": ("L", "P", "RGB")}
WITH_EXIF = ("PNG", "TIFF", "WEBP", "JPEG")
few_and_many = pytest.mark.parametrize("trials", ["few", pytest.param("many", marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))


def attempt(trials, count, check, *strategies):
    """check(...) for `count` drawn inputs, or fifteen times as many."""
    chosen = settings(
        max_examples=count if trials == "few" else 15 * count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen(given(*strategies)(check))()


def refused(error: Exception, name: str) -> bool:
    """One line that names the file."""
    return isinstance(error, REFUSALS) and name in str(error) and "\n" not in str(error)


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


@st.composite
def damage(draw, size):
    """A function of bytes: flipped, cut, doubled, blanked or overwritten somewhere."""
    steps = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))

    def apply(data: bytes) -> bytes:
        for kind, where, value in steps:
            at, some = where % max(1, len(data)), 1 + value % size
            if kind == 0:
                data = data[:at] + bytes([data[at] ^ (value or 1)]) + data[at + 1 :] if data else data
            elif kind == 1:
                data = data[:at]
            elif kind == 2:
                data = data[: at + some] + data[at:]
            elif kind == 3:
                data = data[:at] + bytes(len(data[at : at + some])) + data[at + some :]
            else:
                data = data[:at] + bytes([value]) * 4 + data[at + 4 :]
        return data

    return apply


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
            found[path.name] += sum(entry.suffix.lower() in (".png", ".jpeg", ".tif", ".webp", ".pgm") for entry in inside)
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


# ------------------------------------------------------------------------------------------------------- arrays

PAIRS = [("images", "labels"), ("x_train", "y_train"), ("X_test", "Y_test"), ("train_images", "train_labels"), ("val_images", "val_labels")]
ODD = st.sampled_from(["i1", "i8", "f4", "?", "U3", "S2", "O", "u1,u1", "M8[s]", ">u2"])


@st.composite
def arrays(draw, n, shapes, kind, high):
    """Mostly n rows of one of these shapes and of this type; one in eight is of another length or type."""
    n = draw(st.integers(0, 5)) if draw(st.integers(0, 7)) == 0 else n
    kind = draw(ODD) if draw(st.integers(0, 7)) == 0 else kind
    shape = (n, *draw(st.sampled_from(shapes)))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, high, shape)
    try:
        return values.astype(kind)
    except (TypeError, ValueError):
        return np.zeros(shape, kind)


@st.composite
def archives(draw):
    """{name: array} of one split or several; (the names of) a pair may be torn apart."""
    held = {}
    for images, labels in draw(st.lists(st.sampled_from(PAIRS), min_size=1, max_size=2)):
        n, h, w = draw(st.integers(1, 5)), draw(st.integers(0, 9)), draw(st.integers(1, 9))
        shapes = [(h, w), (h, w, 1), (h, w, 3), (3, h, w), (1, h, w), (h, w, 4), (), (1, 1, 1, 3)]
        held[images] = draw(arrays(n, shapes, "u1", 256))
        held[labels] = draw(arrays(n, [(), (), (1,), (3,)], draw(st.sampled_from(["u1", "i8"])), draw(st.sampled_from([1, 3, 300]))))
    if draw(st.integers(0, 7)) == 0:
        del held[draw(st.sampled_from(sorted(held)))]
    return held


@few_and_many
def test_npz_of_any_arrays(trials):
    def check(held, split):
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "odd.npz"
            np.savez(path, **held)
            try:
                data = load_dataset(path, split)
            except REFUSALS as error:
                assert str(error).startswith(("images: ", "labels: ")) or refused(error, "odd.npz")
                return
            first = data.images[0].permute(1, 2, 0).numpy()
            sources = [value for value in held.values() if value.dtype == np.uint8 and value.ndim >= 3 and len(value) == len(data)]
            meant = [form for value in sources for form in forms(value[0]) if form.shape[:2] == first.shape[:2]]
            assert any(np.array_equal(first, np.broadcast_to(form, first.shape)) for form in meant)
            assert data.images.dtype == torch.uint8 and min(data.images.shape) > 0 and data.hard_labels.max() < data.num_classes

    attempt(trials, 120, check, archives(), st.sampled_from(["train", "test"]))


def forms(image: np.ndarray) -> list[np.ndarray]:
    """(H,W,1 or 3): the ways in which one image of a file can be meant."""
    if image.ndim == 2:
        return [image[..., None]]
    if image.ndim != 3:
        return []
    return [form for form in (image, image.transpose(1, 2, 0)) if form.shape[2] in (1, 3)]


# ------------------------------------------------------------------------------------------------------- damaged containers


def containers(place: Path) -> dict[str, tuple[str, Path]]:
    """{what load_dataset is asked for: (the file, its bytes are damaged)} of small sets that load."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(6) % 3
    np.savez(place / "plain.npz", images=pixels, labels=labels, classes=np.array(["x", "y", "z"]))
    np.savez_compressed(place / "small.npz", images=pixels, labels=labels)
    (place / "arrays").mkdir()
    np.save(place / "arrays" / "data.npy", pixels)
    np.save(place / "arrays" / "label.npy", labels)
    table = pa.table({"image": [{"bytes": encode(image, "PNG"), "path": None} for image in pixels], "label": labels})
    names = {"huggingface": '{"info": {"features": {"label": {"names": ["x", "y", "z"]}}}}'}
    pq.write_table(table.replace_schema_metadata(names), place / "s.parquet")
    batch = pickle.dumps({b"data": pixels.reshape(-1)[:1152].repeat(16).reshape(6, 3072), b"labels": labels.tolist()}, 2)
    (place / "batches" / "cifar-10-batches-py").mkdir(parents=True)
    (place / "batches" / "cifar-10-batches-py" / "test_batch").write_bytes(batch)
    (place / "tar").mkdir()
    with tarfile.open(place / "tar" / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(place / "batches" / "cifar-10-batches-py", "cifar-10-batches-py")
    return {
        str(place / "plain.npz"): ("", place / "plain.npz"),
        str(place / "small.npz"): ("", place / "small.npz"),
        str(place / "arrays"): ("", place / "arrays" / "data.npy"),
        str(place / "s.parquet"): ("", place / "s.parquet"),
        "cifar10": (str(place / "batches"), place / "batches" / "cifar-10-batches-py" / "test_batch"),
        "cifar10 ": (str(place / "tar"), place / "tar" / "cifar-10-python.tar.gz"),
    }


@few_and_many
def test_damaged_containers(trials):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sets = containers(place)
        whole = {name: path.read_bytes() for name, (_, path) in sets.items()}
        for name, (root, _) in sets.items():
            assert len(load_dataset(name.strip(), "test", root=root)) == 6

        def check(name, spoil):
            root, path = sets[name]
            path.write_bytes(spoil(whole[name]))
            try:
                data = load_dataset(name.strip(), "test", root=root)
                assert data.images.shape[1] == 3 and data.hard_labels.max() < data.num_classes
            except REFUSALS as error:
                known = str(error).startswith(("labels: ", "images: "))
                assert known or refused(error, path.name) or refused(error, "label.npy"), error
            finally:
                path.write_bytes(whole[name])

        attempt(trials, 120, check, st.sampled_from(sorted(sets)), damage(32))


# ------------------------------------------------------------------------------------------------------- pickles

TEXTS = st.text(max_size=5)
NUMBERS = st.one_of(st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False))
LEAVES = st.one_of(st.none(), NUMBERS, TEXTS, st.binary(min_size=1, max_size=9))


def holding(inner):
    lists = st.lists(inner, max_size=3)
    return st.one_of(lists, lists.map(tuple), st.dictionaries(st.one_of(TEXTS, st.integers()), inner, max_size=3))


PLAIN = st.recursive(LEAVES, holding, max_leaves=12)


@few_and_many
def test_plain_pickles(trials):
    def check(value, protocol):
        data = pickle.dumps(value, protocol)
        assert pickles.load(data) == pickle.loads(data) == value

    attempt(trials, 60, check, PLAIN, st.integers(0, 5))


def instructions(value, protocol: int) -> list[bytes]:
    data = pickle.dumps(value, protocol)
    starts = [at for _, _, at in pickletools.genops(data)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


SOURCES = [
    part
    for protocol in (2, 5)
    for part in instructions({"data": np.zeros((2, 4), np.uint8), "labels": [1, 2], "i": np.arange(3), "t": (b"x", "y")}, protocol)
]


@few_and_many
def test_edited_pickles(trials):
    """Instructions of pickles dropped, doubled, moved and replaced by those of others: data, or a refusal."""
    edits = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, len(SOURCES) - 1)), max_size=4)
    extra = [b"0", b"1", b"2", b"\x81", b"cos\nsystem\n", b"h\x01", b"K\x00", b"}", b"J\xff\xff\xff\xff", b"X\x02\0\0\0O8"]

    def check(value, protocol, changes):
        parts = instructions(value, protocol)
        for kind, at, other in changes:
            at %= max(1, len(parts))
            new = (SOURCES + extra)[other]
            old = parts[at : at + 1]
            parts[at : at + 1] = ([], old * 2, [new], [*old, new])[kind]
        try:
            pickles.load(b"".join(parts))
        except ValueError as error:
            assert "object at 0x" not in str(error)

    array = st.integers(0, 3).map(lambda n: np.arange(4 * n, dtype=np.uint8).reshape(n, 4) if n else np.arange(3))
    attempt(trials, 120, check, st.dictionaries(TEXTS, st.one_of(array, PLAIN), max_size=3), st.sampled_from([2, 3, 4, 5]), edits)
