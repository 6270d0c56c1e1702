"""Pickles of plain data are read as Python reads them; what would call, believe or take for ever is refused."""

import pickle
import time

import numpy as np
import pytest

from rtalib.data import pickles
from rtalib.data.loading import load_dataset

DATA = np.arange(2 * 3072, dtype=np.uint64).astype(np.uint8).reshape(2, 3072)


def global_(module: bytes, name: bytes) -> bytes:
    return b"c" + module + b"\n" + name + b"\n"


def text(words: bytes) -> bytes:
    return b"X" + len(words).to_bytes(4, "little") + words


def doubled(depth: int) -> bytes:
    """A list of tuples; each holds the previous one twice, so the last has 2 ** depth leaves in a few bytes."""
    steps = (b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) for k in range(depth))
    return b"(K\x00q\x00" + b"".join(steps) + b"l"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2, 2**40, 2**70, 1.5, True, None], b"b": (), 3: ("x", ("y",), (1, 2, 3, 4))},
        [[], {}, [[b"bytes"], "t\u00e4xt \U0001f600"], {"k": {"l": []}}],
    ],
)
def test_plain_data_is_read_as_python_reads_it(protocol, value):
    assert pickles.load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_are_read_as_numpy_reads_them(protocol):
    arrays = {
        "data": DATA,
        "fortran": np.asfortranarray(DATA[:, :5]),
        "big-endian": np.array([1, 2, 300], ">i4"),
        "labels": np.array([[3, 1]], np.int64),
        "bytes": b"\x00\xff",
    }
    found = pickles.load(pickle.dumps(arrays, protocol))
    for name, array in arrays.items():
        assert np.array_equal(found[name], array) and np.asarray(found[name]).dtype == np.asarray(array).dtype, name


def test_the_published_form_of_python_2_is_read():
    """Bytes as texts, for the type of the array as well; as in data_batch_1."""
    short = lambda words: b"U" + bytes([len(words)]) + words  # noqa: E731
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02K\x00\x85" + short(b"b") + b"tR"
    kind = b"cnumpy\ndtype\n(" + short(b"u1") + b"K\x00K\x01tR(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K\x02M\x00\x0c\x86" + kind + b"\x89T" + (6144).to_bytes(4, "little") + DATA.tobytes() + b"tb"
    found = pickles.load(b"\x80\x02}q\x00(" + short(b"data") + array + state + short(b"labels") + b"](K\x03K\x01eu.")
    assert np.array_equal(found[b"data"], DATA) and found[b"labels"] == [3, 1]


NDARRAY, DTYPE = global_(b"numpy", b"ndarray"), global_(b"numpy", b"dtype")
OBJECT = DTYPE + b"(" + text(b"O8") + b"\x89\x88tR"
FLAGS = b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"  # an object type that says it holds no objects
POINTER = global_(b"_codecs", b"encode") + b"(" + text(b"AAAAAAAA") + text(b"latin1") + b"tR"
ARRAY = global_(b"numpy.core.multiarray", b"_reconstruct") + b"(" + NDARRAY + b"K\x00\x85U\x01btR"
BYTE = DTYPE + b"(" + text(b"u1") + b"\x89\x88tR"
LARGE = b"\x8a\x05\x00\x00\x00\x00\x01"  # 2 ** 32

HOSTILE = {
    "a chosen pointer": NDARRAY + b"(" + NDARRAY + b"((K\x01t" + OBJECT + FLAGS + POINTER + b"tRtR.",
    "the same by its state": ARRAY + b"(K\x01K\x01\x85" + OBJECT + FLAGS + b"\x89" + POINTER + b"tb.",
    "memory as it was": NDARRAY + b"(K\x04M\x00\x0ct" + BYTE + b"\x86R.",
    "fewer bytes than its shape": ARRAY + b"(K\x01K\x09\x85" + BYTE + b"\x89" + POINTER + b"tb.",
    "a shape that overflows": ARRAY + b"(K\x01" + LARGE + LARGE + b"\x86" + BYTE + b"\x89" + POINTER + b"tb.",
    "a negative shape": ARRAY + b"(K\x01J\xff\xff\xff\xffJ\xf8\xff\xff\xff\x86" + BYTE + b"\x89" + POINTER + b"tb.",
    "a type of fields": BYTE + b"(K\x03" + text(b"|") + b"N]}K\x00K\x00K\x00tb.",
    "an array without bytes": b"}" + text(b"data") + ARRAY + b"s.",
    "a call": global_(b"os", b"system") + b"(" + text(b"true") + b"tR.",
    "a dotted name": b"\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
    "the state of a list": b"]}b.",
    "the state of a name": NDARRAY + b"}b.",
    "a persistent id": b"Px\n.",
    "an extension": b"\x82\x01.",
    "an unknown instruction": b"\xff.",
    "an instance": b"(cnumpy\nndarray\no.",
    "an object": NDARRAY + b")\x81.",
    "a set": b"\x8f.",
    "nothing": b"",
    "an empty stack": b".",
    "no mark": b"e.",
    "an unknown number of the memo": b"h\x05.",
    "2 ** 60 bytes": b"\x8e" + (2**60).to_bytes(8, "little") + b".",
    "no end": b"N" * (pickles.MAX_STEPS + 5),
    "text that is made again and again": b"X"
    + (2**20).to_bytes(4, "little")
    + b"a" * 2**20
    + b"q\x00"
    + (global_(b"_codecs", b"encode") + b"(h\x00" + text(b"latin1") + b"tR") * 80
    + b".",
    "a tuple as a key": b"}(" + doubled(40) + b"q\x77h\x28K\x01u.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_at_once(name, tmp_path):
    began = time.process_time()
    with pytest.raises(ValueError):
        pickles.load(b"\x80\x02" + HOSTILE[name])
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"\x80\x02" + HOSTILE[name])
    with pytest.raises(ValueError, match="test_batch is refused or damaged"):
        load_dataset("cifar10", "test", root=tmp_path)
    assert time.process_time() - began < 20


BAD_LABELS = [b"(" + doubled(40) + b"h\x28t", b"]]a", b"}", b"N", b"](K\x01\x88e", b"](K\x01G" + bytes(8) + b"e"]
BAD_LABELS += [b"](\x8a\x0a" + b"\x01" * 10 + b"e"]  # beyond 64 bits


@pytest.mark.parametrize("labels", BAD_LABELS)
def test_labels_are_a_flat_list_of_integers(tmp_path, labels):
    data = pickle.dumps(DATA, 2)[2:-1]
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"\x80\x02}(" + text(b"labels") + labels + text(b"data") + data + b"u.")
    with pytest.raises(ValueError, match="test_batch.*expected labels as a flat list of integers"):
        load_dataset("cifar10", "test", root=tmp_path)


def test_python_s_own_machine_would_hang_or_crash_on_some():
    """So that the cases above show something: doubled tuples as keys take twice as long with every level."""
    took = []
    for depth in (16, 20):
        began = time.process_time()
        pickle.loads(b"\x80\x02}(" + doubled(depth) + b"0h" + bytes([depth]) + b"K\x01u.")
        took.append(time.process_time() - began)
    assert took[1] > 4 * took[0]
