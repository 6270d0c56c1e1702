"""RobustDARTS: the stop rule on published eigenvalues, roll-backs, regularisation grids; presets and bad settings."""

import dataclasses

import pytest
import torch
from stripes import CHEAP, TINY, TRAIN, VAL

from rtalib.darts import METHODS, PRESETS, Adaptation, Choice, Curvature, Projection, StopRule, choose, early_stop, random_genotype, search
from rtalib.darts import robust_darts as robust
from rtalib.darts.robust_darts import averages
from rtalib.darts.settings import Settings, settings_for

# S1 on CIFAR-10, weight decay 3e-4, no drop path: the authors' logs.
EPOCHS = [*range(0, 50, 2), 49]
LOGS = {
    1: ".179 .148 .170 .146 .121 .249 .231 .360 .225 .386 .208 .430 .508 .229 .410 .502 .500 .250 .457 .517 .644 .459 .707 1.319 .527 .521",
    2: ".174 .147 .263 .193 .167 .221 .209 .151 .220 .290 .314 .474 .305 .362 .323 .361 .900 .243 .301 .629 .647 .517 .821 .395 .395 .394",
    3: ".146 .208 .316 .197 .213 .183 .347 .203 .250 .171 .310 .305 .253 .261 .407 .592 .596 .789 .733 .481 .365 .786 .913 .312 .880 1.064",
}


@pytest.mark.parametrize("seed, epoch, back_to, ratio", [(1, 22, 10, 1.453), (2, 22, 10, 1.54), (3, 30, 18, 1.467)])
@pytest.mark.parametrize("threshold", [1.3, 4 / 3])
def test_published_logs_stop_where_they_did(seed, epoch, back_to, ratio, threshold):
    values = [float(word) for word in LOGS[seed].split()]
    stop = early_stop(EPOCHS, values, StopRule(ratio=threshold))
    assert (stop.epoch, stop.back_to) == (epoch, back_to) and stop.ratio == pytest.approx(ratio, abs=2e-3)
    before = EPOCHS.index(epoch)
    assert early_stop(EPOCHS[:before], values[:before], StopRule(ratio=threshold)) is None


def test_rule_never_triggers_before_epoch_22_or_on_a_flat_curve():
    steep = [2.0**i for i in range(26)]
    stop = early_stop(EPOCHS, steep, StopRule())
    assert (stop.epoch, stop.back_to) == (22, 10)
    assert early_stop(EPOCHS, [0.2] * 26, StopRule()) is None
    assert early_stop(EPOCHS, [-value for value in steep], StopRule()) is None  # no ratio of negative averages


def test_averages_belong_to_the_middle_or_to_the_last_measurement():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert averages(values, StopRule()) == {0: 2.0, 1: 2.5, 2: 3.0, 3: 4.0}
    assert averages(values, StopRule(centered=False)) == {2: 2.0, 3: 2.5, 4: 3.0, 5: 4.0}
    paper = PRESETS["robust-darts"]["early-stop-paper"].stop
    stop = early_stop(range(40), [0.2] * 20 + [0.2 * 1.1**i for i in range(20)], paper)
    assert stop.back_to == stop.epoch - 5 and 1 / stop.ratio < 0.75


def test_bad_eigenvalues_are_named():
    with pytest.raises(ValueError, match="epochs: expected ascending"):
        early_stop([0, 2, 2], [1.0, 1.0, 1.0], StopRule())
    with pytest.raises(ValueError, match="one for each of 2 eigenvalues"):
        early_stop([0], [1.0, 1.0], StopRule())
    with pytest.raises(ValueError, match="eigenvalues: expected finite"):
        early_stop([0, 2], [1.0, float("nan")], StopRule())


def scripted(monkeypatch, values):
    """Eigenvalues by (weight decay, epoch) instead of measured ones."""
    monkeypatch.setattr(
        robust,
        "eigenvalue",
        lambda steps, val, curvature, *, seed, epoch: {"eigenvalue": values(steps.sgd.param_groups[0]["weight_decay"], epoch)},
    )


RULE = {
    "curvature": Curvature(every=1),
    "stop": StopRule(window=1, lag=1, ratio=1.5, first=1),
    "order": 1,
    "batch_size": 8,
    "steps_per_epoch": 1,
}


def test_early_stop_returns_the_architecture_before_the_rise(monkeypatch):
    scripted(monkeypatch, lambda weight_decay, epoch: 9.0 if epoch == 3 else 1.0)
    result = search(TRAIN, VAL, "robust-darts", preset="early-stop", **{**CHEAP, **RULE, "epochs": 6})
    assert [row["epoch"] for row in result.trace] == [0, 1, 2, 3] and result.trace[-1]["rolled_back_to"] == 2
    earlier = result.trace[2]
    assert str(result.genotype) == earlier["genotype"]
    assert torch.equal(result.state["alphas_normal"], torch.tensor(earlier["alphas_normal"]))
    plain = search(TRAIN, VAL, "robust-darts", preset="early-stop", **{**CHEAP, **RULE, "epochs": 6, "stop": None})
    assert plain.trace[2]["alphas_normal"] == earlier["alphas_normal"] and len(plain.trace) == 6


