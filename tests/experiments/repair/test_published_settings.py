"""Scale paper runs what the papers and the methods' authors publish; the other scales stay as they were."""

import pytest

from rtalib import darts, scales
from rtalib.cli import reproduce
from rtalib.darts.settings import settings_for
from rtalib.experiments import repair, rta
from rtalib.experiments.repair.images import Study
from rtalib.experiments.repair.protocol import choice, search_settings
from rtalib.infra import grid

PAPER = scales.get("paper").repair


def settings(search: str, *, refine: bool = False, setup=PAPER) -> darts.Settings:
    preset = "refinement" if refine else "published"
    return settings_for(search, preset, warm_start=refine, **search_settings(Study("cifar10", "paper", setup, search), refine=refine))


@pytest.mark.parametrize("refine", [False, True])
def test_darts_takes_the_paper_s_520_steps_in_second_order(refine):
    found = settings("darts", refine=refine)
    assert (found.steps_per_epoch, found.batch_size, found.order, found.epochs) == (520, 64, 2, 20 if refine else 50)


@pytest.mark.parametrize(("search", "batch"), [("pc-darts", 256), ("darts-pt", 64), ("robust-darts", 64)])
@pytest.mark.parametrize("refine", [False, True])
def test_other_methods_pass_once_over_their_half_in_an_epoch(search, batch, refine):
    found = settings(search, refine=refine)
    assert found.steps_per_epoch is None and found.batch_size == batch and found.total_epochs >= (20 if refine else 50)


def test_pc_darts_keeps_its_rates_and_its_warm_up():
    found = settings("pc-darts")
    assert (found.lr, found.arch_lr, found.order, found.warm_up) == (0.1, 6e-4, 1, 15)  # Xu et al. 2020


def test_one_of_several_cells_is_chosen_by_100_epochs():
    """Liu et al. 2019, section 3.1: 100 epochs of a small network; R-DARTS chooses among its four likewise."""
    assert choice(PAPER) == settings("robust-darts").choice == darts.Choice(100, "darts", 16, 8)


def test_smaller_scales_keep_their_steps():
    small = scales.get("small").repair
    assert all(settings(search, setup=small).steps_per_epoch == small.steps_per_epoch for search in ("darts", "pc-darts", "robust-darts"))


@pytest.mark.parametrize(("scale", "protocol"), [("paper", "paper"), ("smoke", "disjoint")])
def test_tables_and_notebooks_follow_the_protocol_of_their_scale(scale, protocol, recwarn):
    with grid.planning() as planned:
        rta.run_table("table1", scale=scale, seeds=(0,))
        repair.run_table("table2", scale=scale, seeds=(0,))
        repair.run_table("table1", scale=scale, seeds=(0,), protocol="disjoint")
    assert {cell.protocol for table in ("rta-sets", "rta-table1", "cf-table2") for cell in planned[table].values()} == {protocol}
    assert {cell.protocol for cell in planned["cf-table1"].values()} == {"disjoint"}
    books = reproduce.select(reproduce.numbered(None), ["03", "12"])
    jobs = reproduce.jobs(books, scale=scale, dataset="shapes10", seeds=None, executor=None, parameter=())
    assert {job.parameters["protocol"] for job in jobs} == {protocol}
