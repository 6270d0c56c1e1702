"""Genotypes: validation, text and JSON forms; the magnitude rule on hand-made architecture parameters."""

import pytest
import torch

from rtalib.darts import GENOTYPES, SPACES, Genotype, Space, magnitude, random_genotype
from rtalib.darts.operations import OPERATIONS
from rtalib.darts.space import EDGES

CONCAT = (2, 3, 4, 5)
EDGE = {pair: edge for edge, pair in enumerate(EDGES)}  # (node, source) -> row of alphas
OP = {name: column for column, name in enumerate(OPERATIONS)}


def cell(name="skip_connect"):
    return tuple((name, source) for node in range(2, 6) for source in (0, 1))


@pytest.mark.parametrize("genotype", [*GENOTYPES.values(), random_genotype(3)], ids=[*GENOTYPES, "random"])
def test_text_and_json_read_back_to_an_equal_value(genotype):
    assert Genotype.parse(str(genotype)) == genotype
    assert Genotype.parse(genotype.to_json()) == genotype
    assert len({genotype, Genotype.parse(str(genotype))}) == 1


def test_published_second_order_cell_is_the_papers():
    assert str(GENOTYPES["darts_v2"]).startswith(
        "normal: sep_conv_3x3(0) sep_conv_3x3(1), sep_conv_3x3(0) sep_conv_3x3(1), sep_conv_3x3(1) skip_connect(0), "
        "skip_connect(0) dil_conv_3x3(2) -> 2 3 4 5; reduce: max_pool_3x3(0) max_pool_3x3(1)"
    )
    assert (GENOTYPES["darts_v2"].skips("normal"), GENOTYPES["darts_v2"].skips("reduce")) == (2, 3)


def test_invalid_cells_are_named():
    good = cell()
    with pytest.raises(ValueError, match="sep_conv_3x3"):
        Genotype((("sep_conv3x3", 0), *good[1:]), CONCAT, good, CONCAT)
    with pytest.raises(ValueError, match="none"):  # 'none' is no operation of a derived cell
        Genotype((("none", 0), *good[1:]), CONCAT, good, CONCAT)
    with pytest.raises(ValueError, match="node 2 takes skip_connect of node 2"):
        Genotype((("skip_connect", 2), *good[1:]), CONCAT, good, CONCAT)
    with pytest.raises(ValueError, match="normal takes node 1 twice in node 2"):  # a cell, but none that a search can find
        SPACES["darts"].check(Genotype((("skip_connect", 1), *good[1:]), CONCAT, good, CONCAT))
    with pytest.raises(ValueError, match="two inputs"):
        Genotype(good[:-1], CONCAT, good, CONCAT)
    with pytest.raises(ValueError, match="reduce_concat"):
        Genotype(good, CONCAT, good, (2, 3, 4, 6))
    with pytest.raises(ValueError, match="expected the fields normal, .* got normal"):
        Genotype.parse("Genotype(normal=[])")
    with pytest.raises(ValueError, match="fields"):
        Genotype.parse('{"normal": []}')


def test_random_genotypes_depend_on_the_seed_alone():
    assert random_genotype(5) == random_genotype(5)
    assert len({random_genotype(seed) for seed in range(50)}) == 50
    only = random_genotype(0, operations=("skip_connect",))
    assert {name for name, _ in only.normal} == {"skip_connect"}


def flat():
    return torch.zeros(14, 8)


def test_strength_decides_the_operation_the_edges_and_their_order():
    alphas = flat()
    alphas[EDGE[4, 3], OP["dil_conv_5x5"]] = 2.0
    alphas[EDGE[4, 1], OP["avg_pool_3x3"]] = 1.0
    normal = magnitude(alphas, flat()).normal
    assert normal[4:6] == (("dil_conv_5x5", 3), ("avg_pool_3x3", 1))


def test_ties_go_to_the_lower_index():
    genotype = magnitude(flat(), flat())
    assert genotype == Genotype(cell("max_pool_3x3"), CONCAT, cell("max_pool_3x3"), CONCAT)


def test_none_is_never_chosen_but_weakens_its_edge():
    alphas = flat()
    alphas[:, OP["none"]] = 10.0
    alphas[EDGE[5, 4], OP["none"]] = 0.0
    normal = magnitude(alphas, flat()).normal
    assert all(name == "max_pool_3x3" for name, _ in normal)
    assert normal[6:8] == (("max_pool_3x3", 4), ("max_pool_3x3", 0))


def test_edges_rank_by_softmax_not_by_raw_alphas():
    alphas = flat()
    alphas[EDGE[3, 0], OP["sep_conv_3x3"]] = 3.0
    alphas[EDGE[3, 0], OP["none"]] = 6.0  # raw alpha says source 0, softmax says that 'none' has nearly all of that edge
    alphas[EDGE[3, 1], OP["skip_connect"]] = 1.0
    alphas[EDGE[3, 2], OP["skip_connect"]] = 0.9
    assert magnitude(alphas, flat()).normal[2:4] == (("skip_connect", 1), ("skip_connect", 2))


def test_spaces_with_different_operations_per_edge():
    genotype = magnitude(torch.zeros(14, 2), torch.zeros(14, 2), "s1")
    assert genotype.normal[0] == ("skip_connect", 0) and genotype.reduce[0] == ("max_pool_3x3", 0)
    assert SPACES["s1"].normal[13] == ("dil_conv_3x3", "dil_conv_5x5")


def test_wrong_alphas_and_spaces_are_named():
    with pytest.raises(ValueError, match=r"alphas_reduce: expected shape \(14, 8\)"):
        magnitude(flat(), torch.zeros(14, 7))
    with pytest.raises(ValueError, match="diverged"):
        magnitude(flat() * torch.nan, flat())
    with pytest.raises(ValueError, match="Did you mean 'no-none'"):
        magnitude(flat(), flat(), "no_none")
    with pytest.raises(ValueError, match="14 edges"):
        Space((OPERATIONS,) * 13, (OPERATIONS,) * 14)


@pytest.mark.parametrize(
    "text",
    ["[" * 10**5, '{"normal": ' + "[" * 10**5, "{}", "[]", "nul", '{"normal": 5, "reduce": null, "normal_concat": 1, "reduce_concat": 2}'],
)
def test_json_that_is_no_genotype_is_refused(text):
    with pytest.raises(ValueError, match="genotype"):
        Genotype.parse(text)


@pytest.mark.parametrize(
    "text", ["normal:" + "->;reduce:->" * 10**5, "normal: " + "a(0) " * 10**5 + "-> 2; reduce: a(0) a(1) -> 2", "(" * 10**6]
)
def test_a_long_text_is_no_genotype(text):
    with pytest.raises(ValueError, match="genotype: expected") as error:
        Genotype.parse(text)
    assert len(str(error.value)) < 400
