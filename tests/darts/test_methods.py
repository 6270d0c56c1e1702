"""PC-DARTS, second order, DARTS-PT and RobustDARTS as searches: schedules, selection, resumption."""

import pytest
import torch
from stripes import CHEAP, TINY, TRAIN, VAL, Interrupted, assert_same, stop_at

from rtalib.darts import PRESETS, SPACES, Choice, Curvature, Projection, StopRule, Supernet, darts_pt, edge_normalized, robust_darts, search
from rtalib.darts.darts_pt import CELLS, Decisions, due, edges_into
from rtalib.darts.settings import settings_for
from rtalib.darts.steps import Steps
from rtalib.training import checkpoints

CHOICE = Choice(epochs=1, recipe="small_darts", channels=4, layers=3)
EAGER = {"curvature": Curvature(every=1), "stop": StopRule(window=1, lag=1, ratio=1.5, first=0)}
FEW = VAL.subset(range(8))
PT = {"epochs": 1, "projection": Projection(interval=1), "steps_per_epoch": 1, "batch_size": 8}
GRID = {"epochs": 2, "grid": ((3e-4, 0.0), (3e-4, 0.2)), "cutout": 4, "choice": CHOICE, "order": 1}
SEARCHES = {
    "second order": ("darts", {**TINY, "order": 2, "epochs": 2}),
    "second order, exact": ("darts", {**TINY, "order": 2, "term": "exact", "epochs": 2}),
    "PC-DARTS": ("pc-darts", {**TINY, "partial": 2, "epochs": 3, "warm_up": 1}),
    "PC-DARTS, random mask and noise": ("pc-darts", {**TINY, "partial": 2, "epochs": 3, "warm_up": 0, "mask": "random", "space": "s4"}),
    "DARTS-PT": ("darts-pt", {**CHEAP, **PT}),
    "RobustDARTS, grid": ("robust-darts", {**CHEAP, **GRID}),
    "RobustDARTS, DARTS-ADA": ("robust-darts", {**CHEAP, "preset": "adaptive", "epochs": 4, "order": 1, **EAGER}),
    "RobustDARTS, measured": ("robust-darts", {**CHEAP, "preset": "early-stop", "epochs": 3, "order": 1, "curvature": Curvature(2, 4)}),
}


@pytest.fixture(autouse=True)
def rising(monkeypatch):
    """DARTS-ADA is run on a made-up curvature that triggers it in the third epoch."""
    plain = robust_darts.eigenvalue

    def eigenvalue(steps, val, curvature, *, seed, epoch):
        if steps.settings.adaptation is None:
            return plain(steps, val, curvature, seed=seed, epoch=epoch)
        weight_decay = steps.sgd.param_groups[0]["weight_decay"]
        return {"eigenvalue": 9.0 if epoch == 2 and weight_decay < 1e-3 else 1.0, "eigenvalue_error": 0.0}

    monkeypatch.setattr(robust_darts, "eigenvalue", eigenvalue)


@pytest.fixture(scope="module")
def finished():
    """Searches that were never interrupted, each made once."""
    made = {}

    def make(name):
        if name not in made:
            method, changes = SEARCHES[name]
            made[name] = search(TRAIN, FEW, method, seed=3, **changes)
        return made[name]

    return make


@pytest.mark.parametrize("name", SEARCHES)
def test_every_method_resumes_to_the_identical_result(name, finished, tmp_path):
    (method, changes), path = SEARCHES[name], tmp_path / "search.pt"
    with pytest.raises(Interrupted):
        stop = stop_at(15 if method == "darts-pt" else 1)  # DARTS-PT: after the operations, amid the inputs
        search(TRAIN, FEW, method, seed=3, checkpoint=path, on_epoch=stop, **changes)
    whole = finished(name)
    torch.manual_seed(11)  # another process has another state of the global generator
    assert_same(whole, search(TRAIN, FEW, method, seed=3, checkpoint=path, **changes))


def test_killed_in_the_middle_of_a_decision(finished, tmp_path, monkeypatch):
    (method, changes), path, calls = SEARCHES["DARTS-PT"], tmp_path / "search.pt", []
    plain = darts_pt.measure

    def measure(*arguments):
        calls.append(arguments)
        if len(calls) == 14:  # between the normal and the reduction cell of the seventh decision
            raise Interrupted
        return plain(*arguments)

    monkeypatch.setattr(darts_pt, "measure", measure)
    with pytest.raises(Interrupted):
        search(TRAIN, FEW, method, seed=3, checkpoint=path, **changes)
    assert len(checkpoints.read(path)["history"]) == 7
    assert_same(finished("DARTS-PT"), search(TRAIN, FEW, method, seed=3, checkpoint=path, **changes))


