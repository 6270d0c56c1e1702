"""k-center greedy against brute force, against a plain loop, and its promised properties."""

from itertools import combinations, product

import pytest
import torch

from rtalib.coreset import selection as coreset
from rtalib.coreset.selection import balanced_greedy, covering_radii, covering_radius, farthest, k_center_greedy, random_selection


def clusters(n, m, dimensions=12, seed=0):
    """Low-rank failures with five near-duplicates each (like the severities of an image), away from the training features."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(4, dimensions, generator=generator)
    base = torch.randn(-(-n // 5), 4, generator=generator).repeat_interleave(5, dim=0)[:n] * 3
    candidates = base @ basis + 0.2 * torch.randn(n, dimensions, generator=generator) + 7
    return candidates, torch.randn(m, 4, generator=generator) @ basis + 7


def plain_greedy(candidates, centers, budget, groups=None):
    """Distances by subtraction in float64, one pick and one update at a time; a pick takes its whole group out."""
    x, y = candidates.double(), centers.double()
    nearest = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
    picks = []
    for _ in range(budget):
        pick = int(nearest.argmax())
        picks.append(pick)
        nearest = torch.minimum(nearest, (x - x[pick]).norm(dim=1))
        nearest[pick if groups is None else groups == groups[pick]] = -1
    return picks


def radius(x, centers):
    return torch.cdist(x.double(), centers.double()).amin(dim=1).max().item()


@pytest.mark.parametrize("pool", [4, 32, 1024])
def test_lazy_blocks_pick_what_the_plain_loop_picks(monkeypatch, pool):
    monkeypatch.setattr(coreset, "POOL", pool)
    monkeypatch.setitem(coreset.BLOCKS, "cpu", (64, 48))
    candidates, centers = clusters(700, 900)
    assert k_center_greedy(candidates, centers, 120).tolist() == plain_greedy(candidates, centers, 120)


@pytest.mark.parametrize("pool", [2, 5, 1024])
def test_ties_go_to_the_lowest_index_whatever_the_pool(monkeypatch, pool):
    monkeypatch.setattr(coreset, "POOL", pool)
    grid = torch.cartesian_prod(torch.arange(-3.0, 4.0), torch.arange(-3.0, 4.0))  # mean 0: every distance is an exact integer
    centers = torch.tensor([[0.0, 0.0]])
    assert k_center_greedy(grid, centers, 49).tolist() == plain_greedy(grid, centers, 49)


@pytest.mark.parametrize("seed", range(6))
def test_at_most_twice_the_optimum(seed):
    candidates, centers = clusters(11, 4, dimensions=3, seed=seed)
    for budget in (1, 2, 3):
        best = min(radius(candidates, torch.cat([centers, candidates[list(s)]])) for s in combinations(range(11), budget))
        ours = covering_radius(candidates, centers, k_center_greedy(candidates, centers, budget))
        assert best - 1e-5 <= ours <= 2 * best + 1e-5


def test_selections_are_nested_and_the_radius_never_grows():
    candidates, centers = clusters(300, 100)
    long = k_center_greedy(candidates, centers, 60)
    radii = [covering_radius(candidates, centers, long[:budget]) for budget in (0, 1, 5, 20, 60)]
    assert radii == sorted(radii, reverse=True) and radii[0] == pytest.approx(radius(candidates, centers), rel=1e-5)
    for budget in (1, 7, 33):
        assert torch.equal(k_center_greedy(candidates, centers, budget), long[:budget])


def test_rotation_and_translation_change_nothing():
    candidates, centers = clusters(200, 150)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(5))).Q
    moved = k_center_greedy(candidates @ rotation + 100, centers @ rotation + 100, 30)
    assert torch.equal(moved, k_center_greedy(candidates, centers, 30))


def test_features_that_carry_gradients_are_features():
    candidates, centers = clusters(40, 20)
    picks = k_center_greedy(candidates.clone().requires_grad_(), centers.clone().requires_grad_(), 10)
    assert torch.equal(picks, k_center_greedy(candidates, centers, 10))


def test_duplicates_come_last_and_none_is_picked_twice():
    candidates, centers = clusters(20, 10)
    twice = torch.cat([candidates, candidates])
    picks = k_center_greedy(twice, centers, 40)
    assert sorted(picks.tolist()) == list(range(40))
    assert sorted((picks[:20] % 20).tolist()) == list(range(20))
    assert covering_radius(twice, centers, picks[:20]) == 0


def test_without_centers_the_first_is_the_farthest_from_the_mean():
    candidates, _ = clusters(50, 1)
    first = int((candidates - candidates.mean(dim=0)).norm(dim=1).argmax())
    picks = k_center_greedy(candidates, None, 10)
    assert picks.tolist() == [first, *plain_greedy(candidates, candidates[first, None], 10)[:9]]
    assert torch.equal(k_center_greedy(candidates, torch.empty(0, 12), 10), picks)


def test_algorithm_1_to_the_letter_returns_one_example():
    """CF-DARTS' Algorithm 1 takes the same argmax in every turn: the distances to D_train never change."""
    candidates, centers = clusters(100, 50)
    core = set()
    for _ in range(10):
        core.add(int(torch.cdist(candidates, centers).amin(dim=1).argmax()))
    assert len(core) == 1 and core == {int(farthest(candidates, centers, 1))} == {int(k_center_greedy(candidates, centers, 1))}


