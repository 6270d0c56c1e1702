"""Searches of the CF-DARTS protocol as stored artefacts: the deployed network's, the second initial network's, and refinements.

Points are those of the reference's section 6.4.
"""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from rtalib import darts
from rtalib.data.images import LabeledImages
from rtalib.experiments.repair.images import Study, training_halves
from rtalib.infra import store
from rtalib.scale_settings import RepairScale

WARM_UP = 0.3  # of PC-DARTS' epochs: 15 of 50 as published


def search_settings(study: Study, *, refine: bool) -> dict:
    """Settings of a search in the place of its preset's (points 12 and 31). At full size other methods keep their published rates."""
    setup = study.setup
    epochs = setup.refine_epochs if refine else setup.search_epochs
    settings = {"channels": setup.search_channels, "layers": setup.search_layers, "stem": setup.stem, "epochs": epochs}
    settings["steps_per_epoch"] = setup.steps_per_epoch
    if study.search == "darts" or not setup.published_searches:
        settings |= {"batch_size": setup.search_batch, "lr": setup.search_lr, "arch_lr": setup.arch_lr, "order": setup.order}
    if study.search == "pc-darts" and not refine:
        settings["warm_up"] = round(WARM_UP * epochs)
    if study.search == "darts-pt":
        settings["steps_per_epoch"] = setup.pt_steps or setup.steps_per_epoch
        interval = setup.pt_interval if refine else setup.pt_first_interval
        criterion = "loss" if setup.pt_images else "accuracy"  # on few images most operations cost the same accuracy: none
        settings["projection"] = darts.Projection(interval, criterion=criterion, images=setup.pt_images)
    if study.search == "robust-darts":
        settings["order"] = 2  # of the method; in first order, short searches end with DARTS' own cells
        settings["grid"] = tuple((weight_decay, 0.0) for weight_decay in setup.robust_grid)
        settings["choice"] = choice(setup)
    return settings


def choice(setup: RepairScale) -> darts.Choice:
    """How one of several cells is chosen: by the validation half, after a short training on the other."""
    recipe, epochs = setup.choice
    return darts.Choice(epochs, recipe, setup.choice_channels, setup.choice_layers, setup.stem)


def searched(study: Study, train: LabeledImages, val: LabeledImages, *, seed: int, refine: bool, init: store.Entry | None) -> store.Entry:
    """A stored search: genotype.json, trace.json and the supernet's state; `init` is the search whose supernet is refined (point 13)."""
    settings = search_settings(study, refine=refine)
    preset = "refinement" if refine else "published"
    parameters = {"method": study.search, "preset": preset, "settings": settings, "seed": seed}
    parameters |= {"train": train.digest, "val": val.digest, "init": init.key if init else None}

    def build(folder: Path) -> None:
        state = load_file(init.path / "state.safetensors") if init else None
        own = {"preset": preset, "init": state, "seed": seed, "checkpoint": folder / "checkpoint.pt"}
        result = darts.search(train, val, study.search, **own, **settings)
        (folder / "genotype.json").write_text(result.genotype.to_json())
        (folder / "trace.json").write_text(json.dumps(result.trace, indent=1))
        save_file({name: value.contiguous() for name, value in result.state.items()}, folder / "state.safetensors")

    return store.make("search", 3, parameters, build, label=f"{study.search}-s{seed}")


def genotype(search: store.Entry) -> darts.Genotype:
    """The genotype that a stored search ended with."""
    return darts.Genotype.from_json((search.path / "genotype.json").read_text())


def trace(search: store.Entry) -> list[dict]:
    """A stored search epoch by epoch, as darts.search leaves it."""
    return json.loads((search.path / "trace.json").read_text())


def initial_search(study: Study) -> store.Entry:
    """phi_0's architecture: a search on the two halves of the training images. Version 2 is the best of further ones (point 24)."""
    train, val = training_halves(study)
    if study.version == 1:
        return searched(study, train, val, seed=0, refine=False, init=None)
    entries = [searched(study, train, val, seed=seed, refine=False, init=None) for seed in range(1, 1 + study.setup.candidates)]

    def build(folder: Path) -> None:
        chosen, scores = darts.choose([genotype(entry) for entry in entries], train, val, choice(study.setup))
        (folder / "choice.json").write_text(json.dumps({"chosen": chosen, "accuracy": scores}))

    parameters = {"searches": [entry.key for entry in entries], "choice": choice(study.setup)}
    found = store.make("choice", 1, parameters, build, label="v2")
    return entries[json.loads((found.path / "choice.json").read_text())["chosen"]]
