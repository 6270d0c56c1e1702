"""The work of RTA's cells: sources, training sets, targets, searches and the proxy suite, as experiments.rta and sources make them."""

from functools import cache
from typing import Any

import torch

from rtalib import models
from rtalib.attacks import ODIBIM
from rtalib.corruptions import CORRUPTIONS
from rtalib.experiments.rta.overlap import MOST, OverlapTrial
from rtalib.experiments.rta.score import HELD_OUT_SEVERITIES, HELD_OUT_TYPES
from rtalib.experiments.rta.search import ScoreTrial, SearchSpec, StepTrial
from rtalib.experiments.rta.severity_budget import REPEATED, BudgetTrial
from rtalib.experiments.rta.source_study import SourceTrial
from rtalib.experiments.rta.tables import ATTACKS, BASELINE, CLEAN_SOURCE, OURS, PER_IMAGE, TABLE1, SetTrial, TargetTrial
from rtalib.experiments.rta.unlike import UNLIKE
from rtalib.rehearsal.kinds import ATTACK, CORRUPTION, PREDICTION, TRAINING, Kind, unit_recipe
from rtalib.rehearsal.work import Key, Work
from rtalib.scale_settings import RtaScale
from rtalib.sources.cards import SOURCES
from rtalib.sources.train import HELD_BACK, HELD_OUT, WATCHED, schedule
from rtalib.training.recipes import Recipe

LOW_LOGITS = ("mmc", "feature_scatter")  # sources that ODI-BIM attacks with twice as many restarts
BENCHMARK = "imagecorruptions"


def needs(work: Work, table: str, cell: Any, side: int, classes: int) -> list[Key] | None:
    """Keys of the tasks of a cell of RTA's tables; None for other cells."""
    if isinstance(cell, SourceTrial):
        made = source(work, cell.source, cell.dataset, cell.setup, side)
        model, count = _model(cell.source, cell.setup), cell.setup.evaluated
        return [work.add(("source row", made), [(attack_kind(model, side), 10 * count), (_prediction(model, side), 2 * count)], [made])]
    if isinstance(cell, SetTrial):
        return [training_set(work, cell.method, cell.seed, cell.dataset, cell.protocol, cell.setup, side)]
    if isinstance(cell, TargetTrial):
        made = training_set(work, cell.training_set, cell.seed, cell.dataset, cell.protocol, cell.setup, side)
        return _scored(work, cell, made, _size_of(cell.training_set, cell.setup), cell.recipe, cell.seed, side)
    if isinstance(cell, BudgetTrial):
        method = OURS if cell.severity else REPEATED if cell.copies else BASELINE
        made = training_set(work, method, cell.seed, cell.dataset, cell.protocol, cell.setup, side)
        if cell.severity and cell.severity != cell.setup.severity:
            made = work.add(("severity", made, cell.severity), [(_corruption(side), cell.setup.copies * cell.setup.originals / 2)], [made])
        size = (1 + cell.copies) * cell.setup.originals
        return _scored(work, cell, (made, cell.copies), size, cell.setup.recipe(), cell.seed, side, [made])
    if isinstance(cell, OverlapTrial):
        return [_overlap(work, cell, side)]
    if isinstance(cell, StepTrial):
        return [_step(work, cell.spec, cell.kind, cell.step, cell.model, side)]
    if isinstance(cell, ScoreTrial):
        spec = cell.spec
        network = _mined_network(work, spec, cell.model, spec.settings.pieces - 1, side)
        return [_score(work, network, cell.model, spec.dataset, spec.setup, side)]
    return None


# --------------------------------------------------------------------------------------------------------------- sources