def test_warm_up_leaves_the_architecture_alone(finished):
    first, second, _ = finished("PC-DARTS").trace
    start = search(TRAIN, FEW, "pc-darts", seed=3, **TINY, partial=2, epochs=1, warm_up=0, arch_lr=0.0, arch_weight_decay=0.0).trace[0]
    for name in ("alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce"):
        assert first[name] == start[name] != second[name]
    assert first["val_loss"] is None and second["val_loss"] > 0


def test_pc_darts_selects_by_edges_and_its_trace_has_the_numbers(finished):
    result = finished("PC-DARTS")
    state = result.state
    assert result.genotype == edge_normalized(*(state[f"{kind}_{cell}"] for kind in ("alphas", "betas") for cell in CELLS), "s2")
    assert torch.equal(torch.tensor(result.trace[-1]["alphas_normal"]), state["alphas_normal"])
    assert torch.equal(torch.tensor(result.trace[-1]["betas_reduce"]), state["betas_reduce"])


def test_second_order_differs_from_first_by_a_bounded_share(finished):
    first = search(TRAIN, FEW, seed=3, epochs=2, **TINY)
    exact = finished("second order, exact")
    assert not torch.equal(first.state["alphas_normal"], exact.state["alphas_normal"])
    assert not torch.equal(finished("second order").state["alphas_normal"], exact.state["alphas_normal"])


