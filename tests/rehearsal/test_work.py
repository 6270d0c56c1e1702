"""The work that a plan counts is the work that tables do: compared with what the store holds after they have run."""

from collections import Counter

import pytest

from rtalib import grid, repair, rta, scales, store
from rtalib.cli import plan
from rtalib.darts.settings import Settings
from rtalib.experiments.repair import chance, together
from rtalib.rehearsal.work import Work, of_cells

# What tasks make, as recipes of the store name it. A source's and a target's training are networks there.
RECIPES = {"network": "network", "source": "network", "search": "search", "selection": "selection", "corrupted": "corrupted"}
SAME = ("evaluation", "rta-set", "adapted", "proxy-suite", "choice", "transferred")
RECIPES |= dict(zip(SAME, SAME, strict=True))
RUNS = {
    "cf-table2": lambda: repair.run_table("table2", scale="smoke", seeds=(0,), executor="serial"),
    "cf-table5": lambda: repair.run_table("table5", scale="smoke", seeds=(0,), executor="serial"),
    "cf-table6": lambda: repair.run_table("table6", scale="smoke", seeds=(0,), executor="serial"),
    "cf-table4": lambda: repair.run_table("table4", scale="smoke", seeds=(0,), executor="serial"),
    "rta-table1": lambda: rta.run_table("table1", scale="smoke", seeds=(0,), executor="serial"),
    "rta-table4": lambda: rta.run_table("table4", scale="smoke", seeds=(0,), executor="serial"),
    "together": lambda: together.run_table("together", scale="smoke", seeds=(0,), executor="serial"),
    "search-or-chance": lambda: chance.run("smoke", seeds=(0,), executor="serial"),
}


def work_of(table: str, scale: str = "smoke", **how) -> Work:
    with grid.planning() as planned:
        plan.runners()[table](scale=scale, dataset="shapes10", **how)
    return of_cells(planned)


@pytest.mark.trial
@pytest.mark.parametrize("table", RUNS)
def test_as_many_artefacts_are_counted_as_the_store_holds_then(table, tmp_path, monkeypatch):
    """Searches of a step or two may find the same cell twice, whose network is then trained once; a plan cannot know."""
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    counted = Counter(RECIPES[task.what] for task in work_of(table, seeds=(0,)).tasks if task.what in RECIPES)
    rows = RUNS[table]()
    made = Counter(path.parents[1].name for path in (tmp_path / "store").glob("*/*/card.json"))
    cells = [(row["genotype"], row.get("n_train")) for row in rows if "genotype" in row and row.get("kind") != "deployed"]
    same = len(cells) - len(set(cells))
    for name in counted:
        assert made[name] <= counted[name] <= made[name] + (same if name in ("network", "evaluation") else 0), name


def steps(work: Work, start: str) -> float:
    return sum(count for task in work.tasks for kind, count in task.units if str(kind).startswith(start))


def test_scale_paper_has_the_papers_numbers_of_steps():
    """Table 2, one seed: 18 rows, of which 15 train a network for 600 epochs of 521 batches, 521 + 10 with the 1,000 failures; two
    searches more than there are guides, of 50 and of 20 epochs of 520 steps each."""
    work = work_of("cf-table2", "paper", seeds=(0,))
    assert steps(work, "search: supernet C16 L8 darts, second order") == 520 * (50 + 3 * 20)
    alone, extended = 600 * -(-50_000 // 96), 600 * -(-51_000 // 96)
    plain = steps(work, "training: network of cells C36 L20, batch 96")
    assert plain == 7 * alone + 6 * extended  # deployed, again, RF, AU, CF, two random; RFE, AUE, CFE, again and two random with failures
    assert steps(work, "training: network of cells C36 L20 AugMix") == steps(work, "training: network of cells C36 L20 CutMix") == alone


def test_each_own_start_is_searched_and_trained_anew():
    work = work_of("own-starts", "paper", seeds=(0, 1))
    assert steps(work, "search: supernet C16 L8 darts, second order") == 2 * 520 * (50 + 20)
    assert steps(work, "training: network of cells C36 L20, batch 96") == 2 * 600 * (4 * -(-50_000 // 96) + 3 * -(-51_000 // 96))


def test_sources_at_scale_paper_take_their_published_steps():
    work = work_of("rta-table1", "paper", seeds=(0,), protocol="disjoint")
    assert steps(work, "training: wide_resnet34_10 trades") == 76 * -(-50_000 // 128)
    assert steps(work, "training: wide_resnet34_10 free_at") == pytest.approx(80_000, rel=0.02)  # Free-AT's own number of steps
    assert steps(work, "training: wide_resnet34_10 pgd_at") == pytest.approx(80_000 + 200 * 391, rel=0.01)  # Madry's, and Rice et al.'s
    assert steps(work, "training: preact_resnet18 fast_at") == 30 * 391


def test_cells_of_other_tables_are_refused():
    with pytest.raises(TypeError, match="nothing is known about the work of Settings in table 'x'"):
        of_cells({"x": {"key": Settings()}})


def test_every_table_of_every_scale_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("RTALIB_OUTPUTS", str(tmp_path))
    for table in plan.runners():
        work = work_of(table, seeds=(0,))
        assert work.cells and all(cell for cell in work.cells.values()), table
    assert scales.get("paper").repair.published_searches and store.tables("smoke") == []