def test_ada_goes_on_with_more_weight_decay_up_to_its_limit(monkeypatch):
    rises = {3e-4: 3, 3e-3: 5}
    scripted(monkeypatch, lambda weight_decay, epoch: 9.0 if epoch == rises.get(round(weight_decay, 9)) else 1.0)
    result = search(TRAIN, VAL, "robust-darts", preset="adaptive", **{**CHEAP, **RULE, "epochs": 7})
    assert [(row["epoch"], round(row["weight_decay"], 9)) for row in result.trace] == [
        *((epoch, 3e-4) for epoch in (0, 1, 2, 3)),
        *((epoch, 3e-3) for epoch in (3, 4, 5)),
        *((epoch, 3e-2) for epoch in (5, 6)),
    ]
    assert [row.get("rolled_back_to") for row in result.trace] == [None, None, None, 2, None, None, 4, None, None]
    adaptation = Adaptation(limit=3e-3)
    scripted(monkeypatch, lambda weight_decay, epoch: 9.0**epoch)
    stopped = search(TRAIN, VAL, "robust-darts", preset="adaptive", **{**CHEAP, **RULE, "epochs": 7, "adaptation": adaptation})
    assert [row["epoch"] for row in stopped.trace] == [0, 1, 2, 2] and stopped.trace[-1]["rolled_back_to"] == 1
    assert str(stopped.genotype) == stopped.trace[1]["genotype"]


def test_ada_forgets_what_it_measured_after_the_epoch_it_returns_to(monkeypatch):
    scripted(monkeypatch, lambda weight_decay, epoch: 9.0 if epoch >= 4 and weight_decay < 1e-3 else 1.0)
    changes = {**CHEAP, **RULE, "epochs": 6, "stop": StopRule(window=1, lag=2, ratio=1.5, first=1)}
    trace = search(TRAIN, VAL, "robust-darts", preset="adaptive", **changes).trace
    assert [row["epoch"] for row in trace] == [0, 1, 2, 3, 4, 3, 4, 5] and trace[4]["rolled_back_to"] == 2
    assert trace[5]["alphas_normal"] == trace[3]["alphas_normal"]  # the same state and batches,
    assert trace[6]["alphas_normal"] != trace[4]["alphas_normal"]  # but weights that decay otherwise


def test_eigenvalue_of_a_search_is_the_dense_one():
    changes = {**CHEAP, "epochs": 1, "order": 1, "steps_per_epoch": 1, "stop": None}
    lanczos, dense = (
        search(TRAIN, VAL, "robust-darts", preset="early-stop", curvature=Curvature(2, 8, solver), **changes).trace[0]
        for solver in ("lanczos", "dense")
    )
    assert lanczos["eigenvalue"] == pytest.approx(dense["eigenvalue"], abs=lanczos["eigenvalue_error"] + 1e-6)
    assert dense["eigenvalue_error"] == 0.0 and dense["eigenvalue"] > 0
    assert lanczos["alphas_normal"] == dense["alphas_normal"] == search(TRAIN, VAL, **changes).trace[0]["alphas_normal"]


def test_eigenvalue_is_measured_when_it_is_due(monkeypatch):
    scripted(monkeypatch, lambda weight_decay, epoch: 1.0)
    trace = search(TRAIN, VAL, **CHEAP, epochs=4, curvature=Curvature(every=2)).trace
    assert ["eigenvalue" in row for row in trace] == [True, False, True, True]


def test_grid_returns_the_search_whose_cell_trains_best():
    choice = Choice(epochs=1, recipe="small_darts", channels=4, layers=3)
    grid = ((3e-4, 0.0), (0.5, 0.0), (3e-4, 0.2))
    changes = {**CHEAP, "epochs": 2, "order": 1, "cutout": 4, "batch_size": 8, "arch_lr": 0.05}
    rows = []
    result = search(TRAIN, VAL, "robust-darts", grid=grid, choice=choice, on_epoch=rows.append, **changes)
    assert [(c["weight_decay"], c["drop_path"]) for c in result.candidates] == list(grid)
    assert [(row["weight_decay"], row["drop_path"]) for row in rows] == [(wd, drop * i) for wd, drop in grid for i in (0, 1)]
    best = max(result.candidates, key=lambda candidate: candidate["accuracy"])
    chosen = next(candidate for candidate in result.candidates if candidate["chosen"])
    assert chosen == best and str(result.genotype) == chosen["genotype"] and result.trace[0]["weight_decay"] == chosen["weight_decay"]
    single = search(TRAIN, VAL, "robust-darts", grid=(), weight_decay=chosen["weight_decay"], drop_path=chosen["drop_path"], **changes)
    assert single.genotype == result.genotype and single.candidates == ()