def source(work: Work, name: str, dataset: str, setup: RtaScale, side: int) -> Key:
    """A source's network, stage after stage."""
    if name == HELD_OUT:
        recipe = setup.source_recipe(robust=False)
        return _network(work, (HELD_OUT, dataset), setup.held_out, recipe, setup.source_images, side)
    card, made = SOURCES[name], None
    for number, stage in enumerate(card.plan):
        model, recipe, _ = schedule(name, number, setup)
        images, batch = setup.source_images, recipe.batch_size
        images //= 2 if stage.data == "half" else 1
        if stage.data == "mixed":  # an epoch passes once over the labeled half, which is half of each batch
            images, batch = images // 2, batch // 2
        kind = _training(model, recipe, side, stage.objective, head=stage.head, weights=stage.weights, steps=setup.attack_steps)
        units = [(kind, recipe.epochs * -(-images // batch) * (8 if stage.objective == "free_at" else 1))]
        if stage.validation:
            watched = min(HELD_BACK, images // 10) * setup.attack_steps if stage.validation == "best" else WATCHED * 5
            units.append((attack_kind(model, side), recipe.epochs * watched))
        if stage.data == "mixed":
            units.append((_prediction(model, side), images))
        made = work.add(("source", name, number, dataset), units, [] if made is None else [made], 4.0 * _count(model))
    return made


def training_set(work: Work, method: str, seed: int, dataset: str, protocol: str, setup: RtaScale, side: int) -> Key:
    """A set of Table 1. An attack counts with all its gradients, although images that are fooled sooner need fewer."""
    kind, images = TABLE1[method], setup.copies * setup.originals
    names = setup.sources if kind == "rta" else (CLEAN_SOURCE,) if kind in ATTACKS else ()
    sources = {name: source(work, name, dataset, setup, side) for name in names}
    drawn = images / (len(CORRUPTIONS) + len(sources)) if kind == "rta" else images
    units = [(_corruption(side), drawn * len(CORRUPTIONS) if kind == "rta" else images)] if kind not in (None, "original", *ATTACKS) else []
    gradients = {name: ATTACKS[kind].steps if kind in ATTACKS else _gradients(name, setup) for name in sources}
    units += [(attack_kind(_model(name, setup), side), drawn * gradients[name]) for name in sources]
    return work.add(("rta-set", method, seed, dataset, protocol), units, sources.values(), 3.0 * side * side * _size_of(method, setup))


def _size_of(method: str, setup: RtaScale) -> int:
    return setup.originals * (1 + setup.copies if TABLE1[method] else 1)


def _gradients(name: str, setup: RtaScale) -> int:
    """Of ODI-BIM on an image that it never fools."""
    recipe = ODIBIM()
    return (setup.restarts or recipe.restarts) * (recipe.odi_steps + recipe.steps) * (2 if name in LOW_LOGITS else 1)


# --------------------------------------------------------------------------------------------------------------- targets


def _scored(
    work: Work, cell: Any, data: Key | tuple, size: int, recipe: Recipe, seed: int, side: int, needs: list[Key] | None = None
) -> list[Key]:
    """A target network trained on a set and scored on the proxy suite."""
    network = _network(work, ("target", cell.model, data, recipe, seed), cell.model, recipe, size, side, needs or [data])
    return [_score(work, network, cell.model, cell.dataset, cell.setup, side)]


def _overlap(work: Work, cell: OverlapTrial, side: int) -> Key:
    """The networks of a set and of the null model on every type, and the features of the set's operations."""
    model, recipe, networks = cell.setup.targets[0], cell.setup.recipe(), []
    for method in (cell.method, REPEATED):
        data = training_set(work, method, cell.seed, cell.dataset, cell.protocol, cell.setup, side)
        networks.append(
            _network(work, ("target", model, data, recipe, cell.seed), model, recipe, _size_of(method, cell.setup), side, [data])
        )
    types = len(CORRUPTIONS) + len(UNLIKE)
    own = min(MOST, cell.setup.originals) ** 2 if TABLE1[cell.method] in PER_IMAGE else _size_of(cell.method, cell.setup)
    units = [(_corruption(side), types * cell.setup.evaluated), (_prediction(model, side), (3 * types + 1) * cell.setup.evaluated + own)]
    return work.add(("overlap", cell.method, cell.seed), units, networks)


def _score(work: Work, network: Key, model: str, dataset: str, setup: RtaScale, side: int) -> Key:
    held_out = source(work, HELD_OUT, dataset, setup, side)
    corruptions = (1 + len(HELD_OUT_SEVERITIES)) * len(CORRUPTIONS) + len(HELD_OUT_SEVERITIES) * len(HELD_OUT_TYPES)
    units = [(_corruption(side), corruptions * setup.evaluated), (attack_kind(setup.held_out, side), (1 + 3 * 10) * setup.evaluated)]
    seen = (1 + corruptions + 4) * setup.evaluated
    suite = work.add(("proxy-suite", dataset), units, [held_out], 3.0 * side * side * seen)
    return work.add(("score", network), [(_prediction(model, side), seen)], [network, suite])


# ------------------------------------------------------------------------------------------------------ iterative search


def _step(work: Work, spec: SearchSpec, kind: str, t: int, model: str, side: int) -> Key:
    if kind == "candidates":
        return _candidates(work, spec, t, side)
    return _piece(work, spec, t, side) if kind == "piece" else _mined_network(work, spec, model, t, side)


def _mined_network(work: Work, spec: SearchSpec, model: str, t: int, side: int) -> Key:
    """A target trained on the pieces 0 to t."""
    settings = spec.settings
    pieces = [_piece(work, spec, piece, side) for piece in range(t + 1)]
    recipe = settings.recipe if t + 1 == settings.pieces else settings.search_recipe or settings.recipe
    size = round(settings.size * (t + 1) / settings.pieces)
    return _network(work, ("mined", _name(spec), model, t), model, recipe, size, side, pieces)


def _piece(work: Work, spec: SearchSpec, t: int, side: int) -> Key:
    """A piece of the pool: drawn, or chosen among its candidates by networks trained on the pieces before."""
    size, rule = spec.settings.size / spec.settings.pieces, spec.settings.rule
    if t == 0 or rule == "random":
        needs = [source(work, name, spec.dataset, spec.setup, side) for name in (spec.setup.sources if spec.attacks else ())]
        share = size / (len(CORRUPTIONS) + len(needs))
        units = _operations(spec, share, side)
        key = ("piece", spec.dataset, spec.split, spec.seed, spec.attacks, t)
    else:
        networks = [_mined_network(work, spec, name, t - 1, side) for name in spec.targets]
        needs = [*networks, _candidates(work, spec, t, side)]
        offered = spec.settings.offered or len(CORRUPTIONS) + (len(spec.setup.sources) if spec.attacks else 0)
        units = [(_prediction(name, side), size * offered) for name in spec.targets]
        key = ("piece", _name(spec), t)
    return work.add(key, units, needs, 3.0 * side * side * size)


def _candidates(work: Work, spec: SearchSpec, t: int, side: int) -> Key:
    """Those of a piece after every operation that is offered to it."""
    size, settings = spec.settings.size / spec.settings.pieces, spec.settings
    needs = [source(work, name, spec.dataset, spec.setup, side) for name in (spec.setup.sources if spec.attacks else ())]
    operations = len(CORRUPTIONS) + len(needs)
    each = size * (settings.offered or operations) / operations
    key = ("candidates", spec.dataset, spec.split, spec.seed, spec.attacks, t)
    return work.add(key, _operations(spec, each, side), needs, 3.0 * side * side * each * operations)


def _operations(spec: SearchSpec, each: float, side: int) -> list[tuple[Kind, float]]:
    """`each` images after every operation of the bank."""
    units = [(_corruption(side), each * len(CORRUPTIONS))]
    for name in spec.setup.sources if spec.attacks else ():
        units.append((attack_kind(_model(name, spec.setup), side), each * _gradients(name, spec.setup)))
    return units


def _name(spec: SearchSpec) -> tuple:
    return spec.dataset, spec.split, spec.seed, spec.attacks, spec.settings.rule


# ----------------------------------------------------------------------------------------------------------------- kinds


def attack_kind(model: str, side: int) -> Kind:
    return Kind(ATTACK, model, side=side)


def _prediction(model: str, side: int) -> Kind:
    return Kind(PREDICTION, model, side=side)


def _corruption(side: int) -> Kind:
    return Kind(CORRUPTION, method=BENCHMARK, side=side)


def _training(model: str, recipe: Recipe, side: int, method: str = "clean", **own: Any) -> Kind:
    return Kind(TRAINING, model, method, recipe.batch_size, side, recipe=unit_recipe(recipe), **own)


def _network(work: Work, key: tuple, model: str, recipe: Recipe, images: int, side: int, needs: list[Key] = ()) -> Key:
    units = [(_training(model, recipe, side), recipe.epochs * -(-images // recipe.batch_size))]
    return work.add(("network", *key), units, needs, 4.0 * _count(model))


def _model(name: str, setup: RtaScale) -> str:
    """The network of a source's last stage."""
    return schedule(name, len(SOURCES[name].plan) - 1, setup)[0] if name in SOURCES else setup.held_out


@cache
def _count(model: str) -> int:
    """Parameters of a network, counted without memory for them."""
    with torch.device("meta"):
        return models.count_parameters(models.build(model))
