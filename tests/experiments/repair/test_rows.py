"""What a row measures, what leaks, and how little a stored row does."""

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import rtalib
from rtalib import scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.data import LabeledImages
from rtalib.experiments import PROTOCOLS
from rtalib.experiments.repair import images
from rtalib.experiments.repair.protocol import Selection, deploy, find_failures, select
from rtalib.experiments.repair.rows import deployed_row, evaluation, failing, leakage, method_row
from rtalib.experiments.repair.tables import CF, CFE, DEPLOYED, MATCHED, RF, within

SETUP = scales.get("smoke").repair
COMMON = {"seed": 0, "dataset": "shapes10", "corruption": "gaussian_noise", "protocol": "disjoint", "scale": "smoke", "setup": SETUP}
STUDY = images.Study("shapes10", "smoke", SETUP)
HOUSE = Path(rtalib.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def outputs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTALIB_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield


def chosen_of(rule, protocol):
    """(evaluation images, phi_0, C_fail)."""
    split, deployed = images.evaluation_split(STUDY, protocol), deploy(STUDY)
    failures = find_failures(deployed, split.base, "gaussian_noise")
    return split.test, deployed, select(deployed, failures, rule, SETUP.failures)


@pytest.mark.parametrize("rule", ["random", "k-center"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_selected_images_are_not_evaluated_as_failing(protocol, rule):
    test, deployed, chosen = chosen_of(rule, protocol)
    wrong, everything = failing(test, [deployed], chosen), failing(test, [deployed], Selection(chosen.failures))
    assert int(everything.sum() - wrong.sum()) == (SETUP.failures if protocol == "paper" else 0)
    assert protocol == "disjoint" or not wrong[chosen.rows].any()


def test_leaked_base_images_are_those_of_the_selected_failures():
    test, _, chosen = chosen_of("k-center", "disjoint")
    assert leakage(test, chosen) == {"shared_base_images": 0, "leaked_base_images": 0}
    test, _, chosen = chosen_of("k-center", "paper")
    leaked = len({int(row) % SETUP.tests for row in chosen.rows})
    assert leakage(test, chosen) == {"shared_base_images": SETUP.tests, "leaked_base_images": leaked} and leaked > 0
    assert leakage(*chosen_of("augmented", "paper")[::2])["leaked_base_images"] == 0


@pytest.mark.parametrize("protocol, shared", [("disjoint", 0), ("paper", SETUP.tests)])
def test_the_deployed_network_s_row_says_what_the_protocol_shares(protocol, shared):
    row = deployed_row(DEPLOYED.trial(COMMON, protocol=protocol))
    assert row["shared_base_images"] == shared and 0 < row["failures"] < row["pool"] == 5 * (SETUP.tests if shared else SETUP.tests // 2)


def test_evaluation_has_a_column_for_every_corruption_and_rows_say_what_they_are_of():
    test = images.evaluation_split(STUDY, "disjoint").test
    clean, right = evaluation(test, deploy(STUDY))
    assert clean.shape == (SETUP.tests // 2,) and right.shape == (len(CORRUPTIONS), 5 * len(clean))
    row = method_row(DEPLOYED.trial(COMMON))
    assert row["fail"] == 0.0 and row["n_fail"] == int((~right[0]).sum())
    assert row["gaussian_noise"] == pytest.approx(100 * float(right[0].float().mean()))
    assert row["n_train"] == SETUP.images and row["n_eval"] == len(clean)


def test_a_matched_random_cell_is_of_the_size_of_the_refined_one():
    refined, alone, extended = (method_row(method.trial(COMMON)) for method in (CF, *MATCHED))
    assert alone["genotype"] == extended["genotype"] != refined["genotype"]
    assert abs(alone["params"] - refined["params"]) <= 0.1 * refined["params"]
    assert extended["n_train"] == alone["n_train"] + SETUP.failures and alone["n_fail"] == refined["n_fail"]


def test_rows_say_how_undecided_the_search_was_and_in_which_precision_they_were_trained():
    refined, drawn = (method_row(method.trial(COMMON)) for method in (CF, MATCHED[0]))
    assert 1.9 < refined["entropy"] <= math.log(8) and drawn["entropy"] is None  # one step of search decides nothing
    assert refined["precision"] in ("fp32", "bf16")


def test_budgets_above_the_number_of_failures_are_lowered_to_it():
    large = replace(CF, name="CF-DARTS(20000)").trial(COMMON, budget=20_000)
    assert within(large, 16_855) == replace(large, budget=16_855)
    assert within(large, 20_000) == within(large, None) == large
    drawn = DEPLOYED.trial(COMMON, budget=20_000)
    assert within(drawn, 5) == drawn


# ------------------------------------------------------------------------------------------------------ a stored row


@pytest.fixture(scope="module", params=PROTOCOLS)
def visited(request, outputs):
    """Calls, by file and function, of a CF-DARTSE row whose parts are stored, in a process that has read the data set and seen a row."""
    trial = CFE.trial(COMMON, protocol=request.param)
    method_row(trial)
    calls: Counter[tuple[str, str]] = Counter()

    def profile(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(HOUSE):
            calls[path.relative_to(HOUSE).as_posix(), frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        method_row(trial)
    finally:
        sys.setprofile(before)
    return calls


STEPS = {
    "images": ("evaluation_split", "data", "halves", "corrupted"),
    "protocol": ("deploy", "initial_search", "find_failures", "select", "refine", "retrain", "pool"),
    "rows": ("steps", "measure", "leakage", "facts"),
}


@pytest.mark.parametrize("file, step", [(file, step) for file, steps in STEPS.items() for step in steps])
def test_a_stored_row_takes_each_step_once(visited, file, step):
    path = f"experiments/repair/{file}.py"
    assert visited[path, step] == (2 if step == "halves" else 1)  # Study.halves calls the function of that name


def test_a_stored_row_visits_few_files_and_builds_no_network(visited):
    files = {file for file, _ in visited if not file.startswith("infra/")}
    assert len(files) <= 10, sorted(files)
    assert "darts/network.py" not in files


def test_a_stored_row_digests_each_data_set_once(monkeypatch):
    trial = CFE.trial(COMMON)
    method_row(trial)
    digested = []

    def digest(data):
        digested.append(original.func(data))
        return digested[-1]

    original = LabeledImages.__dict__["digest"]
    counting = type(original)(digest)
    counting.__set_name__(LabeledImages, "digest")
    monkeypatch.setattr(LabeledImages, "digest", counting)
    images.images.cache_clear()
    method_row(trial)
    assert len(digested) == len(set(digested)) == 9  # D_train, its halves, the same with failures (3), base, pool and evaluation images


def test_rows_of_other_seeds_select_other_random_failures():
    first, second = (method_row(RF.trial(COMMON, seed=seed)) for seed in (0, 1))
    assert first["genotype"] != second["genotype"] or first["history"] != second["history"]
    assert replace(RF.trial(COMMON), seed=1).rule == "random" and CFE.trial(COMMON).rule == "k-center"
