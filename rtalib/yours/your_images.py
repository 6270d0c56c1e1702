"""A robust data set of your own images: RTA's draw, or iterative search, over sources that are trained on the images themselves.

    python -m rtalib rta --images my/photos --out my/robust --size 5000 [--iterative] [--format folder] [--score]

The store keeps every step: a killed run resumes where it stopped, and a run of another size reuses what it can.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rtalib import attacks, scales
from rtalib.corruptions import CORRUPTIONS
from rtalib.data import export, pictures, readers
from rtalib.data.bounds import check_memory
from rtalib.data.images import LabeledImages, concat
from rtalib.data.loading import SPLITS, load_dataset
from rtalib.errors import check_kind, check_name, check_number
from rtalib.experiments.rta import score as rta_score
from rtalib.experiments.rta import search as rta_search
from rtalib.experiments.rta import tables as rta
from rtalib.experiments.rta.iterative_search import Trace
from rtalib.experiments.rta.source_study import SourceTrial, source_trial
from rtalib.infra import grid, provenance, store
from rtalib.results.figures.arrays import image_grid
from rtalib.results.figures.style import Drawing, save
from rtalib.training.artefacts import frost_kind
from rtalib.yours import set_folder
from rtalib.yours.cells import NetworkSpec, absolute, examine

SIDES = (16, 4000)
KINDS = (*export.KINDS, "folder")
IMAGES = "images.npz"


@dataclass(frozen=True)
class SetRequest:
    """The set to make: `size` images at `side` pixels, mined by iterative search or drawn, with or without the originals in front."""

    images: str
    size: int
    iterative: bool = False
    originals: bool = False
    side: int = 32
    scale: str = "demo"
    seed: int = 0

    def __post_init__(self) -> None:
        check_kind("images", self.images, str, "a folder or the name of a data set")
        for name in ("iterative", "originals"):
            check_kind(name, getattr(self, name), bool, "True or False")
        check_number("seed", self.seed, integer=True)
        check_number("side", self.side, *SIDES, integer=True, unit=" pixels")
        check_number("size", self.size, 1, integer=True, unit=" image")
        scales.get(self.scale)


@dataclass(frozen=True)
class SetRequestWithNetwork(SetRequest):
    """The same, with the user's own network among the sources of the attacks."""

    network: NetworkSpec | None = None


def request(images: str, network: NetworkSpec | str | None = None, **settings: Any) -> SetRequest:
    """A request; network: see yours.networks.open_network."""
    if network is None:
        return SetRequest(images, **settings)
    return SetRequestWithNetwork(images, **settings, network=absolute(NetworkSpec(network) if isinstance(network, str) else network))


@dataclass(frozen=True)
class OwnSearchSpec(rta_search.SearchSpec):
    """A search whose sources are those of the scale and the user's own network."""

    network: NetworkSpec | None = None

    def own_sources(self, data: LabeledImages) -> dict[str, nn.Module]:
        network = self.network.open(data.num_classes)
        examine(network, data)
        return {f"own {self.network.label}": attacks.prepared(network)}


@dataclass(frozen=True)
class RobustDataset:
    """The robust data set, the trace of its images (without the originals in front), those originals, and a card of how it was made."""

    data: LabeledImages
    trace: Trace
    originals: LabeledImages
    card: dict


@grid.shared_workers()
def make(
    order: SetRequest, out: str | Path, kinds: Sequence[str] = ("npz",), *, skip_unreadable: bool = False, **grid_options: Any
) -> RobustDataset:
    """Make the data set and write it into `out`: in `kinds` ('folder' or see export), with card.json, manifest.csv and preview.png.

    order.images: a folder of class folders with pictures of any sizes (scaled to order.side, the longer side cropped), or anything that
    load_dataset reads. The set has no test images. The sources are substitutes trained on the training images with the setup of
    order.scale; of images with more than 64 pixels a side, they and the networks that mine see 64x64 pixels, while corruptions, attacks and
    the set itself have all of them. skip_unreadable: leave out pictures that cannot be read, with a warning that names them;
    else they are an error. grid_options: executor, workers; see grid.run.
    Raises ValueError if the size leaves no room, for unknown kinds and for a folder `out` with a set of other parameters, and the errors of
    iterative_search.
    """
    for kind in kinds:  # before hours of work, not after them
        check_name("format", kind, KINDS)
    dataset = prepare(order, skip_unreadable=skip_unreadable)
    spec = spec_of(order, dataset)
    set_folder.check(Path(out), store.plain(order), load_dataset(dataset, "train").digest)
    _check_memory(3 * spec.settings.size, load_dataset(dataset, "train").images.shape[2:])
    checked = rta_search.search_of(replace(spec, attacks=False))  # bad input is refused before anything is trained
    spec.own_sources(checked.data)
    common = _common(order, dataset, spec) | grid_options
    networks = [SourceTrial(name, dataset, order.scale, spec.setup) for name in spec.setup.sources]
    grid.run(source_trial, networks, recipe="rtalib.rta.source_cell", table="rta-sources", **common)
    rta_search.run_steps({(method(order), order.seed): spec}, common)
    search = rta_search.search_of(spec)
    data, trace = search.training_set(), search.trace()
    if order.originals:
        data = concat([search.data, data], data.name)
    robust = RobustDataset(data, trace, search.data, _card(order, spec, data, trace, search.data))
    out, names = Path(out), [*_names(order, dataset, len(search.data))]
    lines = set_folder.manifest(data, trace, names, robust.card["severity"])
    if "folder" in kinds:
        set_folder.write(data, lines, out)
    if arrays := [kind for kind in kinds if kind != "folder"]:
        export.export(data, out, arrays)
    set_folder.write_manifest(lines, out)
    store.write_atomic(out / "card.json", json.dumps(robust.card, indent=1))
    save(preview(robust), out, "preview")
    return robust


