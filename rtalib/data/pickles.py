"""Pickled data without unpickling: numbers, texts, lists, tuples, dictionaries and NumPy arrays of integers, and nothing else.

A pickle is a program for a stack machine. Python's own machine calls what the program names, and NumPy believes what a pickle says of
memory. This machine knows only the instructions that such data needs and calls nothing; an array is made when type, shape and bytes fit.
"""

import codecs
import io
import math
import pickletools
from typing import Any, BinaryIO

import numpy as np

MAX_STEPS = 2**20  # instructions; a batch of CIFAR-10 has 30,000
MAX_BYTES = 2**26  # made of texts
WORDS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")  # types of arrays
CORE = ("numpy.core", "numpy._core")
GLOBALS = {  # (module, name) -> what we call it
    ("_codecs", "encode"): "encode",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    **{(f"{core}.multiarray", "_reconstruct"): "_reconstruct" for core in CORE},
    **{(f"{core}.numeric", "_frombuffer"): "_frombuffer" for core in CORE},
}


class _Global(str):
    """One of the names in GLOBALS."""


class _Dtype:
    def __init__(self, word: Any) -> None:
        self.word, self.order = _text(word), "|"
        _require(self.word in WORDS, "arrays hold integers")

    def build(self, state: Any) -> None:
        _require(type(state) is tuple and len(state) >= 5 and all(part is None for part in state[2:5]), "the type of an array is plain")
        self.order = _text(state[1])
        _require(self.order in ("<", ">", "|", "="), "the type of an array has a byte order")


class _Array:
    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _require(type(state) is tuple and len(state) == 5, "an array's state is version, shape, type, order and bytes")
        self.fill(*state[1:])

    def fill(self, shape: Any, dtype: Any, fortran: Any, data: Any) -> "_Array":
        _require(type(shape) is tuple and len(shape) <= 4 and all(type(n) is int and n >= 0 for n in shape), "a shape is a few integers")
        _require(type(dtype) is _Dtype and type(data) in (bytes, bytearray), "an array has a type and its bytes")
        kind = np.dtype(dtype.order + dtype.word)
        _require(math.prod(shape) * kind.itemsize == len(data), "an array has as many bytes as its shape says")
        self.value = np.frombuffer(data, kind).reshape(shape, order="F" if fortran is True else "C")
        return self


def load(data: bytes) -> Any:
    """What the pickle holds; texts of Python 2 are bytes, and the values of a dictionary are arrays if they were.

    Raises ValueError for a pickle that needs anything else, is damaged, or takes more than MAX_STEPS.
    """
    try:
        result = _run(io.BytesIO(data))
    except (IndexError, KeyError) as error:  # an empty stack, an unknown number of the memo
        raise ValueError(f"the pickle is damaged: {error!r}") from error
    return {key: _plain(value) for key, value in result.items()} if type(result) is dict else _plain(result)


def _plain(value: Any) -> Any:
    if type(value) is _Array:
        _require(value.value is not None, "an array has its bytes")
        return value.value
    return value


def _run(stream: BinaryIO) -> Any:
    stack: list[Any] = []
    below: list[list[Any]] = []  # what lies under each mark
    memo: dict[int, Any] = {}
    made_bytes = 0

    def since_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, below.pop()
        return items

    for _ in range(MAX_STEPS):
        name, argument = _instruction(stream)
        match name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                below.append(stack)
                stack = []
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin-1") if isinstance(argument, str) else argument)
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
                stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[name]())
            case "LIST" | "TUPLE":
                items = since_mark()
                stack.append(items if name == "LIST" else tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                _require(len(stack) >= count, "a tuple has its items")
                stack[-count:] = [tuple(stack[-count:])]
            case "DICT":
                items = since_mark()
                stack.append({})
                _set(stack[-1], items)
            case "APPEND" | "APPENDS":
                items = since_mark() if name == "APPENDS" else [stack.pop()]
                _require(type(stack[-1]) is list, "items are appended to a list")
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = since_mark() if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
                _set(stack[-1], items)
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_global(_text(module), _text(attribute)))
            case "REDUCE":
                arguments = stack.pop()
                made = _made(stack.pop(), arguments)
                made_bytes += len(made) if type(made) is bytes else 0
                _require(made_bytes <= MAX_BYTES, f"at most {MAX_BYTES:,} bytes are made")
                stack.append(made)
            case "BUILD":
                state = stack.pop()
                _require(type(stack[-1]) in (_Dtype, _Array), "only arrays and their types have a state")
                stack[-1].build(state)
            case _ if name in CONSTANTS:
                stack.append(argument)
            case _:
                raise ValueError(f"the instruction {name} is not allowed in a data file")
    raise ValueError(f"more than {MAX_STEPS:,} instructions")


CONSTANTS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE"}
CONSTANTS |= {"SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}


def _instruction(stream: BinaryIO) -> tuple[str, Any]:
    code = stream.read(1)
    known = pickletools.code2op.get(code.decode("latin-1"))
    if known is None:
        raise ValueError("the pickle is truncated" if not code else f"{code!r} is no instruction")
    if known.name == "STRING":  # of protocol 0, in quotes; pickletools takes ASCII alone
        return known.name, codecs.escape_decode(stream.readline().strip()[1:-1])[0]
    return known.name, None if known.arg is None else known.arg.reader(stream)


def _set(target: Any, items: list[Any]) -> None:
    _require(type(target) is dict and len(items) % 2 == 0, "pairs are put into a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        _require(type(key) in (str, bytes, int), "keys are texts or integers")  # hashing nested tuples can take for ever
        target[key] = value


def _global(module: str, name: str) -> _Global:
    if (module, name) not in GLOBALS:
        raise ValueError(f"{module}.{name} is not allowed in a data file")
    return _Global(GLOBALS[module, name])


def _made(function: Any, arguments: Any) -> Any:
    _require(type(function) is _Global and type(arguments) is tuple and arguments, "only arrays, their types and their bytes are made")
    if function == "encode":  # how Python 3 writes bytes for Python 2
        text, codec = arguments
        _require(type(text) is str and codec in ("latin1", "latin-1"), "bytes are texts in Latin-1")
        return text.encode("latin-1")
    if function == "dtype":
        return _Dtype(arguments[0])
    if function == "_reconstruct":
        return _Array()  # its state follows
    if function == "_frombuffer":
        data, dtype, shape, order = arguments
        return _Array().fill(shape, dtype, order == "F", data)
    raise ValueError("an array without its bytes")


def _text(value: Any) -> str:
    _require(type(value) in (str, bytes), "names are texts")
    return value if isinstance(value, str) else value.decode("latin-1")


def _require(condition: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"expected that {expected}")
