"""The unrolled gradient against exact double backward, and Hessian eigenvalues against the dense matrix."""

import pytest
import torch
import torch.nn.functional as F
from stripes import CHEAP
from torch.func import functional_call

from rtalib.darts import Supernet
from rtalib.darts.robust_darts import Hessian, dense_eigenvalue, lanczos_eigenvalue
from rtalib.darts.steps import Passes, unrolled_gradient, virtual_step

STEP = {"lr": 0.05, "momentum": 0.9, "weight_decay": 3e-2}


def relative(found, expected):
    found, expected = (torch.cat([part.flatten() for part in parts]) for parts in (found, expected))
    return float((found - expected).norm() / expected.norm())


class Problem:
    """A supernet in float64 with two batches and momentum buffers."""

    def __init__(self, space="s3", partial=1):
        torch.manual_seed(3)
        self.supernet = Supernet(space, 4, 3, num_classes=3, partial=partial).double()
        with torch.no_grad():
            for parameter in self.supernet.arch_parameters():
                parameter.normal_()
        self.alphas = self.supernet.arch_parameters()
        alphas = {id(alpha) for alpha in self.alphas}
        self.weights = {name: p for name, p in self.supernet.named_parameters() if id(p) not in alphas}
        self.batches = {name: (torch.rand(6, 3, 8, 8, dtype=torch.float64), torch.randint(3, (6,))) for name in ("train", "val")}
        self.momenta = [0.1 * torch.randn_like(weight) for weight in self.weights.values()]

    def loss(self, name):
        return lambda weights: self.loss_of(self.batches[name], weights)

    def loss_of(self, batch, weights):
        images, labels = batch
        return F.cross_entropy(functional_call(self.supernet, weights, (images,)), labels)

    def unrolled(self, **changes):
        arguments = {"momenta": self.momenta, **STEP, **changes}
        return unrolled_gradient(Passes(self.loss_of, self.weights, self.alphas), *self.batches.values(), **arguments)

    def exact(self, momenta):
        """Differentiate through the virtual step."""
        inner = torch.autograd.grad(self.loss("train")(self.weights), list(self.weights.values()), create_graph=True)
        momenta = momenta or [torch.zeros_like(g) for g in inner]
        lr, momentum, decay = STEP["lr"], STEP["momentum"], STEP["weight_decay"]
        stepped = {
            name: w - lr * (momentum * m + g + decay * w) for (name, w), g, m in zip(self.weights.items(), inner, momenta, strict=True)
        }
        return torch.autograd.grad(self.loss("val")(stepped), self.alphas)

    def first_order(self):
        stepped = virtual_step(
            list(self.weights.values()),
            list(torch.autograd.grad(self.loss("train")(self.weights), list(self.weights.values()))),
            self.momenta, STEP["lr"], STEP["momentum"], STEP["weight_decay"],
        )  # fmt: skip
        return torch.autograd.grad(self.loss("val")(dict(zip(self.weights, stepped, strict=True))), self.alphas)


@pytest.mark.parametrize("space, partial", [("s3", 1), ("s1", 1), ("s2", 2)])
@pytest.mark.parametrize("moving", [True, False])
def test_equals_exact_double_backward(space, partial, moving):
    problem = Problem(space, partial)
    momenta = problem.momenta if moving else None
    expected = problem.exact(momenta)
    assert relative(problem.unrolled(momenta=momenta, term="exact")[0], expected) < 1e-10
    # A step of 1e-7 passes none of the kinks of ReLU and max pooling.
    assert relative(problem.unrolled(momenta=momenta, scale=1e-7)[0], expected) < 1e-6


def test_published_step_is_accurate_where_the_network_is_smooth(monkeypatch):
    monkeypatch.setattr(F, "relu", F.softplus)
    problem = Problem("s3")
    expected = problem.exact(problem.momenta)
    assert relative(problem.first_order(), expected) > 0.1  # the second term matters
    errors = [relative(problem.unrolled(scale=scale)[0], expected) for scale in (0.01, 0.001)]
    assert errors[0] < 1e-4 and errors[1] < 0.02 * errors[0]  # central differences: the error falls with the square of the step


