"""Features as they come: types that differ, arrays, huge, tiny, far from zero, equal; against distances by differences in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from odd_inputs import attempt, few_and_many

from rtalib.coreset import balanced_greedy, covering_radii, covering_radius, farthest, k_center_greedy, random_selection


def exact_greedy(candidates, centers, budget):
    """(picks, radius) by differences in float64; without centers the first is the farthest from the mean."""
    x = np.asarray(candidates, dtype=np.float64)
    if centers is None:
        picks = [int(((x - x.mean(0)) ** 2).sum(1).argmax())]
        nearest = ((x - x[picks[0]]) ** 2).sum(1)
    else:
        picks, nearest = [], ((x[:, None] - np.asarray(centers, dtype=np.float64)) ** 2).sum(2).min(1)
    while len(picks) < budget:
        left = nearest.copy()
        left[picks] = -1
        picks.append(int(left.argmax()))
        nearest = np.minimum(nearest, ((x - x[picks[-1]]) ** 2).sum(1))
    return picks, math.sqrt(nearest.max())


def drawn(rows, dimensions=64, seed=0):
    return torch.randn(rows, dimensions, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_sets_of_two_precisions_are_moved_together(half):
    x = (drawn(200) * 0.5 + 100).to(half)
    assert covering_radius(x, x.float(), []) == 0.0
    for seed in range(5):
        candidates = (drawn(400, seed=seed).abs() + 4).to(half)
        centers = drawn(300, seed=100 + seed).abs() + 4
        assert k_center_greedy(candidates, centers, 30).tolist() == exact_greedy(candidates.float(), centers, 30)[0]


@pytest.mark.parametrize("apart", [100, 1000, 10_000])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_groups_far_apart_are_covered_as_exactly_as_near_ones(apart, kind):
    x = (0.1 * drawn(300).double()).clone()
    x[150:] += apart / 8
    x = x.to(kind)
    picks, best = exact_greedy(x, None, 30)
    found = k_center_greedy(x, None, 30)
    assert abs(covering_radius(x, None, found) / best - 1) < 1e-3
    assert kind is torch.float32 or found.tolist() == picks


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-22, 1e18, 1e30, 1e300])
def test_huge_and_tiny_features_are_selected_as_ordinary_ones(scale):
    x, centers = drawn(120).double(), drawn(30, seed=1).double()
    kind = torch.float32 if 1e-37 < scale < 1e37 else torch.float64
    one, two = (x * scale).to(kind), (centers * scale).to(kind)
    picks, best = exact_greedy(one / torch.tensor(scale, dtype=kind), two / torch.tensor(scale, dtype=kind), 20)
    assert k_center_greedy(one, two, 20).tolist() == picks and farthest(one, two, 3)[0] == picks[0]
    assert covering_radius(one, two, picks) == pytest.approx(best * scale, rel=1e-5)
    if kind is torch.float32:
        assert covering_radii(one, two, picks)[-1].item() == pytest.approx(best * scale, rel=1e-5)


def test_largest_numbers_of_both_signs_do_not_overflow():
    x = torch.tensor([[3e38, 0.0], [-3e38, 0.0], [0.0, 1e38], [0.0, 0.0]])
    assert k_center_greedy(x, None, 4).tolist() == [0, 1, 2, 3]


def test_arrays_lists_and_other_integers():
    x, centers = drawn(40, 5), drawn(10, 5, seed=1)
    picks = k_center_greedy(x, centers, 7)
    for form in (lambda t: t.numpy(), lambda t: t.numpy()[::-1][::-1], lambda t: t.numpy().astype(">f4"), lambda t: t.double().tolist()):
        assert torch.equal(k_center_greedy(form(x), form(centers), np.int64(7)), picks)
    labels = torch.arange(40) % 3
    assert torch.equal(balanced_greedy(x.numpy(), centers, labels.numpy().astype(np.int8), 5), balanced_greedy(x, centers, labels, 5))
    mask = torch.zeros(40, dtype=torch.bool)
    mask[picks] = True
    for selected in (picks, picks.tolist(), picks.numpy(), mask, mask.numpy()):
        assert covering_radius(x, centers, selected) == covering_radius(x, centers, picks)
        assert covering_radii(x, centers, selected)[-1].item() == pytest.approx(covering_radius(x, centers, picks), rel=1e-5)
    assert torch.equal(random_selection(np.int64(9), np.int32(4), np.int64(0)), random_selection(9, 4, 0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: k_center_greedy(x, None, 2.5), "budget: expected an integer, got 2.5"),
        (lambda x: k_center_greedy(x, None, None), "budget: expected an integer, got None"),
        (lambda x: k_center_greedy(x, None, "3"), "budget: expected an integer, got '3'"),
        (lambda x: k_center_greedy("x", None, 3), "candidates: expected floating-point features .* got str 'x'"),
        (lambda x: k_center_greedy(x[:0], None, 1), "candidates: expected at least one row"),
        (lambda x: k_center_greedy(x.long(), None, 1), "candidates: expected floating-point .* got torch.int64"),
        (lambda x: k_center_greedy(x[:, :0], None, 1), r"candidates: expected floating-point features .* \(12, 0\)"),
        (lambda x: balanced_greedy(x, None, ["a"] * 12, 3), "labels: expected int64 .* got list"),
        (lambda x: covering_radius(x, None, [12]), "selected: expected rows 0 to 11, got 12"),
        (lambda x: covering_radius(x, None, [0.5]), "selected: expected integer rows 0 to 11, or a mask of 12, got torch.float64"),
        (lambda x: covering_radii(x, None, None), "selected: expected rows 0 to 11, or a mask of 12, got NoneType"),
        (lambda x: random_selection(9, 4, 0.5), "seed: expected an integer, got 0.5"),
        (lambda x: random_selection("9", 4, 0), "n: expected an integer, got '9'"),
    ],
)
def test_what_cannot_be_read_is_named(call, words):
    with pytest.raises((TypeError, ValueError), match=words) as raised:
        call(drawn(12, 4))
    assert "\n" not in str(raised.value)


@few_and_many
def test_drawn_features(trials):
    def check(rows, others, dimensions, seed, scale, offset, kinds, copies, budget):
        generator = torch.Generator().manual_seed(seed)
        candidates, centers = (torch.randn(n, dimensions, generator=generator).double() for n in (rows, max(1, others)))
        candidates[: rows * copies // 4] = candidates[0].clone()
        sets = [((each + offset) * scale).to(kind) for each, kind in zip((candidates, centers), kinds, strict=True)]
        if others == 0:
            sets[1] = None
        budget = 1 + budget % rows
        picks = k_center_greedy(*sets, budget)
        assert len(picks.unique()) == budget
        wide = [each if each is None else each.double() / scale for each in sets]
        _, best = exact_greedy(*wide, budget)
        taken = wide[0][picks] if others == 0 else torch.cat([wide[1], wide[0][picks]])
        radius = ((wide[0][:, None] - taken).square().sum(2).min(1).values).max().sqrt().item()
        assert radius <= best * 1.05 + 1e-6 * (1 + offset), "as near as the exact greedy's, but for ties within rounding"
        assert covering_radius(*sets, picks) / scale == pytest.approx(radius, rel=1e-4, abs=1e-6 * (1 + offset))

    kinds = st.sampled_from((torch.float16, torch.bfloat16, torch.float32, torch.float64))
    scales = st.sampled_from((1.0, 0.01, 3.0))
    sizes = st.integers(1, 30), st.integers(0, 10), st.integers(1, 8), st.integers(0, 10**6)
    attempt(
        trials,
        100,
        check,
        *sizes,
        scales,
        st.sampled_from((0.0, 1.0, 100.0)),
        st.tuples(kinds, kinds),
        st.integers(0, 4),
        st.integers(0, 99),
    )