def test_choice_is_the_best_short_training_and_trains_equal_cells_once(tmp_path):
    genotypes = [random_genotype(1, ("skip_connect",)), random_genotype(2), random_genotype(2)]
    choice = Choice(epochs=2, recipe="small_darts", channels=4, layers=3)
    best, scores = choose(genotypes, TRAIN, VAL, choice, device="cpu", checkpoint=tmp_path / "search.pt")
    assert scores[1] == scores[2] and best == scores.index(max(scores))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["search-choice-0.pt", "search-choice-1.pt"]
    assert choose(genotypes, TRAIN, VAL, choice, device="cpu") == (best, scores)
    with pytest.raises(ValueError, match="genotypes: expected at least one"):
        choose([], TRAIN, VAL, choice)


def test_presets_are_the_published_ones():
    assert METHODS == ("darts", "pc-darts", "darts-pt", "robust-darts")
    darts, pc, pt, robust_darts = (PRESETS[method]["published"] for method in METHODS)
    assert darts == Settings() and (darts.epochs, darts.batch_size, darts.lr, darts.arch_lr, darts.order) == (50, 64, 0.025, 3e-4, 1)
    assert (pc.partial, pc.batch_size, pc.lr, pc.lr_min, pc.arch_lr, pc.warm_up) == (4, 256, 0.1, 0.0, 6e-4, 15)
    assert pt.space == "no-none" and dataclasses.replace(pt, space="darts", projection=None) == darts
    assert robust_darts.order == 2 and [wd for wd, _ in robust_darts.grid] == pytest.approx([3e-4 * 3**i for i in range(4)])
    assert [drop for _, drop in PRESETS["robust-darts"]["drop-path"].grid] == [0.0, 0.2, 0.4, 0.6]


def test_refinements_are_short_and_a_warm_start_needs_no_warm_up():
    for method in METHODS:
        assert settings_for(method, "refinement").epochs == 20
    assert settings_for("pc-darts", "refinement").warm_up == 6
    assert settings_for("pc-darts", "refinement", warm_start=True).warm_up == 0
    assert settings_for("pc-darts", "refinement", warm_start=True, warm_up=3).warm_up == 3
    assert settings_for("pc-darts", warm_start=True).warm_up == 15
    stop = settings_for("robust-darts", "refinement-early-stop").stop
    assert early_stop(range(20), [2.0**i for i in range(20)], stop).epoch == 9  # of 20, as 22 of 50


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"order": 3}, "order: available are 1, 2, got 3"),
        ({"term": "forward"}, "term: available are differences, exact"),
        ({"mask": "rotating"}, "mask: available are fixed, random"),
        ({"arch_lrr": 1.0}, "unknown setting 'arch_lrr'. Did you mean 'arch_lr'"),
        ({"space": "s6"}, "unknown search space 's6'"),
        ({"partial": 0}, "partial: expected at least 1"),
        ({"drop_path": 1.0}, "drop_path: expected 0 to 0.99"),
        ({"stop": StopRule()}, "stop: needs the eigenvalue"),
        ({"adaptation": Adaptation()}, "adaptation: needs"),
        ({"method": "robust-darts", "weight_decay": 0.1}, r"weight_decay: the grid sets it; pass grid=\(\)"),
        ({"projection": Projection(), "partial": 2}, "projection: goes with neither"),
        ({"preset": "publishd"}, "unknown preset of darts 'publishd'. Did you mean 'published'"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        search(TRAIN, VAL, **changes)
    with pytest.raises(TypeError, match="epochs: expected an integer"):
        search(TRAIN, VAL, epochs=2.5)


def test_bad_parts_of_settings_are_named():
    with pytest.raises(ValueError, match="unknown solver 'power'"):
        Curvature(solver="power")
    with pytest.raises(ValueError, match="stop.ratio: expected at least 1"):
        StopRule(ratio=0.75)
    with pytest.raises(ValueError, match="unknown recipe 'dart'"):
        Choice(recipe="dart")
    with pytest.raises(ValueError, match="unknown criterion"):
        Projection(criterion="f1")
    with pytest.raises(ValueError, match="init: 'alphas_normal' holds NaN"):
        search(TRAIN, VAL, epochs=1, init={"alphas_normal": torch.full((14, 2), torch.nan)}, **TINY)
