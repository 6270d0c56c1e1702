"""The supernet against published sizes and against a plain transcription of its definition."""

import pytest
import torch
import torch.nn.functional as F
from darts_reference import MEAN, STD, cell_input, column, operation
from torch.func import functional_call

from rtalib.darts import SPACES, FusedSupernet, Supernet
from rtalib.darts.space import EDGES


def weights(*args):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Supernet(*args).weight_parameters())


@pytest.mark.parametrize(
    "args, expected",
    [
        (("darts",), 1_930_618),  # NASLib's unit test
        (("darts", 16, 8, 100), 1_953_748),
        (("s1",), 405_146),  # RobustDARTS' log
        (("s2",), 665_466),
        (("s3",), 665_466),
    ],
)
def test_parameter_counts_are_the_published_ones(args, expected):
    assert weights(*args) == expected


def norm(x, _=None):
    """Batch normalisation from its definition: biased variance, no parameters."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def reference(state, space, layers, image):
    """Every operation on every edge, each weighted and added: Liu et al., equation 2."""
    x = F.conv2d((image - column(MEAN)) / column(STD), state["stem.weight"], padding=1)
    s0 = s1 = norm(x) * state["stem_norm.weight"].view(-1, 1, 1) + state["stem_norm.bias"].view(-1, 1, 1)
    for layer in range(layers):
        reduction = layer in (layers // 3, 2 * layers // 3)
        names = space.reduce if reduction else space.normal
        alphas = state["alphas_reduce" if reduction else "alphas_normal"].softmax(dim=-1)
        nodes = [cell_input(s, f"cells.{layer}.preprocess{i}", state, norm) for i, s in enumerate((s0, s1))]
        for node in range(2, 6):
            total = 0
            for edge, (destination, source) in enumerate(EDGES):
                if destination == node:
                    stride = 2 if reduction and source < 2 else 1
                    for k, name in enumerate(names[edge]):
                        out = operation(name, nodes[source], stride, f"cells.{layer}.edges.{edge}.{name}", state, norm)
                        total = total + alphas[edge, k] * (norm(out) if "pool" in name else out)
            nodes.append(total)
        s0, s1 = s1, torch.cat(nodes[2:], dim=1)
    return F.linear(s1.mean(dim=(2, 3)), state["classifier.weight"], state["classifier.bias"])


@pytest.mark.parametrize("space", ["darts", "no-none", "s1"])
def test_equals_the_plain_sum_forward_and_in_every_gradient(space):
    torch.manual_seed(1)
    supernet = Supernet(space, 4, 3, num_classes=5).double()
    supernet.normalize.mean.copy_(column(MEAN))  # the buffers were rounded to float32
    supernet.normalize.std.copy_(column(STD))
    with torch.no_grad():
        for alphas in supernet.arch_parameters():
            alphas.normal_()
    image, labels = torch.rand(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 4])
    state = {name: tensor.detach().clone().requires_grad_() for name, tensor in supernet.named_parameters()}
    ours, plain = supernet(image), reference(state, SPACES[space], 3, image)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-10)
    gradients = torch.autograd.grad(F.cross_entropy(ours, labels), list(supernet.parameters()))
    expected = torch.autograd.grad(F.cross_entropy(plain, labels), list(state.values()))
    for (name, _), gradient, other in zip(supernet.named_parameters(), gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-8, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("partial", [1, 2])
def test_memory_format_does_not_matter_in_any_gradient(partial):
    """Channels-last is what a search computes in."""
    torch.manual_seed(0)
    supernet, x, y = Supernet("darts", 4, 3, partial=partial).double(), torch.rand(2, 3, 16, 16).double(), torch.tensor([1, 2])

    def gradients(format):
        supernet.to(memory_format=format)
        loss = F.cross_entropy(supernet(x.to(memory_format=format)), y)
        return torch.autograd.grad(loss, list(supernet.parameters()), materialize_grads=True)

    plain, last = gradients(torch.contiguous_format), gradients(torch.channels_last)
    for (name, _), a, b in zip(supernet.named_parameters(), plain, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def test_mode_does_not_matter_because_the_batch_normalises_itself():
    supernet, x = Supernet("s2", 4, 3), torch.rand(2, 3, 16, 16)
    assert torch.equal(supernet.train()(x), supernet.eval()(x))
    assert torch.equal(supernet.classifier(supernet.features(x)), supernet(x))


def test_alphas_are_parameters_of_their_own_group():
    supernet = Supernet("darts", 4, 3)
    alphas = supernet.arch_parameters()
    assert [tuple(a.shape) for a in alphas] == [(14, 8), (14, 8)] and {"alphas_normal", "alphas_reduce"} <= set(supernet.state_dict())
    assert not {id(a) for a in alphas} & {id(w) for w in supernet.weight_parameters()}
    assert len(alphas) + len(supernet.weight_parameters()) == len(list(supernet.parameters()))
    deviation = torch.cat(alphas).std().item()
    assert 5e-4 < deviation < 2e-3


def test_functional_call_with_other_alphas():
    torch.manual_seed(0)
    supernet, x = Supernet("s2", 4, 3), torch.rand(2, 3, 16, 16)
    alphas = {"alphas_normal": torch.randn(14, 2), "alphas_reduce": torch.randn(14, 2)}
    other = functional_call(supernet, alphas, (x,))
    assert not torch.allclose(other, supernet(x))
    supernet.load_state_dict(alphas, strict=False)
    assert torch.equal(supernet(x), other)


def test_second_derivatives_by_alpha_exist_and_agree_with_differences():
    torch.manual_seed(0)
    supernet, x, y = Supernet("s3", 4, 3).double(), torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([1, 2])
    alpha = supernet.alphas_normal

    def gradient(create_graph=False):
        return torch.autograd.grad(F.cross_entropy(supernet(x), y), alpha, create_graph=create_graph)[0]

    direction = torch.randn_like(alpha)
    exact = torch.autograd.grad((gradient(create_graph=True) * direction).sum(), alpha)[0]
    steps = []
    for sign in (1, -1):
        with torch.no_grad():
            alpha.add_(direction, alpha=sign * 1e-5)
        steps.append(gradient())
        with torch.no_grad():
            alpha.sub_(direction, alpha=sign * 1e-5)
    torch.testing.assert_close(exact, (steps[0] - steps[1]) / 2e-5, rtol=1e-4, atol=1e-7)


def test_sizes_without_a_normal_cell_are_refused():
    with pytest.raises(ValueError, match="at least 3"):
        Supernet("darts", 4, 2)
    with pytest.raises(ValueError, match="Known: darts"):
        Supernet("imagenet")


def test_strided_stem_halves_the_image_for_the_cells_plain_and_fused():
    torch.manual_seed(0)
    plain, fused = Supernet("darts", 4, 3, stem="tiny-imagenet"), FusedSupernet("darts", 4, 3, stem="tiny-imagenet")
    fused.load_state_dict(plain.state_dict())
    image, sizes = torch.rand(2, 3, 32, 32), []
    plain.stem.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape)))
    assert torch.allclose(plain(image), fused(image), atol=1e-5)
    assert sizes == [(2, 12, 16, 16)]
