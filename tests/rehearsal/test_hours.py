"""Hours from steps: lists of steps whose makespan is known, prices by operations, and what is left when rows are stored."""

import itertools

import pytest
import torch

from rtalib import models, store
from rtalib.rehearsal import kinds, prices
from rtalib.rehearsal.hours import Step, makespan, steps
from rtalib.rehearsal.kinds import Kind
from rtalib.rehearsal.rows import text_of
from rtalib.rehearsal.work import Work
from rtalib.training.recipes import RECIPES


def line(*seconds: float) -> list[Step]:
    """Steps that wait for one another."""
    return [Step("t", second, needs=(i - 1,) if i else ()) for i, second in enumerate(seconds)]


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_a_line_of_steps_is_no_faster_on_more_devices(devices):
    assert makespan(line(3, 1, 2), devices) == 6


def test_independent_steps_are_shared_out_longest_first():
    """Graham 1969: 3, 3, 2, 2, 2 on two devices take 7 by the longest first; 6 would be best."""
    free = [Step("t", second) for second in (2, 3, 2, 3, 2)]
    assert [makespan(free, devices) for devices in (1, 2, 3, 5, 64)] == [12, 7, 5, 3, 3]


def test_a_step_waits_for_all_that_it_needs():
    diamond = [Step("t", 1), Step("t", 5, needs=(0,)), Step("t", 2, needs=(0,)), Step("t", 1, needs=(1, 2))]
    assert makespan(diamond, 1) == 9 and makespan(diamond, 2) == makespan(diamond, 8) == 7


def test_makespan_lies_between_the_bounds_of_every_schedule():
    generator = torch.Generator().manual_seed(0)
    for devices in (1, 2, 3):
        found = []
        for number in range(40):
            needs = tuple(i for i in range(number) if torch.rand(1, generator=generator) < 0.08)
            found.append(Step("t", float(torch.randint(1, 9, (1,), generator=generator)), needs=needs))
        longest = [0.0] * len(found)
        for number, step in enumerate(found):
            longest[number] = step.seconds + max((longest[need] for need in step.needs), default=0)
        total, way = sum(step.seconds for step in found), max(longest)
        assert max(way, total / devices) <= makespan(found, devices) <= total / devices + way * (1 - 1 / devices) + 1e-9


KIND = Kind(kinds.TRAINING, "tiny", "clean", 64, recipe=kinds.unit_recipe(RECIPES["fast"]))


def example() -> Work:
    work = Work()
    shared = work.add(("network", "shared"), [(KIND, 10)])
    for name in "ab":
        own = work.add(("network", name), [(KIND, 5)], [shared])
        work.cells["t", name] = (own,)
    return work


def test_shared_work_counts_once_and_is_done_when_a_stored_row_needed_it():
    price = prices.Prices({text_of(KIND): {"unit_seconds": 2.0}})
    assert [step.seconds for step in steps(example(), [], price, {})] == [20, 10, 10]
    left = steps(example(), [("t", "a")], price, {})
    assert [(step.seconds, step.needs, step.guess) for step in left] == [(10, (), False)]


def test_a_cell_of_known_cost_needs_no_price():
    assert [step.seconds for step in steps(example(), [], prices.Prices(), {("t", "a"): 3.0, ("t", "b"): 4.0})] == [3, 4]


def test_what_was_not_rehearsed_is_guessed_by_its_operations():
    seconds, guess = prices.Prices({}, rate=1e-9).of(KIND)
    assert guess and seconds == pytest.approx(1e-9 * 3 * 64 * prices.forward("tiny", False, 32, 10, (), "cifar"))


@pytest.mark.parametrize(
    ("network", "millions"),
    [("resnet50", 1298), ("wide_resnet28_10", 5247), ("preact_resnet18", 556)],
)
def test_operations_are_those_that_others_count(network, millions):
    """Multiply-adds of convolutions and classifiers, as CIFAR model collections print them (ptflops); an operation is half of one."""
    assert prices.forward(network, False, 32, 10, (), "cifar") / 2e6 == pytest.approx(millions, rel=0.01)


def test_operations_are_those_of_the_layers_counted_by_hand():
    network, total = models.build("convnet").eval(), 0

    def count(module, inputs, output):
        nonlocal total
        total += 2 * output[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    network(torch.zeros(1, 3, 32, 32))
    assert prices.forward("convnet", False, 32, 10, (), "cifar") == total


def test_an_inner_attack_costs_its_steps():
    plain, robust = (prices.operations(Kind(kinds.TRAINING, "tiny", method, 64, recipe=KIND.recipe)) for method in ("clean", "pgd_at"))
    assert robust / plain == (3 + 2 * 10) / 3


def test_the_rate_is_that_of_a_recorded_training():
    row = {"setup": {"channels": 4, "layers": 2, "stem": "tiny-imagenet"}, "n_train": 80, "recipe": {"epochs": 2}}
    row |= {"history": [{"seconds": 3.0}, {"seconds": 1.0}]}
    once = prices.forward(kinds.CELLS, False, 32, 10, (4, 2), "tiny-imagenet")
    assert prices.rate(row) == 4.0 / (3 * once * 160)


def test_rehearsed_trainings_say_what_the_others_cost():
    rows = {str(k): {"unit_seconds": k * prices.operations(KIND), "kind": store.plain(KIND)} for k in (1.0, 2.0, 9.0)}
    assert prices.guessed(rows) == (2.0, "its rehearsed trainings") and prices.kind_of(store.plain(KIND)) == KIND


def test_without_any_recorded_row_a_small_network_is_timed(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(prices, "RECORD", tmp_path / "none")
    rate, origin = prices.guessed({})
    assert 1e-13 < rate < 1e-6 and origin == "this machine, a small network" and not list(itertools.chain(tmp_path.iterdir()))
    assert store.outputs() == tmp_path
