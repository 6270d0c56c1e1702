"""Networks of cells read back from disk: our own files say how, published ones are known by their tensors' names."""

import os

import numpy as np
import pytest
import torch
from published_darts import Published
from torch import nn

from rtalib import models
from rtalib.darts import GENOTYPES, Genotype, Network, load_network, save_network
from rtalib.darts.weights.published import NORMALIZATION


def settled(network: nn.Module) -> nn.Module:
    """Statistics and scales as after a training."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(("stem", "side"), [("cifar", 32), ("tiny-imagenet", 64), ("imagenet", 64)])
def test_what_is_written_is_read_back_as_the_same_network(tmp_path, stem, side):
    network = settled(Network("darts_v2", 4, 5, 7, auxiliary=stem == "cifar", stem=stem))
    network.normalize.mean.fill_(0.3)
    back = load_network(save_network(network, tmp_path / "w.safetensors"))
    x = torch.rand(2, 3, side, side)
    assert back.stem_name == stem and back.genotype == network.genotype and back.channels == 4 and torch.equal(back(x), network(x))
    with pytest.raises(ValueError, match=f"stem: .*w.safetensors says '{stem}', got 'other'"):
        load_network(tmp_path / "w.safetensors", stem="other")
    with pytest.raises(ValueError, match="genotype: .* says 'normal: sep_conv_3x3"):
        load_network(tmp_path / "w.safetensors", "darts_v1")


def test_weights_that_do_not_say_their_stem_or_cells_are_refused(tmp_path):
    from safetensors.torch import save_file

    network = settled(Network("darts_v2", 4, 3, 10, stem="tiny-imagenet"))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match=r"genotype: .*bare.safetensors does not say it; give genotype="):
        load_network(tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match=r"stem: .*bare.safetensors does not say it; give stem="):
        load_network(tmp_path / "bare.safetensors", "darts_v2")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(load_network(tmp_path / "bare.safetensors", network.genotype, stem="tiny-imagenet")(x), network(x))
    with pytest.raises(ValueError, match=r"weights: .* does not fit the cifar network of this genotype: cells\.0\.operations"):
        load_network(tmp_path / "bare.safetensors", "pc_darts_cifar", stem="cifar")


CASES = [("darts_v1", False, True), ("darts_v2", False, False), ("pc_darts_cifar", False, True), ("pc_darts_imagenet", True, True)]
CASES += [("nasnet_a", False, False), ("amoebanet_a", False, True), ("darts_v2", True, False)]


@pytest.mark.parametrize(("name", "imagenet", "auxiliary"), CASES)
def test_published_checkpoints_have_their_own_logits(tmp_path, name, imagenet, auxiliary):
    theirs = settled(Published(GENOTYPES[name], 8, 5, 10, imagenet, auxiliary)).double()
    state = {f"module.{key}" if imagenet else key: value for key, value in theirs.state_dict().items()}
    path = tmp_path / "model.pt"
    torch.save({"epoch": 250, "state_dict": state, "optimizer": {"state": {}}} if imagenet else state, path)
    ours = load_network(path, name).double()
    x = torch.rand(2, 3, 224 if imagenet else 32, 224 if imagenet else 32, dtype=torch.float64)
    mean, std = (torch.tensor(values).double().view(1, 3, 1, 1) for values in NORMALIZATION["imagenet" if imagenet else "cifar"])
    with torch.no_grad():
        logits, side = theirs((x - mean.float()) / std.float())
        assert torch.allclose(ours(x), logits, rtol=1e-9, atol=1e-9)
        if auxiliary:
            assert torch.allclose(ours.auxiliary(ours._maps(x)[1]), side, rtol=1e-9, atol=1e-9)
    other = load_network(path, name, mean=(0.5, 0.5, 0.5), std=np.array([0.5, 0.5, 0.5])).double()
    with torch.no_grad():
        assert torch.allclose(other(x), theirs(2 * x - 1)[0], rtol=1e-9, atol=1e-9)


def test_old_checkpoints_without_counters_and_files_of_another_kind(tmp_path):
    theirs = settled(Published(GENOTYPES["darts_v2"], 4, 3, 10))
    torch.save({name: value for name, value in theirs.state_dict().items() if "num_batches" not in name}, tmp_path / "old.pt")
    assert load_network(tmp_path / "old.pt", "darts_v2").channels == 4
    with pytest.raises(ValueError, match=r"weights: .* does not fit .*: cells\.0\._ops\..* is missing"):
        load_network(tmp_path / "old.pt", "pc_darts_cifar")
    with pytest.raises(FileNotFoundError, match="weights: there is no file"):
        load_network(tmp_path / "none.pt", "darts_v2")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match="weights: .*text.pt is no checkpoint of plain tensors"):
        load_network(tmp_path / "text.pt", "darts_v2")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="weights: .*text.safetensors is no safetensors file"):
        load_network(tmp_path / "text.safetensors", "darts_v2")
    torch.save(models.build("tiny").state_dict(), tmp_path / "tiny.pt")
    with pytest.raises(ValueError, match="holds no network of cells"):
        load_network(tmp_path / "tiny.pt", "darts_v2", stem="cifar")
    for values in ((0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.5, float("nan"))):
        with pytest.raises(ValueError, match="std: expected"):
            load_network(tmp_path / "old.pt", "darts_v2", std=values)
    with pytest.raises(TypeError, match=r"network: expected a darts\.Network"):
        save_network(models.build("tiny"), tmp_path / "x.safetensors")


LOG = (
    "03:14:15 PM genotype = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), "
    "('skip_connect', 2), "
    "('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)


def test_genotypes_as_logs_print_them(tmp_path, monkeypatch):
    wanted = GENOTYPES["darts_v2"]
    other = LOG.replace("range(2, 6)", "[2, 3, 4, 5]").replace("('skip_connect', 0)", '("skip_connect", np.int64(0))')
    positional = LOG
    for field in ("normal_concat=", "reduce_concat=", "normal=", "reduce="):
        positional = positional.replace(field, "")
    for text in (LOG, other, positional, LOG.replace("skip", "none") + "\n" + LOG + "\nalphas 0.1 (0.2)", wanted.to_json(), str(wanted)):
        assert Genotype.parse(text) == Genotype.of(text) == wanted
    (tmp_path / "log.txt").write_text("\ufeff" + LOG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for source in ("log.txt", tmp_path / "log.txt", str(tmp_path / "log.txt"), "darts_v2", wanted):
        assert Genotype.of(source) == wanted and Network(source, 4, 2).genotype == wanted


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("darts_v3", "unknown genotype 'darts_v3'. Did you mean 'darts_v2'"),
        ("cells.json", "unknown genotype 'cells.json'"),
        (3, "genotype: expected text, got int"),
        (None, "genotype: expected text, got NoneType"),
        ("", "genotype: expected 'normal:"),
        ("{", "genotype is no JSON"),
        ("[" * 10, "genotype: expected 'normal:"),
        ("Genotype(normal=[])", "genotype: expected the fields normal, normal_concat, reduce, reduce_concat, got normal"),
        ("Genotype(normal=[", "genotype: cannot read .* parentheses do not close"),
        ("Genotype(" + "(" * 5000 + ")" * 5001, "genotype: cannot read"),
        ("Genotype(normal=range(10**9))", "genotype: cannot read"),
        ("Genotype(normal=range(10000000000))", "genotype: cannot read"),
        ("Genotype(normal=__import__('os').mkdir('executed'))", "genotype: cannot read"),
        (LOG.replace("'sep_conv_3x3', 0", "'sep_conv_9x9', 0"), "unknown operation 'sep_conv_9x9'"),
        (LOG.replace("range(2, 6)", "4"), "normal_concat: expected node numbers, got '4'"),
        (LOG.replace("('sep_conv_3x3', 0)", "'sep_conv_3x3'"), "normal: expected pairs"),
        ('{"normal": 3, "normal_concat": [2], "reduce": [], "reduce_concat": [2]}', "normal: expected pairs"),
    ],
)
def test_what_is_no_genotype_gives_one_line(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError), match=words) as raised:
        Genotype.of(source)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600 and not os.listdir()


@pytest.mark.parametrize("name", ["nasnet_a", "amoebanet_a"])
def test_cells_of_five_nodes_are_built_and_trained_but_not_searched(name):
    network = Network(name, 4, 5, 10)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    from rtalib.darts import SPACES

    with pytest.raises(ValueError, match="genotype: normal has 5 nodes, expected 4"):
        SPACES["darts"].check(network.genotype)
