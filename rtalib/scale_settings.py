"""What a scale sets for each paper, and the recipes that follow; the numbers are in `scales`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rtalib.training.recipes import RECIPES, Recipe

PUBLISHED = "published"  # as a robust_model: each robust source has the network and the schedule of its card
OTHER_SHAPES = "shapes10 redrawn at 24 px"  # a second data set where none is at hand: other draws of the same classes, at another size


@dataclass(frozen=True)
class CorruptionScale:
    """The corruptions alone. Counts are of test images: what a mean PSNR is over, and what a round on the clock corrupts."""

    images: int = 500  # as many as the values of the original generators are over
    timed: int = 500


@dataclass(frozen=True)
class RtaScale:
    """Paper one. Counts are of images; `budget` names a preset of RECIPES and the epochs that stand for Table 1's 110."""

    originals: int  # Table 1's first row; four augmented copies of it make the other rows
    targets: tuple[str, ...]  # the score is the mean over these
    budget: tuple[str, int]
    sources: tuple[str, ...]
    clean_model: str
    wide_model: str
    robust_model: str  # of all robust sources, or PUBLISHED
    held_out: str  # attacked for the evaluation, never a source
    source_images: int
    source_budget: tuple[str, int]
    robust_epochs: int  # of PGD-AT, TRADES, FastAT and label smoothing; of published schedules the most
    attack_steps: int  # of the robust sources' training; the papers take 10
    evaluated: int
    plan_epochs: int  # of a whole training in the plans of the other nine
    plan_warm_up: int = 0  # epochs over which the attack grows to its full size; short trainings stay on their first plateau otherwise
    plan_lr: float = 0.0  # least share of the recipe's learning rate in a stage; few steps need more than the papers' small ones
    pretraining: str = "shapes10"  # another data set, for adversarial pre-training; further images where it is the same
    unlabelled: str = ""  # a data set of yours for RST: its images get pseudo-labels and stand for half of the training images
    user_weights: bool = False  # whether published weights in public_weights.folder() go before substitutes
    restarts: int | None = None  # of ODI-BIM; None: the preset's 14
    copies: int = 4
    severity: int = 2
    stage2_targets: tuple[str, ...] = ()  # of Table 4's second stage; default the same targets
    pieces: int = 5  # T of iterative search
    offered: int | None = None  # operations drawn for an image to make its candidates; None: all of them
    short_rounds: bool = True  # all rounds of iterative search but the last train by recipe(), not by final_recipe()

    def recipe(self) -> Recipe:
        """Of Table 1: no label smoothing, weight decay 1e-4."""
        preset, epochs = self.budget
        return replace(RECIPES[preset].scaled(epochs), label_smoothing=0.0, weight_decay=1e-4)

    def final_recipe(self, epochs: int = 180, milestones: tuple[int, ...] = (120, 140, 160)) -> Recipe:
        """Of Table 3: label smoothing 0.1, weight decay 5e-4, lr times 0.1 at each milestone, shortened as the scale shortens Table 1."""
        preset, stand_for_110 = self.budget
        published = replace(RECIPES[preset], epochs=epochs, schedule="step", milestones=milestones, label_smoothing=0.1, weight_decay=5e-4)
        return published.scaled(round(epochs * stand_for_110 / 110))

    def source_recipe(self, *, robust: bool) -> Recipe:
        preset, epochs = self.source_budget
        return RECIPES[preset].scaled(self.robust_epochs if robust else epochs)

    def plan_recipe(self, epochs: float, lr: float) -> Recipe:
        """Of a stage with these shares of plan_epochs and of the learning rate; labels are as the method has them, not smoothed."""
        recipe = RECIPES[self.source_budget[0]]
        lr = max(lr, self.plan_lr) * recipe.lr
        return replace(recipe.scaled(max(1, round(epochs * self.plan_epochs))), lr=lr, label_smoothing=0.0)

    def source_model(self, name: str) -> str:
        return {"clean_resnet50": self.clean_model, "clean_wideresnet": self.wide_model}.get(name, self.robust_model)


