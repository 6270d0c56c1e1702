"""Training state on disk: written atomically, read without pickle, refused for another run, set aside if damaged."""

import hashlib
import io
import os
import warnings
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import nn

from rtalib.infra.store import write_atomic

FORMAT = 1


def save(
    path: Path | str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict],
    made_for: dict,
    best: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write `path` atomically. `made_for`: plain values that say which run this is. `best`: the weights to end with, if not the last."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history, "made_for": made_for, "format": FORMAT}
    if best is not None:
        state["best"] = best
    buffer = io.BytesIO()
    torch.save(_plain(state), buffer)
    write_atomic(Path(path), _title(buffer.getvalue()) + buffer.getvalue())


def _plain(value: object) -> object:
    """The value with NumPy's numbers and arrays, and paths, as Python's own: those that are read back without pickle."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return type(value)((_plain(key), _plain(item)) for key, item in value.items())
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def load(path: Path | str, model: nn.Module, optimizer: torch.optim.Optimizer, made_for: dict) -> list[dict]:
    """Restore `model` and `optimizer` in place; returns the history, one dict per finished epoch, empty if there is no checkpoint.

    A damaged checkpoint (a truncated copy, a changed bit) is renamed to <name>.unreadable, with a warning, and the training starts
    again; left in place, it would make every retry fail. ValueError if it was made for another run or holds another network's weights.
    """
    if not Path(path).exists():
        return []
    try:
        state = read(path)
        found = {"format": state["format"], **state["made_for"]}
        weights, steps, history = state["model"], state["optimizer"], state["history"]
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        os.replace(path, f"{path}.unreadable")
        reason = str(error).partition("\n")[0]
        warnings.warn(f"{path} is no whole checkpoint ({reason}); it is set aside and training starts again", stacklevel=2)
        return []
    expected = {"format": FORMAT, **_plain(made_for)}
    different = [f"{k} was {found.get(k)!r}, is now {expected.get(k)!r}" for k in {**found, **expected} if found.get(k) != expected.get(k)]
    if different:
        raise ValueError(
            f"checkpoint: {path} belongs to another run: {'; '.join(different)}. Use another file, or delete it to start over."
        )
    try:
        model.load_state_dict(weights)
        optimizer.load_state_dict(steps)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"checkpoint: {path} holds the weights of another network than {type(model).__name__}: {error}") from error
    return history


def best(path: Path | str) -> dict[str, torch.Tensor] | None:
    """The best weights so far, on the CPU, of a checkpoint that `load` has accepted; None if it keeps none."""
    return read(path).get("best")


def _title(content: bytes) -> bytes:
    """The first line of the file: torch's reader takes changed weights as they are."""
    return f"rtalib checkpoint, SHA-256 {hashlib.sha256(content).hexdigest()}\n".encode()


def read(path: Path | str) -> dict:
    """What was saved, on the CPU; ValueError if the content is not that of its title. Earlier versions wrote no title."""
    data = Path(path).read_bytes()
    size = 0 if data.startswith(b"PK") else len(_title(b""))
    if size and data[:size] != _title(data[size:]):
        raise ValueError("its content has changed since it was written")
    return torch.load(io.BytesIO(data[size:]), map_location="cpu", weights_only=True)
