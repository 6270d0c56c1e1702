"""Every public function, called with a wrong value in each argument: one line that names the argument, and never another kind of error."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rtalib import attacks, augment, coreset, corrupt, darts, export, grid, load_dataset, models, nb, repair, rta, scales, store, training
from rtalib.corruptions import psnr
from rtalib.data.images import LabeledImages
from rtalib.experiments.rta.iterative_search import Settings, iterative_search
from rtalib.report import Notebook
from rtalib.yours import card, gate, networks, your_images
from rtalib.yours.cells import NetworkSpec

FLOATS = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
BYTES, LABELS, FEATURES = (FLOATS * 255).byte(), torch.zeros(4, dtype=torch.int64), FLOATS.flatten(1)
NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(768, 10)).eval()
NETWORK[1].bias.data[1] = 10.0  # wrong about every image, whatever its weights are
DATA, ALPHAS, CELLS = LabeledImages(BYTES, LABELS, tuple("abcdefghij"), "d"), torch.zeros(14, 8), darts.GENOTYPES["darts_v2"]
BETAS = torch.zeros(14)

attacked = {"model": NETWORK, "images": FLOATS, "labels": LABELS, "index": None, "seed": 0}
steps = {"eps": 0.03, "step_size": 0.01, "steps": 1}
switches = {"random_start": True, "stop_on_success": False, "targeted": False}
selected = {"candidates": FEATURES, "centers": FEATURES[:2]}
drawn = {"images": BYTES, "seed": 0, "index": LABELS}
table = {"table": "table2", "scale": "smoke", "dataset": "shapes10", "seeds": (), "protocol": "", "only": None, "executor": "serial"}
RECIPE = training.Recipe(1, 2, 0.1)
CARD = card.CardRequest(NetworkSpec("tiny"), "shapes10")
CALLS = {  # {name: (function, arguments that are right)}
    "load_dataset": (load_dataset, {"name": "shapes10", "split": "test", "limit": 4, "seed": 0}),
    "LabeledImages": (LabeledImages, {"images": BYTES, "labels": LABELS, "classes": tuple("abcdefghij"), "name": "d"}),
    "corrupt": (corrupt, {"images": BYTES, "name": "fog", "severity": 1, "seed": 0, "index": None, "benchmark": "cifar10-c"}),
    "fgsm": (attacks.fgsm, attacked | {"eps": 0.03}),
    "bim": (attacks.bim, attacked | steps),
    "mi_fgsm": (attacks.mi_fgsm, attacked | steps | {"decay": 1.0}),
    "pgd": (attacks.pgd, attacked | steps | switches | {"restarts": 1, "loss": "margin"}),
    "pgd_l2": (attacks.pgd_l2, attacked | steps),
    "apgd": (attacks.apgd, attacked | {"eps": 0.03, "steps": 2, "restarts": 1, "loss": "dlr"}),
    "apgd_t": (attacks.apgd_t, attacked | {"eps": 0.03, "steps": 2, "restarts": 1, "targets": 9}),
    "fold_batchnorm": (attacks.fold_batchnorm, {"model": NETWORK}),
    "odi_pgd": (attacks.odi_pgd, attacked | steps | {"restarts": 1, "odi_steps": 1, "space": "logits", "keep": "best"}),
    "odi_bim": (attacks.odi_bim, attacked | {"preset": "author", "eps": 0.03, "low_logits": False, "restarts": 1, "steps": 1}),
    "attack": (attacks.attack, {"recipe": attacks.FGSM(), "model": NETWORK, "data": DATA, "index": None, "seed": 0, "batch_size": 2}),
    "sweep": (attacks.sweep, {"recipe": attacks.FGSM(), "budgets": [0.1], "model": NETWORK, "data": DATA}),
    "with_eps": (attacks.with_eps, {"recipe": attacks.PGD(), "eps": 0.1}),
    "quantize": (attacks.quantize, {"adversarial": FLOATS, "clean": BYTES, "eps": 0.1, "norm": "linf"}),
    "prepared": (attacks.prepared, {"model": NETWORK, "precision": "float32", "fold": True}),
    "has_low_logits": (attacks.has_low_logits, {"model": NETWORK, "images": FLOATS, "batch_size": 2}),
    "k_center_greedy": (coreset.k_center_greedy, selected | {"budget": 2, "groups": None}),
    "balanced_greedy": (coreset.balanced_greedy, selected | {"labels": LABELS, "budget": 2}),
    "farthest": (coreset.farthest, selected | {"budget": 2}),
    "random_selection": (coreset.random_selection, {"n": 9, "budget": 2, "seed": 0}),
    "covering_radius": (coreset.covering_radius, selected | {"selected": [0]}),
    "covering_radii": (coreset.covering_radii, selected | {"selected": [0]}),
    "build": (models.build, {"name": "tiny", "num_classes": 10, "side": None}),
    "adapt": (models.adapt, {"network": NETWORK, "mean": 0.5, "std": 0.5, "size": 16}),
    "count_parameters": (models.count_parameters, {"model": NETWORK}),
    "predict": (training.predict, {"model": NETWORK, "images": BYTES, "batch_size": 2}),
    "evaluate": (training.evaluate, {"model": NETWORK, "data": DATA, "batch_size": 2}),
    "extract_features": (training.extract_features, {"model": models.adapt(NETWORK), "images": BYTES, "batch_size": 2}),
    "scores": (training.scores, {"models": [NETWORK], "data": DATA, "batch_size": 2}),
    "score": (training.score, {"models": [NETWORK], "data": DATA, "batch_size": 2}),
    "Recipe": (training.Recipe, {"epochs": 1, "batch_size": 2, "lr": 0.1}),
    "train": (
        training.train,
        {"model": models.build("tiny"), "data": DATA, "recipe": training.Recipe(1, 2, 0.1), "precision": "fp32", "device": "cpu"}
        | {"seed": 0, "checkpoint": None, "on_epoch": None},
    ),
    "trivial_augment": (augment.trivial_augment, drawn),
    "cutout": (augment.cutout, drawn),
    "augmix": (augment.augmix, drawn),
    "pixmix": (augment.pixmix, drawn | {"rounds": 1, "beta": 3.0, "severity": 3.0}),
    "prime": (augment.prime, drawn | {"width": 1}),
    "psnr": (psnr.psnr, {"images": BYTES, "clean": BYTES}),
    "export": (export.export, {"data": DATA, "folder": "made", "kinds": ("competition",), "label_smoothing": 0.1}),
    "Genotype.of": (darts.Genotype.of, {"source": "darts_v2"}),
    "Genotype": (darts.Genotype, {"normal": CELLS.normal, "normal_concat": (2,), "reduce": CELLS.reduce, "reduce_concat": (2,)}),
    "Network": (darts.Network, {"genotype": "darts_v2", "channels": 4, "layers": 2, "num_classes": 10, "stem": "cifar"}),
    "Supernet": (darts.Supernet, {"space": "darts", "channels": 4, "layers": 3, "num_classes": 10, "stem": "cifar"}),
    "magnitude": (darts.magnitude, {"alphas_normal": ALPHAS, "alphas_reduce": ALPHAS, "space": "darts"}),
    "edge_normalized": (
        darts.edge_normalized,
        {"alphas_normal": ALPHAS, "alphas_reduce": ALPHAS, "betas_normal": BETAS, "betas_reduce": BETAS, "space": "darts"},
    ),
    "save_network": (darts.save_network, {"network": darts.Network("darts_v2", 4, 2), "path": "network.safetensors"}),
    "load_network": (darts.load_network, {"path": "network.safetensors", "genotype": None, "stem": None, "mean": None, "std": None}),
    "random_genotype": (darts.random_genotype, {"seed": 0}),
    "search": (
        darts.search,
        {"train": DATA, "val": DATA, "method": "darts", "preset": "published", "init": None, "seed": 0, "checkpoint": None, "device": "cpu"}
        | {"on_epoch": None, "epochs": 1, "batch_size": 2, "channels": 4, "layers": 3, "lr": 0.1, "space": "darts"},
    ),
    "scales.get": (scales.get, {"name": "smoke"}),
    "cutmix": (augment.cutmix, {"data": DATA, "seed": 0, "index": None, "beta": 1.0, "probability": 0.5, "partners": DATA}),
    "Bank": (
        augment.Bank,
        {"sources": {}, "severity": 2, "benchmark": "cifar10-c", "preset": "author", "restarts": 1, "steps": 1, "eps": 0.1, "extra": {}}
        | {"low_logits": frozenset(), "batch_size": 2, "identity": False, "weights": {}},
    ),
    "rta": (augment.rta, {"data": DATA, "sources": {}, "seed": 0, "copy": 0, "index": None, "severity": 2}),
    "Settings": (
        Settings,
        {
            "pieces": 2,
            "rule": "any",
            "recipe": RECIPE,
            "search_recipe": RECIPE,
            "start": "scratch",
            "shuffle": True,
            "size": 4,
            "offered": 1,
        },
    ),
    "iterative_search": (
        iterative_search,
        {"data": DATA, "targets": ["tiny"], "bank": augment.Bank(), "settings": Settings(pieces=2), "seed": 0},
    ),
    "repair": (
        repair.repair,
        {"network": NETWORK, "failures": DATA, "train": DATA, "test": DATA, "method": "cf", "extended": False, "iterations": 1, "budget": 1}
        | {"features": "1", "scale": "smoke", "seed": 0, "on_step": None},
    ),
    "case_of_corruption": (repair.case_of_corruption, {"train": None, "test": DATA, "corruption": "fog", "severity": 3, "seed": 0}),
    "case_of_failures": (repair.case_of_failures, {"train": None, "test": DATA, "failures": DATA, "labeled": True, "seed": 0}),
    "ladder": (
        repair.ladder,
        {"network": NETWORK, "case": repair.Case(DATA, DATA, DATA, DATA), "goal": 1.0, "settings": None, "rungs": ("statistics",)}
        | {"all_rungs": False, "others": 0, "on_rung": None},
    ),
    "open_network": (
        networks.open_network,
        {"spelling": "network.py:build", "weights": None, "mean": None, "std": None, "size": None, "classes": None},
    ),
    "CardRequest": (
        card.CardRequest,
        {"network": NetworkSpec("tiny"), "dataset": "shapes10", "limit": 4, "side": None, "corruptions": None, "attacks": (), "eps": (1,)}
        | {"attack_limit": 4, "seed": 0},
    ),
    "gate": (gate.gate, {"old": CARD, "new": CARD, "points": 1.0, "early": False}),
    "SetRequest": (
        your_images.SetRequest,
        {"images": "shapes10", "size": 4, "iterative": False, "originals": False, "side": 32, "scale": "smoke", "seed": 0},
    ),
    "rta.run_table": (rta.run_table, table),
    "repair.run_table": (repair.run_table, table | {"corruption": "fog", "target": ""}),
    "grid.run": (
        grid.run,
        {
            "function": len,
            "cells": [],
            "recipe": "r",
            "run": "r",
            "table": "t",
            "version": 1,
            "inputs": {},
            "executor": "serial",
            "gpus": 0.0,
        }
        | {"workers": 1, "retries": 0, "address": None, "ordered": False, "stop": False, "describe": None},
    ),
    "store.make": (store.make, {"recipe": "r", "version": 1, "parameters": {}, "build": print, "label": "l"}),
    "store.find": (store.find, {"recipe": "r", "key": "k"}),
    "store.key": (store.key, {"recipe": "r", "version": 1, "parameters": {}}),
    "store.rows": (store.rows, {"run": "r", "table": "t"}),
    "store.read_row": (store.read_row, {"run": "r", "table": "t", "key": "k"}),
    "nb.run": (nb.run, {"notebook": "x.ipynb", "output": "y.ipynb", "parameters": {}, "timeout": 1.0}),
    "nb.declared": (nb.declared, {"notebook": "x.ipynb"}),
    "Notebook": (Notebook, {"scale": "smoke", "dataset": "shapes10"}),
}
WRONG = {"text": "nope", "number": -2.5, "list": [], "object": object(), "array": np.zeros((2, 2, 2), dtype=complex)}
ALIASES = {
    "name": ("corruption", "model", "scale", "data set"),
    "dataset": ("data set",),
    "source": ("genotype",),
    "budgets": ("eps",),
    "models": ("model",),
    "kinds": ("kind",),
    "rungs": ("rung",),
    "path": ("weights",),
    "spelling": ("network",),
    "points": ("gate",),
}
FINE = {  # wrong values that are right, of an argument of any name or of one function
    ("checkpoint", "text"), ("centers", "list"), ("selected", "list"), ("eps", "list"), ("classes", "text"), ("classes", "array"),
    ("only", "list"), ("seeds", "list"), ("run", "text"), ("label", "text"), ("key", "text"),
    ("grid.run.recipe", "text"), ("grid.run.table", "text"), ("grid.run.cells", "list"), ("grid.run.address", "text"),
    ("inputs", "text"), ("inputs", "number"), ("inputs", "list"), ("store.rows.table", "text"), ("store.read_row.table", "text"),
    ("store.make.recipe", "text"), ("store.find.recipe", "text"), ("store.key.recipe", "text"), ("nb.run.output", "text"),
    *((f"store.{name}.parameters", kind) for name in ("make", "key") for kind in ("text", "number", "list")),
    ("folder", "text"), ("corruptions", "list"), ("attacks", "list"), ("CardRequest.dataset", "text"), ("SetRequest.images", "text"),
    ("save_network.path", "text"), ("rungs", "list"), ("Notebook.dataset", "text"), ("target", "text"),
}  # fmt: skip


def written(name: str) -> None:
    """The file that a right call reads."""
    if name == "load_network":
        darts.save_network(darts.Network("darts_v2", 4, 2), "network.safetensors")
    if name == "open_network":
        Path("network.py").write_text("from rtalib import models\nbuild = lambda: models.build('tiny')")


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_value_is_named_in_one_line(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(name)
    function, good = CALLS[name]
    for argument in good:
        if {(argument, kind), (f"{name}.{argument}", kind)} & FINE or (name, argument) == ("LabeledImages", "name"):
            continue
        with pytest.raises((ValueError, TypeError, FileNotFoundError)) as raised:
            function(**good | {argument: WRONG[kind]})
            pytest.fail(f"{name}({argument}={WRONG[kind]!r}) passed")
        said = str(raised.value)
        assert "\n" not in said and any(word in said for word in (argument, *ALIASES.get(argument, ()))), f"{argument}: {said}"
        frame = raised.traceback[-1].path
        assert "rtalib" in str(frame), f"{argument}: raised in {frame}: {said}"


@pytest.mark.parametrize("name", CALLS)
def test_the_table_follows_the_signatures(name):
    function, good = CALLS[name]
    parameters = inspect.signature(function).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    assert open_ended or set(good) <= set(parameters)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: corrupt(BYTES, "fogg", 3), "Did you mean 'fog'"),
        (lambda: models.build("resnet19"), "Did you mean 'resnet"),
        (lambda: attacks.PGD(loss="crossentropy"), "Did you mean 'cross_entropy'"),
        (lambda: attacks.prepared(NETWORK, "bfloat"), "Did you mean 'bfloat16'"),
        (lambda: darts.Network("darts_v3"), "Did you mean 'darts_v2'"),
        (lambda: darts.search(DATA, DATA, "dart"), "Did you mean 'darts'"),
        (lambda: darts.search(DATA, DATA, epoch=1), "Did you mean 'epochs'"),
        (lambda: scales.get("smok"), "Did you mean 'smoke'"),
        (lambda: load_dataset("shapes1O", "test"), "Did you mean 'shapes10'"),
        (lambda: attacks.fgsm(NETWORK, FLOATS, LABELS, eps=8), "8/255, not 8"),
        (lambda: attacks.fgsm(NETWORK, BYTES, LABELS), "divide uint8 by 255"),
        (lambda: corrupt(BYTES.permute(0, 2, 3, 1), "fog", 3), "permute to NCHW"),
        (lambda: corrupt(BYTES[:, :1].permute(0, 2, 3, 1), "fog", 3), "permute to NCHW"),
    ],
)
def test_the_nearest_right_thing_is_said(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