def _names(order: SetRequest, dataset: str, count: int) -> list[str]:
    """What to call each training image: the file below order.images, or its number in the training split."""
    if dataset.endswith(IMAGES):
        return [str(name) for name in np.load(dataset, allow_pickle=False)["train_files"]]
    return [str(number) for number in range(count)]


def _common(order: SetRequest, dataset: str, spec: rta_search.SearchSpec) -> dict:
    name = Path(order.images).stem if Path(order.images).exists() else order.images.replace("/", "_")
    return {"run": f"rta-{name}", "inputs": rta.run_inputs(dataset, spec.setup)}


def method(order: SetRequest) -> str:
    return "RTA + Iterative search" if order.iterative else "RTA"


def prepare(order: SetRequest, *, skip_unreadable: bool = False) -> str:
    """The name for load_dataset: a folder of pictures becomes a .npz in the store, with pictures of one size; other names stay.

    ValueError names all pictures that cannot be read (20 at most), unless they are skipped with a warning.
    """
    folder = Path(order.images).expanduser()
    if not folder.is_dir() or any(folder.glob("*.npy")) or any(folder.glob("*.parquet")):
        return order.images if not folder.exists() else str(folder.absolute())
    listed = {split: readers.class_folder_files(folder, split) for split in SPLITS}
    _check_memory(2 * sum(len(files) for files, _ in listed.values()) + 3 * order.size, (order.side, order.side))
    facts = {split: [[str(file), file.stat().st_size, file.stat().st_mtime_ns, k] for file, k in listed[split][0]] for split in SPLITS}

    def build(work: Path) -> None:
        arrays, errors = {"classes": np.array(listed["train"][1])}, []
        for split, (files, _) in listed.items():
            found = [(file, k, picture) for file, k in files if (picture := _picture_or(file, order.side, errors)) is not None]
            if errors and (not skip_unreadable or not found):
                continue
            arrays[f"{split}_images"] = np.stack([picture for _, _, picture in found])
            arrays[f"{split}_labels"] = np.array([k for _, k, _ in found])
            arrays[f"{split}_files"] = np.array([file.relative_to(folder).as_posix() for file, _, _ in found])
        if errors and (not skip_unreadable or len(arrays) < 7):
            raise ValueError(f"{pictures.all_errors(errors)}; --skip-unreadable leaves them out")
        if errors:
            warnings.warn(f"left out, for they cannot be read: {', '.join(name for name, _ in errors)}", stacklevel=2)
        np.savez(work / IMAGES, **arrays)

    parameters = {"files": facts, "side": order.side} | ({"skip_unreadable": True} if skip_unreadable else {})
    entry = store.make("your-images", 3, parameters, build, label=folder.name)
    return str(entry.path / IMAGES)


def _check_memory(count: int, sides: tuple[int, int]) -> None:
    """ValueError, before anything is read or trained, if so many images of these sides are more than memory holds.

    A set is in it three times, in pieces, joined, and as it is written; its originals twice.
    """
    what = f"size: more than memory holds: {count:,} images of {sides[1]}x{sides[0]} px, with copies, which"
    check_memory(3 * count * sides[0] * sides[1], what)


def _picture_or(file: Path, side: int, errors: list[tuple[str, str]]) -> np.ndarray | None:
    """The picture, or None if it cannot be read; what is wrong with it is added to `errors`."""
    try:
        return _picture(file, side)
    except ValueError as error:
        errors.append((str(file), str(error)))
        return None


def _picture(file: Path, side: int) -> np.ndarray:
    """uint8 (side, side, 3): the longer side cropped around the middle, each pixel the mean of those under it."""
    return np.asarray(pictures.square(str(file), file, side))


def spec_of(order: SetRequest, dataset: str) -> rta_search.SearchSpec:
    """The search behind a request."""
    try:
        train = load_dataset(dataset, "train")
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise type(error)(f"images: {str(error).removeprefix('name: ')}") from error
    size = order.size - (len(train) if order.originals else 0)
    if size < 1:
        raise ValueError(f"size: {order.size} images leave no room for augmented ones beside {len(train)} originals; ask for more")
    setup = scales.get(order.scale).rta
    test = load_dataset(dataset, "test")
    setup = replace(
        setup, source_images=min(setup.source_images, len(train)), evaluated=min(setup.evaluated, len(test)), user_weights=False
    )
    rule = "most-models" if order.iterative else "random"
    spec = (dataset, "train", None, True, setup.targets, rta_search.settings_of(setup, rule, size), order.seed, setup)
    return OwnSearchSpec(*spec, order.network) if isinstance(order, SetRequestWithNetwork) else rta_search.SearchSpec(*spec)


