"""Archives and pickles that nobody thought of, drawn by Hypothesis: read as they are meant, or refused in one line."""

import pickle
import pickletools
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from encoded import encode
from hypothesis import strategies as st
from odd_inputs import REFUSALS, attempt, damage, few_and_many, refused

from rtalib.data import pickles
from rtalib.data.loading import load_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))


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
