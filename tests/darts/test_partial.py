"""PC-DARTS' supernet against its published size and against a transcription that works edge by edge."""

import pytest
import torch
import torch.nn.functional as F
from darts_reference import MEAN, STD, cell_input, column, multiply_adds, operation

from rtalib.darts import SPACES, Genotype, Supernet, edge_normalized, magnitude
from rtalib.darts.network import Network
from rtalib.darts.supernet.pc_darts import ChannelSplit, bypass, edge_weights, shuffle


def weights(*args, **kwargs):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Supernet(*args, **kwargs).weight_parameters())


def test_parameter_counts_are_the_published_ones():
    assert weights("darts", partial=4) == 299_578  # the repository's own model
    assert weights("darts", 16, 8, 1000, partial=2, stem="imagenet") == 956_512  # a log in PC-DARTS' issue 15
    assert weights("s4") == 624_506  # RobustDARTS
    assert weights("s5") == 1_930_618


@pytest.mark.parametrize("space, partial, millions", [("darts", 4, 56.6), ("s4", 1, 96.7)])
def test_multiply_adds_are_the_published_ones(space, partial, millions):
    with torch.device("meta"):
        supernet, image = Supernet(space, partial=partial), torch.empty(1, 3, 32, 32)
    assert round(multiply_adds(supernet, image) / 1e6, 1) == millions


def norm(x, _=None):
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def mixed_edge(x, names, alphas, stride, prefix, state, k):
    """One edge as the paper has it: mix the first C/K channels, bypass the others, concatenate, shuffle."""
    n, channels = x.shape[:2]
    part, rest = x[:, : channels // k], x[:, channels // k :]
    mixed = 0
    for name, alpha in zip(names, alphas, strict=True):
        out = operation(name, part, stride, f"{prefix}.{name}", state, norm)
        mixed = mixed + alpha * (norm(out) if "pool" in name else out)
    rest = F.max_pool2d(rest, 2, 2) if stride == 2 else rest
    joined = torch.cat([mixed, rest], dim=1)
    order = [group * (channels // k) + i for i in range(channels // k) for group in range(k)]
    return joined[:, order]


def reference(state, space, layers, k, image):
    x = F.conv2d((image - column(MEAN)) / column(STD), state["stem.weight"], padding=1)
    s0 = s1 = norm(x) * state["stem_norm.weight"].view(-1, 1, 1) + state["stem_norm.bias"].view(-1, 1, 1)
    for layer in range(layers):
        kind = "reduce" if layer in (layers // 3, 2 * layers // 3) else "normal"
        alphas, betas = state[f"alphas_{kind}"].softmax(dim=-1), state[f"betas_{kind}"]
        nodes = [cell_input(s, f"cells.{layer}.preprocess{i}", state, norm) for i, s in enumerate((s0, s1))]
        first = 0
        for node in range(2, 6):
            weights = betas[first : first + node].softmax(dim=0)
            total = 0
            for source in range(node):
                edge = first + source
                stride = 2 if kind == "reduce" and source < 2 else 1
                prefix = f"cells.{layer}.edges.{edge}"
                total = total + weights[source] * mixed_edge(
                    nodes[source], getattr(space, kind)[edge], alphas[edge], stride, prefix, state, k
                )
            nodes.append(total)
            first += node
        s0, s1 = s1, torch.cat(nodes[2:], dim=1)
    return F.linear(s1.mean(dim=(2, 3)), state["classifier.weight"], state["classifier.bias"])


@pytest.mark.parametrize("space, k", [("darts", 2), ("s1", 4)])
def test_equals_the_transcription_forward_and_in_every_gradient(space, k):
    torch.manual_seed(1)
    supernet = Supernet(space, 4, 3, num_classes=5, partial=k).double()
    supernet.normalize.mean.copy_(column(MEAN))
    supernet.normalize.std.copy_(column(STD))
    with torch.no_grad():
        for parameter in supernet.arch_parameters():
            parameter.normal_()
    image, labels = torch.rand(3, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 3, 4])
    state = {name: tensor.detach().clone().requires_grad_() for name, tensor in supernet.named_parameters()}
    ours, plain = supernet(image), reference(state, SPACES[space], 3, k, image)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-10)
    gradients = torch.autograd.grad(F.cross_entropy(ours, labels), list(supernet.parameters()), materialize_grads=True)
    expected = torch.autograd.grad(F.cross_entropy(plain, labels), list(state.values()), materialize_grads=True)
    for (name, _), gradient, other in zip(supernet.named_parameters(), gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-8, msg=lambda m, name=name: f"{name}: {m}")


def test_betas_are_normalised_over_the_edges_into_each_node():
    weights = edge_weights(torch.randn(14))
    torch.testing.assert_close(torch.stack([part.sum() for part in weights.split([2, 3, 4, 5])]), torch.ones(4))
    other = torch.randn(14)
    moved = other.clone()
    moved[5] += 1.0  # node 4's first edge
    changed = (edge_weights(moved) != edge_weights(other)).nonzero().flatten().tolist()
    assert changed == [5, 6, 7, 8]
    with pytest.raises(ValueError, match=r"expected shape \(14,\)"):
        edge_weights(torch.zeros(8))


def test_shuffle_permutes_as_published_and_lets_every_channel_be_mixed_in_turn():
    x = torch.arange(8.0).view(1, 8, 1, 1)
    assert shuffle(x, 4).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert shuffle(shuffle(x, 4), 2).equal(x)


def test_bypass_halves_the_image_at_stride_two_only():
    x = torch.rand(2, 3, 6, 6)
    assert bypass(x, 1) is x
    expected = x.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-1, -2))
    assert bypass(x, 2).equal(expected)
    assert bypass(torch.rand(2, 3, 7, 5), 2).shape == (2, 3, 4, 3)