def test_k_center_covers_what_the_farthest_and_the_random_leave_out():
    candidates, centers = clusters(500, 200)
    ours, top, chance = k_center_greedy(candidates, centers, 40), farthest(candidates, centers, 40), random_selection(500, 40, 0)
    radii = [covering_radius(candidates, centers, selected) for selected in (ours, top, chance)]
    assert radii[0] < radii[1] and radii[0] < radii[2]
    assert len(set((ours // 5).tolist())) > len(set((top // 5).tolist()))  # base images: the farthest are near-duplicates
    distances = torch.cdist(candidates, centers).amin(dim=1)
    assert torch.equal(top, distances.argsort(descending=True)[:40])


def test_radii_of_all_prefixes_are_those_of_each():
    candidates, centers = clusters(80, 40)
    picks = random_selection(80, 12, 1)
    radii = covering_radii(candidates, centers, picks)
    expected = [covering_radius(candidates, centers, picks[:budget]) for budget in range(13)]
    assert radii.tolist() == pytest.approx(expected, rel=1e-5)
    without = covering_radii(candidates, None, picks)
    assert without[0] == torch.inf and float(without[5]) == pytest.approx(covering_radius(candidates, None, picks[:5]), rel=1e-5)


def test_random_selection_is_seeded_and_nested():
    assert torch.equal(random_selection(100, 20, 3), random_selection(100, 50, 3)[:20])
    assert len(set(random_selection(100, 100, 3).tolist())) == 100
    assert not torch.equal(random_selection(100, 20, 3), random_selection(100, 20, 4))


def test_balanced_greedy_gives_each_class_its_turn_and_its_own_centers():
    candidates, centers = clusters(60, 20)
    labels = torch.tensor([2] * 40 + [0] * 17 + [5] * 3)
    picks = balanced_greedy(candidates, centers, labels, 30)
    assert labels[picks[:9]].tolist() == [0, 2, 5] * 3 and labels[picks].bincount().tolist() == [14, 0, 13, 0, 0, 3]
    for label in (0, 2, 5):
        rows = (labels == label).nonzero().flatten()
        own = picks[labels[picks] == label]
        assert torch.equal(own, rows[k_center_greedy(candidates[rows], centers, len(own))])
    assert torch.equal(balanced_greedy(candidates, centers, labels, 11), picks[:11])
    assert balanced_greedy(candidates, None, labels, 60).sort().values.tolist() == list(range(60))


@pytest.mark.parametrize("pool", [3, 32, 1024])
def test_groups_give_one_pick_each_as_the_plain_loop_has_it(monkeypatch, pool):
    monkeypatch.setattr(coreset, "POOL", pool)
    monkeypatch.setitem(coreset.BLOCKS, "cpu", (64, 48))
    candidates, centers = clusters(400, 300)
    for groups in (torch.arange(400) // 5, torch.randint(90, (400,), generator=torch.Generator().manual_seed(1))):
        count = len(groups.unique())
        picks = k_center_greedy(candidates, centers, count, groups=groups)
        assert picks.tolist() == plain_greedy(candidates, centers, count, groups)
        assert groups[picks].sort().values.tolist() == groups.unique().tolist()
        assert torch.equal(k_center_greedy(candidates, centers, count // 2, groups=groups), picks[: count // 2])


def test_groups_without_centers_ties_and_groups_of_one():
    candidates, centers = clusters(60, 20)
    assert torch.equal(k_center_greedy(candidates, centers, 25, groups=torch.arange(60) * 7), k_center_greedy(candidates, centers, 25))
    groups = torch.arange(60) % 12
    picks = k_center_greedy(candidates, None, 12, groups=groups)
    assert picks[0] == k_center_greedy(candidates, None, 1) and groups[picks].unique().tolist() == list(range(12))
    same = torch.zeros(6, 3)
    assert k_center_greedy(same, same[:1], 3, groups=torch.tensor([0, 0, 1, 1, 2, 2])).tolist() == [0, 2, 4]


def test_a_pick_from_each_group_is_the_best_of_all_when_every_step_is_forced():
    """Against every choice of one candidate per group: where each group has one candidate far from all else, the radius is the least."""
    candidates = torch.tensor([[0.0, 1.0], [9.0, 9.0], [1.0, 0.0], [-9.0, 9.0], [0.0, -1.0], [9.0, -9.0]])
    groups, centers = torch.tensor([0, 0, 1, 1, 2, 2]), torch.zeros(1, 2)
    every = [list(choice) for choice in product((0, 1), (2, 3), (4, 5))]
    best = min(every, key=lambda choice: radius(candidates, torch.cat([centers, candidates[choice]])))
    assert sorted(k_center_greedy(candidates, centers, 3, groups=groups).tolist()) == best


def test_failures_of_one_class_only_are_selected_as_any_others():
    candidates, centers = clusters(40, 20)
    assert torch.equal(balanced_greedy(candidates, centers, torch.full((40,), 7), 15), k_center_greedy(candidates, centers, 15))


def test_wrong_input_is_named():
    candidates, centers = clusters(10, 5)
    with pytest.raises(ValueError, match="budget: expected 1 to 10 .*got 11"):
        k_center_greedy(candidates, centers, 11)
    with pytest.raises(ValueError, match="budget"):
        farthest(candidates, centers, 0)
    with pytest.raises(ValueError, match="budget"):
        random_selection(5, 6, 0)
    with pytest.raises(ValueError, match="centers: expected 12 dimensions"):
        k_center_greedy(candidates, centers[:, :5], 2)
    with pytest.raises(ValueError, match=r"candidates: expected floating-point features \(rows, dimensions\)"):
        k_center_greedy(candidates[0], centers, 1)
    broken = centers.clone()
    broken[3, 2] = torch.nan
    with pytest.raises(ValueError, match="centers: expected finite features; 1 of 5 rows hold NaN or infinity, the first is row 3"):
        k_center_greedy(candidates, broken, 2)
    with pytest.raises(ValueError, match="candidates: expected finite features; 1 of 5 rows"):
        k_center_greedy(broken, candidates, 2)
    for select in (farthest, k_center_greedy):
        with pytest.raises(ValueError, match="budget: expected 1 to 10 .*got 11"):
            select(candidates, None, 11)
    with pytest.raises(ValueError, match=r"labels: expected int64 \(10,\), one per image, got shape \(9,\)"):
        balanced_greedy(candidates, centers, torch.zeros(9, dtype=torch.int64), 2)
    with pytest.raises(TypeError, match="labels: .*got float32"):
        balanced_greedy(candidates, centers, torch.zeros(10), 2)
    with pytest.raises(ValueError, match=r"budget: expected 1 to 5 \(the number of groups\), got 6"):
        k_center_greedy(candidates, centers, 6, groups=torch.arange(10) % 5)
    with pytest.raises(ValueError, match=r"groups: expected int64 \(10,\), one per image, got shape \(4,\)"):
        k_center_greedy(candidates, centers, 2, groups=torch.arange(4))
    with pytest.raises(ValueError, match="selected"):
        covering_radius(candidates, None, torch.empty(0, dtype=torch.int64))
