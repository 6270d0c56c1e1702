"""The fused supernet against the supernet that it replaces and against the plain one."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from benchmarks.plain_darts import PlainSupernet
from rtalib.darts import SPACES, Space, Supernet
from rtalib.darts.space import EDGES
from rtalib.darts.supernet import fused
from rtalib.darts.supernet import plain as supernet
from rtalib.darts.supernet.fused import FusedSupernet
from rtalib.darts.supernet.grouped import depthwise, interleave, stacked, subgrids

LABELS = torch.tensor([0, 3, 4])
UNEVEN = Space(
    (("none", "max_pool_3x3", "dil_conv_5x5"), ("skip_connect", "sep_conv_5x5", "sep_conv_3x3")) * (len(EDGES) // 2),
    (("skip_connect", "avg_pool_3x3", "noise"), ("none", "skip_connect", "dil_conv_3x3")) * (len(EDGES) // 2),
)


def pair(space="darts", **options):
    """A supernet and a fused one with the same parameters in float64, alphas and betas of order one."""
    torch.manual_seed(1)
    nets = Supernet(space, 4, 3, num_classes=5, **options).double(), FusedSupernet(space, 4, 3, num_classes=5, **options).double()
    with torch.no_grad():
        for parameter in nets[0].arch_parameters():
            parameter.normal_()
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def images(side=8):
    return torch.rand(3, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()


def gradients(net, x):
    """{name: gradient} by the image and every parameter, the logits among them; random draws always the same."""
    torch.manual_seed(3)
    logits = net(x)
    names = ["image", *(name for name, _ in net.named_parameters())]
    found = torch.autograd.grad(F.cross_entropy(logits, LABELS), [x, *net.parameters()])
    return {"logits": logits.detach()} | dict(zip(names, found, strict=True))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture
def repeatable_noise(monkeypatch):
    """A function of the pixels instead of noise: what is drawn depends on their order in memory."""
    for module in (supernet, fused):
        monkeypatch.setattr(module, "noise", lambda x, stride: (2 * x.detach()[..., ::stride, ::stride]).sin())


@pytest.mark.parametrize("partial", [1, 2])
@pytest.mark.parametrize("space", [*SPACES, UNEVEN], ids=[*SPACES, "uneven"])
def test_equals_the_supernet_in_every_gradient(space, partial, repeatable_noise):
    plain, other = pair(space, partial=partial)
    assert_equal(gradients(other, images()), gradients(plain, images()))


@pytest.mark.parametrize("options", [{}, {"partial": 4, "mask": "random"}], ids=["all channels", "random channels"])
def test_equals_the_supernet_with_odd_sizes_and_dropped_edges(options):
    plain, other = pair("darts", **options)
    plain.drop_path_prob = other.drop_path_prob = 0.3
    assert_equal(gradients(other, images(13)), gradients(plain, images(13)))
    assert not torch.equal(other(images(13)), other.eval()(images(13)))


@pytest.mark.parametrize("space", ["darts", "s1"])
def test_equals_the_plain_network(space):
    ours, other = pair(space)
    plain = PlainSupernet(space, 4, 3, num_classes=5).double()
    plain.load_supernet(ours)
    expected = gradients(plain, images())
    assert_equal(dict(zip(expected, gradients(other, images()).values(), strict=True)), expected)


def test_state_dicts_are_interchangeable():
    plain, other = Supernet("s3", 4, 3), FusedSupernet("s3", 4, 3)
    assert [(n, p.shape) for n, p in plain.named_parameters()] == [(n, p.shape) for n, p in other.named_parameters()]
    assert [len(p) for p in (plain.arch_parameters(), plain.weight_parameters())] == [
        len(p) for p in (other.arch_parameters(), other.weight_parameters())
    ]
    for source, target in ((plain, other), (other, plain)):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.normal_()
        target.load_state_dict(source.state_dict())
        assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


def test_one_seed_gives_both_the_same_weights():
    nets = []
    for build in (Supernet, FusedSupernet):
        torch.manual_seed(0)
        nets.append(build("darts", 4, 3))
    assert all(torch.equal(p, q) for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


@pytest.mark.parametrize("space", ["darts", "s3"])
def test_second_derivatives_equal_the_supernets(space):
    products = []
    for net in pair(space):
        chosen = [*net.arch_parameters(), *(p for n, p in net.named_parameters() if "cells.1.edges.3." in n or "cells.0.edges.9." in n)]
        first = torch.autograd.grad(F.cross_entropy(net(images()), LABELS), chosen, create_graph=True)
        generator = torch.Generator().manual_seed(4)
        directions = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in chosen]
        products.append(torch.autograd.grad(sum((g * d).sum() for g, d in zip(first, directions, strict=True)), chosen))
    for found, expected in zip(products[1], products[0], strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_functional_call_takes_other_weights_and_alphas():
    plain, other = pair("s1")
    moved = {name: 2 * p.detach() for name, p in plain.named_parameters()}
    found, before = functional_call(other, moved, (images(),)), other(images())
    torch.testing.assert_close(found, functional_call(plain, moved, (images(),)))
    assert not torch.allclose(found, before)
    mixing = tuple(torch.eye(2, dtype=torch.float64)[torch.arange(14) % 2] for _ in range(2))  # one operation on each edge
    torch.testing.assert_close(other(images(), mixing), plain(images(), mixing))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_float32_in_either_memory_format(memory_format):
    exact, other = pair("darts")
    other = other.float().to(memory_format=memory_format)
    expected, x = gradients(exact, images()), images().detach().float().contiguous(memory_format=memory_format).requires_grad_()
    found = gradients(other, x)
    for name in ("logits", "image", "alphas_normal", "alphas_reduce", "cells.0.edges.0.sep_conv_5x5.first.depthwise.weight"):
        error = (found[name] - expected[name]).norm() / expected[name].norm()
        assert error < 2e-3, (name, error)


def test_bfloat16_and_autocast():
    exact, other = pair("darts")
    expected, x = exact(images()).detach(), images().detach()
    with torch.autocast("cpu", torch.bfloat16):
        logits = other.float()(x.float())
    found = torch.autograd.grad(F.cross_entropy(logits.float(), LABELS), list(other.parameters()))
    assert logits.dtype == torch.bfloat16 and all(g.dtype == torch.float32 and g.isfinite().all() for g in found)
    whole = other.bfloat16()(x.bfloat16())
    found = torch.autograd.grad(F.cross_entropy(whole.float(), LABELS), list(other.parameters()))
    assert whole.dtype == torch.bfloat16 and all(g.isfinite().all() for g in found)
    for half in (logits, whole):
        assert F.cosine_similarity(half.double().flatten(), expected.flatten(), dim=0) > 0.95


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride, size", [(1, (6, 5)), (2, (6, 6)), (2, (5, 6))])
def test_depthwise_is_the_convolution_with_its_derivatives(kernel, stride, size):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(3, 1, kernel, kernel, dtype=torch.float64)
    for tensor in (x, weight):
        tensor.requires_grad_()
    torch.testing.assert_close(depthwise(x, weight, stride), F.conv2d(x, weight, None, stride, kernel // 2, groups=3))
    assert gradcheck(lambda *tensors: depthwise(*tensors, stride), (x, weight))
    assert gradgradcheck(lambda *tensors: depthwise(*tensors, stride), (x, weight))


def test_subgrids_come_back_in_place():
    x = torch.randn(2, 3, 4, 6)
    apart = subgrids(x, 2)
    assert apart.shape == (8, 6, 2, 3) and torch.equal(apart[:2, :3], x[..., ::2, ::2]) and torch.equal(apart[2:4, 3:], x[..., ::2, 1::2])
    edges = apart.permute(0, 2, 3, 1).unflatten(3, (2, 3)).movedim(3, 0)
    together = interleave(edges).reshape(2, 2, 4, 6, 3)
    for edge in together:
        assert torch.equal(edge.permute(0, 3, 1, 2), x)


def test_small_kernels_are_embedded_in_the_middle():
    small, large = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 5, 5)
    found = stacked([small, large, small])
    assert found.shape == (6, 1, 5, 5) and torch.equal(found[2:4], large)
    assert torch.equal(found[:2, :, 1:4, 1:4], small) and torch.equal(found[4:], found[:2]) and found[:2].count_nonzero() == small.numel()