@dataclass(frozen=True)
class RepairScale:
    """Paper two. `budget` names a preset of RECIPES and its epochs; the defaults are DARTS' own on CIFAR-10."""

    images: int  # of the training split; 50,000 in the paper
    tests: int  # base test images; each is corrupted at five severities
    sizes: tuple[int, ...]  # of the failure set, for Table 6's 1,000 to 20,000; the first is B of all other tables
    search_epochs: int
    refine_epochs: int
    steps_per_epoch: int
    budget: tuple[str, int]
    channels: int = 36
    layers: int = 20
    stem: str = "cifar"  # 'tiny-imagenet' halves the images first, for two CPU cores
    auxiliary: bool = True
    search_channels: int = 16
    search_layers: int = 8
    search_batch: int = 64
    search_lr: float = 0.025
    arch_lr: float = 3e-4  # an alpha moves by about this much in a step, so short searches need more
    order: int = 1
    published_searches: bool = False  # whether the other search methods keep their published batch, rates and order
    searches: tuple[str, ...] = ("darts", "pc-darts", "darts-pt", "robust-darts")  # Table 5
    pt_first_interval: int = 1  # epochs between two of DARTS-PT's decisions: in the deployed network's search, in a refinement
    pt_interval: int = 1
    pt_steps: int | None = None  # of its epochs, which are 17 to 97 more than the others'
    pt_images: int | None = None  # on which it decides; None: the whole validation half
    robust_grid: tuple[float, ...] = (3e-4, 9e-4, 27e-4, 81e-4)  # weight decays of R-DARTS (L2)
    choice: tuple[str, int] = ("darts", 20)  # how one of several cells is chosen: a preset of RECIPES and its epochs
    choice_channels: int = 16
    choice_layers: int = 8
    candidates: int = 5  # further searches; the best one is Org. DNN-v2
    transfer: str = "tiny-imagenet"  # Table 4's data set
    transfer_images: int = 100_000
    transfer_classes: int = 0  # its first so many classes; 0: all
    curve_images: int = 100  # on which Figure 2 follows the training
    draws: int = 5  # random cells beside each searched one (is a search better than chance?)
    chance_tests: int = 10_000  # clean test images on which they are compared
    precision: str = "auto"  # of retraining; bf16 does not pay for small networks of depthwise convolutions on a CPU

    @property
    def failures(self) -> int:
        """B, the number of selected failure examples."""
        return self.sizes[0]

    def recipe(self, side: int = 32) -> Recipe:
        """Of networks for images of `side` pixels; DARTS published those for 32, and Tiny-ImageNet's 64 keep their shares."""
        preset, epochs = self.budget
        recipe = RECIPES["darts_tiny_imagenet" if preset == "darts" and side >= 64 else preset].scaled(epochs)
        return recipe if self.auxiliary else replace(recipe, auxiliary_weight=0.0)


@dataclass(frozen=True)
class TogetherScale:
    """What neither paper tries; in no key of the papers' tables, so that what they have stored stays theirs."""

    severities: tuple[int, ...] = (1, 3, 5)  # of the corruptions in RTA sets of several budgets
    copies: tuple[int, ...] = (1, 2, 4)  # of all originals in such a set, at most RtaScale.copies
    arch_lr: float | None = None  # of searches from deployed networks of their own; default RepairScale's
    arch_weight_decay: float | None = None  # of these; default the preset's, which keeps the alphas of short searches undecided


@dataclass(frozen=True)
class Scale:
    name: str
    seeds: tuple[int, ...]
    rta: RtaScale
    repair: RepairScale
    corruptions: CorruptionScale = CorruptionScale()
    together: TogetherScale = TogetherScale()
    seeds_of: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)  # number of a notebook -> its seeds, where others
    protocol: str = "disjoint"  # of tables and notebooks that are given none

    def notebook_seeds(self, notebook: str) -> tuple[int, ...]:
        """The seeds of a notebook, by its name: its own where it has some, else the scale's."""
        return self.seeds_of.get(notebook[:2], self.seeds)
