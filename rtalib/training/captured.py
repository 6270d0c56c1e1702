"""Launches recorded once and replayed, for networks of many small operations: a GPU is done with each before Python has launched the next.

The switch is RTALIB_CAPTURE=1. It changes no result: a CUDA graph runs the kernels that the function itself would run. It costs memory: a
graph keeps all that a forward and backward pass allocates.
"""

import os
from collections.abc import Callable, Sequence

import torch

Function = Callable[..., list[torch.Tensor | None]]


def cuda_graph(function: Function, inputs: Sequence[torch.Tensor]) -> Function:
    """Record what `function` launches for inputs of this shape, without computing anything; returns the function that replays it."""
    held = [tensor.detach().clone() for tensor in inputs]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function(*held)
    kinds = {dtype: [i for i, tensor in enumerate(held) if tensor.dtype == dtype] for dtype in {tensor.dtype for tensor in held}}

    def replay(*inputs: torch.Tensor) -> list[torch.Tensor | None]:
        for places in kinds.values():  # a launch per kind, not per tensor
            torch._foreach_copy_([held[i] for i in places], [inputs[i].detach() for i in places])
        graph.replay()
        return results

    return replay


RECORDERS: dict[str, Callable[[Function, Sequence[torch.Tensor]], Function]] = {"cuda": cuda_graph}  # by kind of device


class Captured:
    """`function`, which maps tensors to a list of tensors or None, with its launches recorded at the second call and replayed thereafter.

    The function may read and change other tensors in place (weights, running statistics) and draw from torch's global generators. What it
    reads of Python (a rate, a mode) stays as it was when recorded, so each epoch makes a new one. The first call is plain and prepares the
    libraries; a call with inputs of other shapes, such as a last batch, is plain, too. A replay overwrites the results of the one before
    it. Without the switch, and on a device that cannot record, all calls are plain.

    Raises ValueError if RTALIB_CAPTURE is neither 0 nor 1.
    """

    def __init__(self, function: Function, device: torch.device):
        wish = os.environ.get("RTALIB_CAPTURE", "0")
        if wish not in ("0", "1"):
            raise ValueError(f"RTALIB_CAPTURE: expected 0 or 1, got {wish!r}")
        self.function, self.record = function, RECORDERS.get(device.type) if wish == "1" else None
        self.shapes: list | None = None
        self.replay: Function | None = None

    def __call__(self, *inputs: torch.Tensor) -> list[torch.Tensor | None]:
        if self.record is None:
            return self.function(*inputs)
        shapes = [(tensor.shape, tensor.dtype) for tensor in inputs]
        if self.shapes is None:
            self.shapes = shapes
        elif self.shapes == shapes:
            self.replay = self.replay or self.record(self.function, inputs)
            return self.replay(*inputs)
        return self.function(*inputs)