def test_second_order_is_first_order_where_the_learning_rate_is_zero():
    still = {"epochs": 1, "lr": 0.0, "lr_min": 0.0, "seed": 2, **TINY}
    first, second = (search(TRAIN, VAL, order=order, **still).state for order in (1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------------------ DARTS-PT


def made_up(table):
    """A measurement that looks removals up by cell, and counts."""

    def measure(mixings):
        measure.passes += len(mixings)
        return [table(mixing) for mixing in mixings]

    measure.passes = 0
    return measure


def uniform(space="no-none"):
    return tuple(torch.full((14, len(getattr(SPACES[space], cell)[0])), 0.125) for cell in CELLS)


def test_schedule_is_the_published_one():
    projection, decisions, measure = Projection(), Decisions(SPACES["no-none"]), made_up(lambda mixing: float(mixing[0].sum()))
    assert (projection.epochs, projection.decisions) == (81, 17) and PRESETS["darts-pt"]["published"].total_epochs == 131
    at = [epoch for epoch in range(200) if due(projection, 50, epoch)]
    assert at == [50 + 5 * i for i in range(17)]
    made = [decisions.decide(uniform(), measure, seed=0, epoch=epoch) for epoch in at]
    assert measure.passes == 240
    kinds = [[("operation" in decision, decision["cell"]) for decision in pair] for pair in made]
    assert kinds == [[(True, "normal"), (True, "reduce")]] * 14 + [[(False, "normal"), (False, "reduce")]] * 3
    assert sorted(decision["edge"] for pair in made[:14] for decision in pair) == sorted([*range(14)] * 2)
    assert {decision["node"] for pair in made[14:] for decision in pair} == {3, 4, 5}
    assert [decision["edge"] for pair in made[:14] for decision in pair[:1]] != [*range(14)]  # in random order
    for cell in CELLS:
        assert [sum(not decisions.removed[cell][edge] for edge in edges_into(node)) for node in range(2, 6)] == [2, 2, 2, 2]
    assert decisions.decide(uniform(), measure, seed=0, epoch=200) == []


def test_operation_is_kept_whose_removal_costs_most():
    decisions = Decisions(SPACES["no-none"])
    accuracy = made_up(lambda mixing: 0.9 - 0.3 * (mixing[0][3, 4] == 0).item() - 0.1 * (mixing[0][3, 2] == 0).item())
    decision = decisions.decide_operation("normal", 3, uniform(), accuracy)
    assert decision["operation"] == "sep_conv_5x5" == SPACES["no-none"].normal[3][4] and accuracy.passes == 7
    normal, reduce = decisions.apply(uniform())
    assert normal[3].tolist() == [0, 0, 0, 0, 1, 0, 0] and normal[4].tolist() == reduce[3].tolist() == [0.125] * 7
    assert decisions.decide_operation("reduce", 0, uniform(), made_up(lambda mixing: 0.5))["operation"] == "max_pool_3x3"  # a tie
    none = Decisions(SPACES["s3"])
    assert none.decide_operation("normal", 0, uniform("s3"), measure := made_up(lambda mixing: 0.5))["operation"] == "skip_connect"
    assert measure.passes == 2


def test_other_operations_are_not_renormalised_in_a_measurement():
    mixing = uniform()
    normal, _ = Decisions(SPACES["no-none"]).without(mixing, "normal", 6, 2)
    assert normal[6].tolist() == [0.125, 0.125, 0.0, 0.125, 0.125, 0.125, 0.125] and mixing[0][6, 2] == 0.125


def test_inputs_that_are_missed_least_go_one_after_the_other():
    decisions, worth = Decisions(SPACES["no-none"]), {9: 0.4, 10: 0.1, 11: 0.3, 12: 0.05, 13: 0.2}  # of node 5's edges
    seen = []

    def measure(mixings):
        gone = [[edge for edge in worth if not mixing[1][edge].any()] for mixing in mixings]
        seen.extend(gone)
        return [1 - sum(worth[edge] for edge in edges) for edges in gone]

    decision = decisions.decide_inputs("reduce", 5, uniform(), measure)
    assert decision["inputs"] == [0, 2] and len(decision["measured"]) == 12
    assert seen[5] == [9, 12] and seen[9] == [9, 10, 12]  # what has been removed stays away
    assert not any(decisions.removed["normal"])


def test_measurement_is_the_accuracy_and_the_loss_over_the_whole_set():
    torch.manual_seed(0)
    supernet = Supernet("s2", 4, 3, 2)
    batches = [(torch.rand(n, 3, 12, 12), torch.randint(2, (n,))) for n in (6, 6, 3)]
    mixings = [supernet.mixing(), uniform("s2")]
    accuracy, loss = (darts_pt.measure(supernet, batches, mixings, criterion) for criterion in ("accuracy", "loss"))
    with torch.no_grad():
        for i, mixing in enumerate(mixings):
            logits = [supernet(images, mixing) for images, _ in batches]
            labels = torch.cat([labels for _, labels in batches])
            assert accuracy[i] == pytest.approx((torch.cat(logits).argmax(1) == labels).double().mean().item())
            assert loss[i] == pytest.approx(-torch.nn.functional.cross_entropy(torch.cat(logits), labels).item(), rel=1e-5)
    noisy = Supernet("s4", 4, 3, 2)
    mixing = noisy.mixing()
    same, again = (darts_pt.measure(noisy, batches, [mixing, mixing], "loss") for _ in range(2))
    assert same[0] == same[1] != again[0]
    with pytest.raises(ValueError, match="unknown criterion"):
        darts_pt.measure(supernet, batches, mixings, "f1")


def test_genotype_of_darts_pt_is_what_was_decided(finished):
    result = finished("DARTS-PT")
    assert [row["lr"] for row in result.trace[1:]] == [2.5e-3] * 17 and len(result.trace) == 18
    decisions = [decision for row in result.trace for decision in row.get("decisions", [])]
    for cell in CELLS:
        inputs = {2: [0, 1]} | {d["node"]: d["inputs"] for d in decisions if d["cell"] == cell and "node" in d}
        kept = {d["edge"]: d["operation"] for d in decisions if d["cell"] == cell and "edge" in d}
        expected = [(kept[edges_into(node)[source]], source) for node in range(2, 6) for source in inputs[node]]
        assert list(getattr(result.genotype, cell)) == expected
    assert sum(len(decision["measured"]) for decision in decisions) == 2 * (14 * 2 + 22)
    assert result.trace[-1]["entropy_normal"] == 0.0 < result.trace[1]["entropy_normal"]
    assert result.trace[-1]["genotype"] == str(result.genotype)


def test_tuning_begins_with_a_new_optimiser_and_keeps_its_rate():
    settings = settings_for("darts-pt", epochs=2, projection=Projection(interval=1), lr=0.1, space="s2", channels=4, layers=3)
    steps = Steps(Supernet("s2", 4, 3, 2), settings)
    batch = torch.rand(4, 3, 12, 12), torch.tensor([0, 1, 0, 1])
    for epoch, moved in ((0, False), (1, True), (2, False), (3, True), (4, True)):
        lr = steps.start_epoch(epoch)
        assert bool(steps.sgd.state) == moved and (lr == pytest.approx(0.01)) == (epoch >= 2)
        steps.step(batch, None)
    steps = Steps(Supernet("s2", 4, 3, 2), settings_for("darts-pt", epochs=2, projection=Projection(lr=0.5), space="s2"))
    assert steps.start_epoch(7) == 0.5


def test_fixed_alphas_stay_as_initialised():
    preset = PRESETS["darts-pt"]["fixed-alphas"]
    assert preset.fixed_alphas and preset.projection == Projection()
    first, last = search(TRAIN, FEW, **CHEAP, epochs=2, fixed_alphas=True).trace
    assert first["alphas_normal"] == last["alphas_normal"] and last["val_loss"] is None
    assert max(abs(a) for row in first["alphas_normal"] for a in row) < 0.01


def test_decisions_may_look_at_a_few_images_only(monkeypatch):
    seen = []

    def measure(supernet, batches, mixings, criterion):
        seen.append(sum(len(labels) for _, labels in batches))
        return [0.0] * len(mixings)

    monkeypatch.setattr(darts_pt, "measure", measure)
    settings = {**CHEAP, **PT, "projection": Projection(interval=1, images=5)}
    search(TRAIN, VAL, "darts-pt", **settings)
    assert len(seen) > 28 and set(seen) == {5}
    with pytest.raises(ValueError, match="projection.images"):
        Projection(images=0)