def test_second_term_does_not_depend_on_the_scale_of_epsilon(monkeypatch):
    """Divided by 2 and multiplied by epsilon, as ports of DARTS had it, it would change a millionfold here, and vanish."""
    monkeypatch.setattr(F, "relu", F.softplus)
    problem = Problem("s3")
    first = problem.first_order()
    terms = [[u - f for u, f in zip(problem.unrolled(scale=scale)[0], first, strict=True)] for scale in (1e-2, 1e-5)]
    assert relative(terms[1], terms[0]) < 1e-3


def test_quadratic_losses_by_hand():
    """L_train = (w - a)^2 / 2, L_val = w^2 / 2: w' = w - lr (w - a + decay w + momentum m), dL_val/da = w' lr."""
    w, a = torch.tensor([2.0], dtype=torch.float64, requires_grad=True), torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    train, val = [(torch.tensor(which), torch.tensor(0)) for which in (0, 1)]
    losses = lambda p: (p["w"] - a).square().sum() / 2, lambda p: p["w"].square().sum() / 2
    momenta = [torch.tensor([3.0], dtype=torch.float64)]
    passes = Passes(lambda batch, p: losses[batch[0]](p), {"w": w}, [a])
    gradient, value = unrolled_gradient(passes, train, val, lr=0.1, momentum=0.9, momenta=momenta, weight_decay=0.2)
    stepped = 2.0 - 0.1 * (1.5 + 0.4 + 2.7)
    assert float(gradient[0]) == pytest.approx(0.1 * stepped, rel=1e-9) and float(value) == pytest.approx(stepped**2 / 2)
    losses = losses[0], lambda p: 0.0 * p["w"].sum() + a.sum()
    flat, _ = unrolled_gradient(passes, train, val, lr=0.1)
    assert float(flat[0]) == 1.0  # v = 0: no second term, and no division by zero


def test_model_and_generators_are_left_alone_and_noise_is_the_same_on_both_sides():
    problem = Problem("s4")
    before = {name: tensor.clone() for name, tensor in problem.supernet.state_dict().items()}
    state = torch.get_rng_state()
    found, _ = problem.unrolled(scale=1e-7)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in problem.supernet.state_dict().items())
    assert all(parameter.grad is None for parameter in problem.supernet.parameters())
    assert relative(found, problem.unrolled(term="exact")[0]) < 1e-6


def hessian(space="s3", partial=1):
    problem = Problem(space, partial)
    return Hessian(problem.loss("val")(problem.weights), problem.alphas)


@pytest.mark.parametrize("space, partial", [("s1", 1), (CHEAP["space"], 2)])
def test_lanczos_finds_the_dense_eigenvalue_within_its_own_bound(space, partial):
    operator = hessian(space, partial)
    dense = dense_eigenvalue(operator)
    assert dense.products == sum(alpha.numel() for alpha in Problem(space, partial).alphas)
    for tolerance, seed in ((1e-3, 0), (1e-9, 1)):
        found = lanczos_eigenvalue(operator, tolerance=tolerance, seed=seed)
        assert found.value == pytest.approx(dense.value, abs=found.error + 1e-9) and found.error <= tolerance * 10 * abs(dense.value)
    assert lanczos_eigenvalue(operator).products < 0.75 * dense.products
    assert lanczos_eigenvalue(operator, most=3).products == 3


def test_hessian_is_symmetric_and_agrees_with_differences_of_gradients():
    problem = Problem(CHEAP["space"])
    alphas, matrix = problem.alphas, hessian(CHEAP["space"]).dense()
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-8, atol=1e-10)
    direction, step = torch.randn(matrix.shape[0], dtype=torch.float64), 1e-6
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            for alpha, part in zip(alphas, direction.split([alpha.numel() for alpha in alphas]), strict=True):
                alpha.add_(part.view_as(alpha), alpha=step * (sign if sign == 1 else -2))
        sides.append(torch.cat([g.flatten() for g in torch.autograd.grad(problem.loss("val")(problem.weights), alphas)]))
    torch.testing.assert_close(matrix @ direction, (sides[0] - sides[1]) / (2 * step), rtol=1e-4, atol=1e-6)


def test_largest_means_the_algebraic_maximum():
    x = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    curvatures = torch.tensor([-9.0, 2.0, 0.5], dtype=torch.float64)
    operator = Hessian((curvatures * x.square()).sum() / 2, [x])
    assert dense_eigenvalue(operator).value == pytest.approx(2.0)
    assert lanczos_eigenvalue(operator).value == pytest.approx(2.0)
    with pytest.raises(ValueError, match="tolerance"):
        lanczos_eigenvalue(operator, tolerance=0.0)
