"""Table 2's adaptations without labels: the deployed network with other BatchNorm parameters, from corrupted images alone."""

from dataclasses import replace

import torch

from rtalib import scales
from rtalib.experiments.repair.rows import method_row, steps
from rtalib.experiments.repair.tables import ADAPTED, DEPLOYED

COMMON = {"dataset": "shapes10", "corruption": "gaussian_noise", "protocol": "disjoint", "scale": "smoke", "seed": 0, "target": None}
COMMON["setup"] = scales.get("smoke").repair


def test_adaptations_change_batch_norm_alone_and_know_no_label():
    test, deployed, chosen, statistics = steps(ADAPTED[0].trial(COMMON))
    before, after = deployed.model.state_dict(), statistics.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("running_" in name or name.endswith("num_batches_tracked") for name in changed)
    assert chosen.examples is None and statistics.architecture.genotype == deployed.architecture.genotype


def test_rows_of_adaptations_have_the_columns_of_table_2():
    rows = {method.name: method_row(method.trial(COMMON)) for method in (DEPLOYED, *ADAPTED)}
    assert len({tuple(row) for row in rows.values()}) == 1
    assert all(0 <= row["fail"] <= 100 and row["history"] == [] for name, row in rows.items() if name != "Org. DNN")


def test_a_seed_draws_other_images():
    first, second = (steps(replace(ADAPTED[0].trial(COMMON), seed=seed))[-1].model.state_dict() for seed in (0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)
