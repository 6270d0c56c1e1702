"""Which rows the parts and the neighbours are made of, and the means over families by hand."""

from dataclasses import replace

import numpy as np
import pytest

from rtalib import scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.experiments.repair import gain_parts
from rtalib.experiments.repair.figures import neighbour_heatmap
from rtalib.experiments.repair.gain_parts import gain_matrix, neighbours, with_families
from rtalib.experiments.repair.protocol import search_settings
from rtalib.experiments.repair.rows import Trial
from rtalib.experiments.repair.tables import TABLES
from rtalib.infra import store
from rtalib.results.claims import CLAIMS
from rtalib.results.papers import GUIDES
from rtalib.results.tables import verdicts

COMMON = {"dataset": "shapes10", "corruption": "gaussian_noise", "protocol": "disjoint", "scale": "smoke"}


def made(seeds: tuple[int, ...] = (0, 1, 2)) -> list[dict]:
    draw = np.random.default_rng(3)
    return [
        {
            "method": method,
            "seed": seed,
            "corruption": guide,
            "scale": "demo",
            **{name: float(draw.uniform(20, 60)) for name in CORRUPTIONS},
        }
        for guide in GUIDES.values()
        for method in ("CF-DARTS", "CF-DARTSE", "Org. DNN (retrained)")
        for seed in seeds
    ]


def test_parts_and_neighbours_are_trials_of_tables_2_and_3():
    setup = scales.get("smoke").repair
    one = {**COMMON, "seed": 1, "setup": setup}
    parts = gain_parts.part_trials((1,), ("disjoint",), {**COMMON, "setup": setup})
    assert set(parts) < set(TABLES["table2"](one)) and len(parts) == 8
    found = gain_parts.neighbour_trials((1,), tuple(GUIDES), {**COMMON, "setup": setup})
    assert set(found) < set(TABLES["table3"](one)) and len(found) == 12


def test_each_seed_of_own_starts_has_a_deployed_network_of_its_own():
    setup = scales.get("smoke").repair
    found = gain_parts.start_trials((0, 1), {**COMMON, "setup": setup}, scales.TogetherScale())
    assert {(trial.seed, trial.study.seed) for trial in found} == {(0, 0), (1, 1)} and len(found) == 14
    usual = Trial(**{name: value for name, value in vars(found[0]).items() if name not in ("start", "arch_weight_decay")})
    assert usual.study == replace(found[0].study, seed=0) and store.plain(usual) != store.plain(found[0])


def test_searches_of_own_starts_decide_if_the_scale_says_so():
    setup = scales.get("night").repair
    [trial, *_] = gain_parts.start_trials((3,), {**COMMON, "setup": setup}, scales.get("night").together)
    settings = search_settings(trial.study, refine=False)
    assert (settings["arch_lr"], settings["arch_weight_decay"]) == (0.1, 0.0)
    assert "arch_weight_decay" not in search_settings(Trial(**COMMON, method="", seed=0, setup=setup, kind="deployed").study, refine=False)


def test_neighbours_are_the_family_without_the_guide():
    assert neighbours("glass_blur") == ("defocus_blur", "motion_blur", "zoom_blur")
    assert neighbours("gaussian_noise") == ("shot_noise", "impulse_noise") and len(neighbours("fog")) == 3 == len(neighbours("pixelate"))


def test_family_means_are_those_of_a_plain_loop():
    rows = made()
    found = {(row["method"], row["seed"]): row["gain"] for row in with_families(rows) if "gain" in row}
    at = {(row["method"], row["corruption"], row["seed"]): row for row in rows}
    for seed in (0, 1, 2):
        near, far = [], []
        for guide in GUIDES.values():
            gaps = {c: at["CF-DARTSE", guide, seed][c] - at["Org. DNN (retrained)", guide, seed][c] for c in CORRUPTIONS}
            near.append(np.mean([gaps[c] for c in CORRUPTIONS if c in neighbours(guide)]))
            far.append(np.mean([gaps[c] for c in CORRUPTIONS if c not in neighbours(guide) and c != guide]))
        assert found["CF-DARTSE: same family", seed] == pytest.approx(np.mean(near))
        assert found["CF-DARTSE: other families", seed] == pytest.approx(np.mean(far))
    tested = verdicts(with_families(rows), CLAIMS["ours-neighbours"])
    assert tested["seeds"].tolist() == [3, 3]


def test_a_seed_without_one_of_the_guides_does_not_count():
    rows = [row for row in made() if (row["seed"], row["corruption"]) != (1, "fog")]
    assert {row["seed"] for row in with_families(rows) if "gain" in row} == {0, 2}


def test_matrix_and_heat_map():
    rows = made()
    matrix = gain_matrix(rows, "CF-DARTS")
    expected = np.mean([
        row["snow"] - other["snow"]
        for row in rows
        for other in rows
        if row["method"] == "CF-DARTS" and other["method"] == "Org. DNN (retrained)" and row["corruption"] == other["corruption"] == "fog"
        and row["seed"] == other["seed"]
    ])  # fmt: skip
    assert matrix.loc["fog", "snow"] == pytest.approx(expected) and list(matrix.index) == list(GUIDES.values())
    drawing = neighbour_heatmap(rows)
    assert [axes.get_ylabel() for axes in drawing.axes] == ["guide", "guide"] and "CF-DARTS guided by Fog" in drawing.get_label()
