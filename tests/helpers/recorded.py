"""A recorder of launches for machines without a GPU: it keeps the operators that a function runs, and runs them again on the same memory.

As in a CUDA graph, what the function reads of Python is fixed when it is recorded, and weights, statistics and generators are those of the
moment of the replay.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rtalib.training import captured

HOST = {"_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "_unique2"}  # a graph neither waits for values nor brings them


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations, self.before = [], {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        for tensor in tree_leaves((arguments, options)):
            if isinstance(tensor, torch.Tensor):
                self.before.setdefault(tensor.untyped_storage().data_ptr(), (tensor.detach(), tensor.detach().clone()))
        result = function(*arguments, **(options or {}))
        self.operations.append((function, arguments, options or {}, result))
        return result

    def undo(self):
        """What the recording has computed, as that of a CUDA graph does not: statistics that moved, say."""
        for tensor, value in self.before.values():
            tensor.copy_(value)

    def asks(self) -> set[str]:
        """Operators that wait for the device or bring values to it."""
        return {function._schema.name.removeprefix("aten::") for function, *_ in self.operations} & HOST

    def play(self):
        for function, arguments, options, kept in self.operations:
            found = function(*arguments, **options)
            for ours, theirs in zip(tree_leaves(kept), tree_leaves(found), strict=True):
                if isinstance(ours, torch.Tensor) and ours.data_ptr() != theirs.data_ptr():  # neither in place nor a view
                    ours.copy_(theirs)


class Recorder:
    """Counts recordings and replays."""

    def __init__(self, monkeypatch):
        self.tapes, self.replays = [], 0
        monkeypatch.setenv("RTALIB_CAPTURE", "1")
        monkeypatch.setitem(captured.RECORDERS, "cpu", self)

    def __call__(self, function, inputs):
        held, tape = [tensor.detach().clone() for tensor in inputs], Tape()
        with torch.random.fork_rng([]), tape:
            results = function(*held)
        tape.undo()
        self.tapes.append(tape)

        @torch.no_grad()
        def replay(*inputs):
            self.replays += 1
            for ours, theirs in zip(held, inputs, strict=True):
                ours.copy_(theirs.detach())
            tape.play()
            return results

        return replay

    @property
    def recordings(self) -> int:
        return len(self.tapes)

    def asks(self) -> set[str]:
        return set().union(*(tape.asks() for tape in self.tapes))
