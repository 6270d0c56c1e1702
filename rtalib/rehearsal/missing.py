"""What a plan needs and does not find: data sets, published weights, memory, space on the disk."""

import shutil
from collections.abc import Iterator

from rtalib import scales
from rtalib.data.loading import find_tiny_imagenet, load_dataset, root_folder
from rtalib.infra import store
from rtalib.rehearsal import memory, rows
from rtalib.rehearsal.work import Work
from rtalib.sources import public_weights
from rtalib.sources.cards import SOURCES

TINY_IMAGENET = "tiny-imagenet"
DOWNLOAD = "`--dataset tiny-imagenet --download` of any command fetches it (248 MB, from cs231n.stanford.edu)"


def shape(dataset: str) -> tuple[int, int]:
    """(side in pixels, number of classes) of a data set."""
    data = load_dataset(dataset, "test", limit=None if dataset != "shapes10" else 10)
    return data.images.shape[-1], data.num_classes


def lacks(work: Work, scale: str, dataset: str) -> list[str]:
    """A line for everything that is missing or in the way of this work; [] if nothing is."""
    return [*_data(work, scale), *_weights(work, scale), *_memory(scale, dataset), *_space(work)]


def _data(work: Work, scale: str) -> Iterator[str]:
    """Tables that name a data set are refused without it; the pre-trained source asks for one that no table names."""
    needed = any(task.what == "source" for task in work.tasks) and scales.get(scale).rta.pretraining == TINY_IMAGENET
    if needed and not find_tiny_imagenet(root_folder(), "train")[0]:
        where = f"not in {root_folder()}: {DOWNLOAD}"
        yield f"missing: Tiny-ImageNet, on which the source pre_training is trained at scale {scale}, is {where}"


def _weights(work: Work, scale: str) -> Iterator[str]:
    """Published weights are used where they are; without them, the sources are trained."""
    if scales.get(scale).rta.user_weights and any(task.what == "source" for task in work.tasks):
        known = [card.robustbench for card in SOURCES.values() if card.robustbench]
        absent = [name for name in known if name not in public_weights.files()]
        if absent:
            names = ", ".join(f"{name}.pt" for name in absent)
            yield f"not there: published weights {names} in {public_weights.folder()}; these sources are trained instead"


def _memory(scale: str, dataset: str) -> Iterator[str]:
    for row in rows.measured(scale, dataset).values():
        if row["needed"] > (free := memory.free()):
            yield f"memory: {row['name']} needs {row['needed']:.1f} GiB, {free:.1f} are free"


def _space(work: Work) -> Iterator[str]:
    needed = sum(task.size for task in work.tasks)
    folder = next(folder for folder in (store.outputs(), *store.outputs().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        yield f"space: about {needed / 1e9:.0f} GB will be stored, {free / 1e9:.0f} GB are free on the disk of {store.outputs()}"