def test_random_mask_draws_other_channels_in_each_pass_and_returns_them_to_their_places():
    torch.manual_seed(0)
    x = torch.rand(2, 8, 3, 3)
    splits = [ChannelSplit(8, 4, "random", x.device) for _ in range(20)]
    assert all(split.merge(*split.take(x)).equal(x) and split.take(x)[0].shape[1] == 2 for split in splits)
    assert {int(channel) for split in splits for channel in split.order[:2]} == set(range(8))
    supernet = Supernet("s2", 4, 3, partial=2, mask="random")
    images = torch.rand(2, 3, 16, 16)
    assert not torch.equal(supernet(images), supernet(images))
    torch.manual_seed(5)
    first = supernet(images)
    torch.manual_seed(5)
    assert torch.equal(first, supernet(images))


@pytest.mark.parametrize("partial", [1, 2])
def test_odd_sizes_noise_and_dropped_edges_work(partial):
    torch.manual_seed(0)
    supernet, images = Supernet("s4", 4, 3, partial=partial), torch.rand(4, 3, 13, 13)
    assert not torch.equal(supernet(images), supernet(images))  # the noise is fresh
    supernet = Supernet("s2", 4, 3, partial=partial)
    plain = supernet(images)
    supernet.drop_path_prob = 0.5
    assert not torch.equal(supernet(images), supernet(images))
    assert torch.equal(supernet.eval()(images), plain)


def test_dropping_an_edge_drops_all_of_it_and_keeps_the_mean():
    torch.manual_seed(0)
    cell = Supernet("s2", 4, 3).double().cells[0]
    s0 = s1 = torch.rand(1, 12, 6, 6, dtype=torch.float64).expand(400, -1, -1, -1)
    weights = torch.zeros(14, 2, dtype=torch.float64)
    weights[:2, 0] = 1.0  # node 2 = its two skips
    plain, dropped = cell(s0, s1, weights)[:, :4], cell(s0, s1, weights, None, 0.25)[:, :4]
    assert len(dropped.flatten(1)[:, 0].unique()) == 4  # none, either or both of the edges
    torch.testing.assert_close(dropped.mean(dim=0), plain[0], rtol=0.15, atol=0.15)


def test_mixing_weights_can_be_replaced():
    torch.manual_seed(0)
    supernet, images = Supernet("s3", 4, 3), torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(supernet(images, supernet.mixing()), supernet(images))
    normal, reduce = (weights.detach().clone() for weights in supernet.mixing())
    normal[3] = 0.0
    assert not torch.allclose(supernet(images, (normal, reduce)), supernet(images))


def test_selection_weighs_operations_by_edges():
    alphas, betas = torch.zeros(14, 8), torch.zeros(14)
    alphas[2, 4], alphas[3, 5], alphas[4, 6] = 0.3, 0.2, 0.1  # node 3 from sources 0, 1, 2
    assert [source for _, source in magnitude(alphas, alphas).normal[2:4]] == [0, 1]
    betas[4] = 1.0
    genotype = edge_normalized(alphas, alphas, betas, torch.zeros(14))
    assert (
        genotype.normal[2:4] == (("dil_conv_3x3", 2), ("sep_conv_3x3", 0)) and genotype.reduce[2:4] == magnitude(alphas, alphas).normal[2:4]
    )
    with pytest.raises(ValueError, match=r"betas_reduce: expected shape \(14,\)"):
        edge_normalized(alphas, alphas, betas, torch.zeros(13))
    with pytest.raises(ValueError, match="betas_normal: expected finite"):
        edge_normalized(alphas, alphas, betas * torch.nan, betas)


def test_architecture_parameters_are_four():
    names = {name for name, _ in Supernet("s2", 4, 3, partial=2).named_parameters() if name.startswith(("alphas", "betas"))}
    assert names == {"alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce"}
    assert [tuple(p.shape) for p in Supernet("s2", 4, 3, partial=2).arch_parameters()] == [(14, 2), (14, 2), (14,), (14,)]
    with pytest.raises(ValueError, match="partial: expected a divisor of channels=4"):
        Supernet("s2", 4, 3, partial=3)
    with pytest.raises(ValueError, match="mask"):
        Supernet("s2", 4, 3, partial=2, mask="rotating")


def test_noise_cells_can_be_derived_and_spaces_check_genotypes():
    genotype = magnitude(torch.zeros(14, 2), torch.zeros(14, 2), "s4")
    assert genotype.normal[0] == ("noise", 0)
    network, images = Network(genotype, 4, 3).eval(), torch.rand(2, 3, 16, 16)
    assert not torch.equal(network(images), network(images))
    assert Genotype.parse(str(genotype)) == genotype
    SPACES["s4"].check(genotype)
    with pytest.raises(ValueError, match="normal takes noise from node 0 to 2; this space offers skip_connect, sep_conv_3x3"):
        SPACES["s2"].check(genotype)
