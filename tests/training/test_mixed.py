"""bf16 on a CPU: gradients of dilated depthwise convolutions are those of float32, whatever lies in memory."""

import torch
from torch import nn

from rtalib.models.base import seeded
from rtalib.training import mixed


def gradients(network: nn.Module, x: torch.Tensor, precision: str) -> list[torch.Tensor]:
    filled = [torch.full((2**power,), torch.nan) for power in (8, 10, 12, 14, 16, 18)]
    del filled  # what a gradient may be made of by mistake
    network.zero_grad()
    with mixed.autocast("cpu", precision, network):
        loss = network(x).float().square().sum()
    loss.backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


def test_gradients_of_dilated_groups_are_the_same_each_time_and_near_those_of_float32():
    def build() -> nn.Module:
        depthwise = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
        grouped = nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), depthwise, nn.ReLU(), grouped)

    network = seeded(build, 0).to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)
    exact, first, *others = gradients(network, x, "fp32"), *(gradients(network, x, "bf16") for _ in range(5))
    assert mixed.unsafe(network) == [network[2], network[4]]
    for expected, found, *again in zip(exact, first, *others, strict=True):
        assert all(torch.equal(found, other) for other in again)
        assert (found - expected).abs().max() < 0.03 * expected.abs().max()
    assert not any("_conv_forward" in vars(part) for part in network.modules()), "nothing stays behind"


def test_only_bf16_is_held_back():
    convolution = nn.Conv2d(4, 4, 3, dilation=2, groups=4)
    for precision, kept in (("bf16", True), ("fp32", False)):
        with mixed.autocast("cpu", precision, convolution):
            assert ("_conv_forward" in vars(convolution)) == kept
    plain = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3, dilation=2))
    assert mixed.unsafe(plain) == []
