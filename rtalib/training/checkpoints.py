"""Training state on disk: written atomically, read without pickle, refused for another run, set aside if unreadable."""

import io
import os
import warnings
from pathlib import Path
from pickle import UnpicklingError

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
    torch.save(state, buffer)
    write_atomic(Path(path), buffer.getvalue())


def load(path: Path | str, model: nn.Module, optimizer: torch.optim.Optimizer, made_for: dict) -> list[dict]:
    """Restore `model` and `optimizer` in place; returns the history, one dict per finished epoch, empty if there is no checkpoint.

    An unreadable checkpoint (a disk fault, a truncated copy) is renamed to <name>.unreadable, with a warning, and the training starts
    again; left in place, it would make every retry fail. ValueError if it was made for another run or holds another network's weights.
    """
    if not Path(path).exists():
        return []
    content = Path(path).read_bytes()  # a disk raises its errors here; later ones are the content's
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        found = {"format": state["format"], **state["made_for"]}
    except (UnpicklingError, RuntimeError, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        os.replace(path, f"{path}.unreadable")
        reason = str(error).partition("\n")[0]
        warnings.warn(f"{path} is no readable checkpoint ({reason}); it is set aside and training starts again", stacklevel=2)
        return []
    expected = {"format": FORMAT, **made_for}
    different = [f"{k} was {found.get(k)!r}, is now {expected.get(k)!r}" for k in {**found, **expected} if found.get(k) != expected.get(k)]
    if different:
        raise ValueError(
            f"checkpoint: {path} belongs to another run: {'; '.join(different)}. Use another file, or delete it to start over."
        )
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise ValueError(f"checkpoint: {path} holds the weights of another network than {type(model).__name__}: {error}") from error
    optimizer.load_state_dict(state["optimizer"])
    return state["history"]


def best(path: Path | str) -> dict[str, torch.Tensor] | None:
    """The best weights so far, on the CPU, of a checkpoint that `load` has accepted; None if it keeps none."""
    return torch.load(path, map_location="cpu", weights_only=True).get("best")