def _card(order: SetRequest, spec: rta_search.SearchSpec, data: LabeledImages, trace: Trace, originals: LabeledImages) -> dict:
    counts = torch.bincount(trace.operation, minlength=len(trace.operations)).tolist()
    return {
        "method": method(order),
        "order": store.plain(order),
        "images": len(data),
        "originals": len(originals) if order.originals else 0,
        "classes": dict(zip(data.classes, torch.bincount(data.hard_labels, minlength=data.num_classes).tolist(), strict=True)),
        "operations": dict(zip(trace.operations, counts, strict=True)),
        "made_of": {"images": len(originals), "digest": originals.digest},
        "digest": data.digest,
        "settings": store.plain(spec.settings),
        "severity": spec.setup.severity,
        "sources": f"substitutes trained on {spec.setup.source_images} of the images at scale {order.scale}"
        + (f", and {order.network.network}" if isinstance(order, SetRequestWithNetwork) else ""),
        "frost": frost_kind(),
        "rounds": trace.rounds,
        "stamp": provenance.stamp(),
    }


def text(robust: RobustDataset, out: str | Path) -> str:
    """A summary of the set for a terminal."""
    card = robust.card
    drawn = sorted(card["operations"].items(), key=lambda item: -item[1])
    often = ", ".join(f"{name} {count}" for name, count in drawn[:5])
    head = f"{card['images']} images ({card['method']}, {card['originals']} of them originals) in {out}: data.*, card.json, preview.png"
    return f"{head}\nmost frequent operations: {often}"


def preview(robust: RobustDataset, count: int = 8) -> Drawing:
    """`count` originals, spread over the set, above their augmented versions."""
    trace, originals, skipped = robust.trace, robust.originals, len(robust.data) - len(robust.trace.image)
    at = torch.linspace(0, len(trace.image) - 1, min(count, len(trace.image))).round().long()
    before, after = originals.images[trace.image[at]], robust.data.images[skipped + at]
    names = [originals.classes[k] for k in originals.hard_labels[trace.image[at]].tolist()]
    operations = [trace.operations[k].replace("_", " ") for k in trace.operation[at].tolist()]
    return image_grid(torch.cat([before, after]), [*names, *operations], columns=len(at), size=1.1)


# ---------------------------------------------------------------------------------------------------------- before and after


@dataclass(frozen=True)
class BeforeAfterTrial:
    """A network trained on the originals, or on the robust set, for equally many steps, and scored on perturbed test images."""

    trained_on: str
    model: str
    seed: int
    dataset: str
    scale: str
    order: SetRequest
    setup: scales.RtaScale


def score(order: SetRequest, *, skip_unreadable: bool = False, **grid_options: Any) -> list[dict]:
    """Rows for each target network of the scale, trained on the 'originals' and on the 'robust' set; see the score module for the parts.

    Call `make` first. Both trainings take the same number of steps, so that more images do not mean more training.
    """
    dataset = prepare(order, skip_unreadable=skip_unreadable)
    spec = spec_of(order, dataset)
    if load_dataset(dataset, "train").digest == load_dataset(dataset, "test").digest:
        raise ValueError(f"images: {order.images!r} has no test images; give a folder, or a .npz with x_train, y_train, x_test and y_test")
    corrupted = len(CORRUPTIONS) * len(rta_score.HELD_OUT_SEVERITIES) * spec.setup.evaluated  # the largest part of the suite
    _check_memory(2 * corrupted, load_dataset(dataset, "test").images.shape[2:])
    trials = [
        BeforeAfterTrial(which, model, order.seed, dataset, order.scale, order, spec.setup)
        for which in ("originals", "robust")
        for model in spec.targets
    ]
    return grid.run(
        before_after_trial,
        trials,
        recipe="rtalib.your_images.before_after_cell",
        table="rta-before-after",
        **_common(order, dataset, spec),
        **grid_options,
    )


def before_after_trial(trial: BeforeAfterTrial) -> dict:
    """Train one network and score it, in percent."""
    spec = spec_of(trial.order, trial.dataset)
    search, recipe = rta_search.search_of(spec), spec.settings.recipe
    data, robust = search.data, search.training_set()
    if trial.order.originals:
        robust = concat([data, robust], "robust")
    if trial.trained_on == "robust":
        data = robust
    else:
        recipe = recipe.scaled(max(1, round(recipe.epochs * len(robust) / len(data))))
    network, _ = rta.train_target(trial.model, data, data.digest, recipe, trial.seed)
    return {"n_train": len(data), "epochs": recipe.epochs, **rta_score.measure(network, trial.dataset, trial.setup)}
