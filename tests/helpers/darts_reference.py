"""DARTS networks transcribed from their definition (Liu et al., ICLR 2019), one operation at a time, for comparison.

`norm(x, name)` is the batch normalisation called `name`; `state` maps parameter names to tensors.
"""

from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def multiply_adds(network, image):
    """Of convolutions and matrix products. Norms count for none, and on meta tensors they would take most of the time."""
    with FlopCounterMode(display=False) as counter, patch.object(F, "batch_norm", lambda x, *_, **__: x):
        network(image)
    return counter.get_total_flops() / 2


def column(values):
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)


def reduce_by_two(x, prefix, state, norm):
    x, even, odd = F.relu(x), state[f"{prefix}.even.weight"], state[f"{prefix}.odd.weight"]
    return norm(torch.cat([F.conv2d(x, even, stride=2), F.conv2d(x[:, :, 1:, 1:], odd, stride=2)], dim=1), f"{prefix}.norm")


def cell_input(x, prefix, state, norm):
    if f"{prefix}.even.weight" in state:
        return reduce_by_two(x, prefix, state, norm)
    return norm(F.conv2d(F.relu(x), state[f"{prefix}.pointwise.weight"]), f"{prefix}.norm")


def operation(name, x, stride, prefix, state, norm):
    channels = x.shape[1]
    if name == "none":
        return x[:, :, ::stride, ::stride] * 0
    if name == "max_pool_3x3":
        return F.max_pool2d(x, 3, stride, 1)
    if name == "avg_pool_3x3":
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    if name == "skip_connect":
        return x if stride == 1 else reduce_by_two(x, prefix, state, norm)
    kernel, dilation = int(name[-1]), 2 if name.startswith("dil") else 1
    blocks = {"first": "norm"} if dilation == 2 else {"first": "inner_norm", "second": "norm"}
    for block, norm_name in blocks.items():
        depthwise, pointwise = state[f"{prefix}.{block}.depthwise.weight"], state[f"{prefix}.{block}.pointwise.weight"]
        step = stride if block == "first" else 1
        x = F.conv2d(F.relu(x), depthwise, None, step, dilation * (kernel - 1) // 2, dilation, channels)
        x = norm(F.conv2d(x, pointwise), f"{prefix}.{norm_name}")
    return x
