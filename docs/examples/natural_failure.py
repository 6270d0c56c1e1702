"""What labels buy on a natural failure: a published ResNet-20 trained on with images of the JPEG copy of CIFAR-10, on which it fails.

    python docs/examples/natural_failure.py --budgets 2500,10000,50000 --out natural-failure.csv
    python docs/examples/natural_failure.py --ladder DIR

The curve: training images of the copy, with labels; SGD, rate 0.02 falling linearly to 0, flips, and crops with --crop PX; then weights
interpolated with the published ones (Wortsman et al. 2022). `chosen` is the share of the new weights that is right on most of HELD other
training images of the copy. Accuracies in percent: on those, on test images of the copy and on lossless ones. A training that the file has
is not done again. The ladder: its rungs, with 1,500 training images of the copy as images of yours and 1,500 others as the pool.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from published import resnet20
from torch import nn

from rtalib import repair
from rtalib.data.images import LabeledImages
from rtalib.data.loading import load_dataset, root_folder
from rtalib.experiments.repair.images import stratified_halves
from rtalib.models.inference import evaluate
from rtalib.training import Recipe, train
from rtalib.yours.repair.rungs import interpolated

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the new weights
HELD = 2000  # training images that choose the share; the published network has seen their lossless originals
LOSSLESS = "cifar10-lossless-200/images.npz"


def curve(budget: int, epochs: int, crop: int, tests: dict[str, LabeledImages], seed: int) -> list[dict]:
    """A row for each share: budget labels, so many passes over them, accuracies in percent."""
    images = load_dataset("cifar10", "train", limit=budget + HELD)
    held = {"held": images.subset(range(budget, budget + HELD))}
    old, new, started = resnet20(), resnet20(), time.process_time()
    recipe = Recipe(epochs, 128, 0.02, nesterov=True, weight_decay=1e-4, schedule="linear", crop_padding=crop)
    train(new, images.subset(range(budget)), recipe, seed=seed, on_epoch=lambda model, row: print(budget, row, flush=True))
    facts = {"budget": budget, "epochs": epochs, "crop": crop, "seed": seed, "cpu_seconds": round(time.process_time() - started)}
    rows = [facts | {"share": share} | _accuracies(interpolated(old, new, share), held | tests) for share in SHARES]
    best = max(rows, key=lambda row: row["held"])  # the smallest share of those
    return [row | {"chosen": row is best} for row in rows]


def _accuracies(network: nn.Module, tests: dict[str, LabeledImages]) -> dict[str, float]:
    return {name: round(100 * evaluate(network, data), 2) for name, data in tests.items()}


def climb(folder: Path, held: LabeledImages, lossless: LabeledImages, seed: int) -> None:
    """ladder.csv and what belongs to it, for test images of the copy; the price is measured on lossless ones."""
    train = load_dataset("cifar10", "train", limit=3000)
    own, pool = (train.subset(rows) for rows in stratified_halves(train.hard_labels, seed))
    case = repair.Case(own, pool, held.with_images(held.images, "cifar10 re-saved as JPEG"), lossless)
    rungs = tuple(name for name in repair.RUNGS if name != "architecture")
    settings = repair.Settings(seed=seed)
    found = repair.ladder(resnet20(), case, goal=8, settings=settings, rungs=rungs, all_rungs=True, others=0, on_rung=print)
    repair.save(found, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", default="2500,10000,50000", help="labels, comma-separated")
    parser.add_argument("--visits", type=int, default=10_000, help="images seen in training, in all; at least one epoch")
    parser.add_argument("--crop", type=int, default=0, help="padding of random crops in pixels; they shift the blocks of JPEG")
    parser.add_argument("--tests", type=int, default=2000, help="test images of the copy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("natural-failure.csv"), help="a .csv; rows are added")
    parser.add_argument("--ladder", type=Path, metavar="DIR", help="climb the ladder instead")
    given = parser.parse_args()
    tests = {"copy": load_dataset("cifar10", "test", limit=given.tests), "lossless": load_dataset(root_folder() / LOSSLESS, "test")}
    if given.ladder:
        return climb(given.ladder, *tests.values(), given.seed)
    rows = pd.read_csv(given.out).to_dict("records") if given.out.exists() else []
    for budget in map(int, given.budgets.split(",")):
        asked = budget, max(1, given.visits // budget), given.crop
        if not any((row["budget"], row["epochs"], row["crop"], row["seed"]) == (*asked, given.seed) for row in rows):
            rows += curve(*asked, tests, given.seed)
            pd.DataFrame(rows).to_csv(given.out, index=False)
    print(pd.DataFrame(rows).to_string(index=False), f"on {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
