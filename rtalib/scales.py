"""Every number that depends on size, in one place: smoke | demo | cpu | small | paper.

smoke: seconds, for tests. demo: the first command, two CPU cores, a coffee. cpu: real CIFAR-10 in about an hour on two CPU cores.
small: real data, reduced networks and epochs, one GPU for half an hour or a CPU overnight. paper: the papers' own settings.
"""

from dataclasses import dataclass, replace

from rtalib.errors import unknown
from rtalib.recipes import RECIPES, Recipe
from rtalib.sources import SOURCES


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
    robust_model: str
    held_out: str  # attacked for the evaluation, never a source
    source_images: int
    source_budget: tuple[str, int]
    robust_epochs: int  # of PGD-AT, TRADES, FastAT and label smoothing
    attack_steps: int  # of the robust sources' training; the papers take 10
    evaluated: int
    plan_epochs: int  # of a whole training in the plans of the other nine
    plan_warm_up: int = 0  # epochs over which the attack grows to its full size; short trainings stay on their first plateau otherwise
    plan_lr: float = 0.0  # least share of the recipe's learning rate in a stage; few steps need more than the papers' small ones
    pretraining: str = "shapes10"  # another data set, for adversarial pre-training; further images where it is the same
    unlabelled: str = ""  # a data set of yours for RST: its images get pseudo-labels in the place of half of the training images
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
    failures: int  # B, the number of selected failure examples
    search_epochs: int
    refine_epochs: int
    steps_per_epoch: int
    budget: tuple[str, int]
    channels: int = 36
    layers: int = 20
    auxiliary: bool = True
    search_channels: int = 16
    search_layers: int = 8
    search_batch: int = 64
    search_lr: float = 0.025
    arch_lr: float = 3e-4  # an alpha moves by about this much in a step, so short searches need more
    order: int = 1
    precision: str = "auto"  # of retraining; bf16 does not pay for small networks of depthwise convolutions on a CPU

    def recipe(self) -> Recipe:
        preset, epochs = self.budget
        recipe = RECIPES[preset].scaled(epochs)
        return recipe if self.auxiliary else replace(recipe, auxiliary_weight=0.0)


@dataclass(frozen=True)
class Scale:
    name: str
    seeds: tuple[int, ...]
    rta: RtaScale
    repair: RepairScale
    corruptions: CorruptionScale = CorruptionScale()


SMOKE = Scale(
    name="smoke",
    seeds=(0,),
    rta=RtaScale(
        originals=40,
        targets=("tiny",),
        budget=("fast", 1),
        sources=("clean_resnet50", "fast_at"),
        clean_model="tiny",
        wide_model="tiny",
        robust_model="tiny",
        held_out="tiny",
        source_images=80,
        source_budget=("fast", 1),
        robust_epochs=1,
        attack_steps=1,
        evaluated=20,
        plan_epochs=1,
        restarts=1,
        pieces=3,
        offered=3,
    ),
    repair=RepairScale(
        images=80,
        tests=40,
        failures=20,
        search_epochs=1,
        refine_epochs=1,
        steps_per_epoch=1,
        budget=("small_darts", 1),
        channels=4,
        layers=2,
        auxiliary=False,
        search_channels=4,
        search_layers=3,
        search_batch=8,
    ),
    corruptions=CorruptionScale(images=20, timed=10),
)

DEMO = Scale(
    name="demo",
    seeds=(0, 1, 2),
    rta=RtaScale(
        originals=200,
        targets=("convnet", "convnet_small"),
        budget=("brief", 6),
        sources=tuple(SOURCES),
        clean_model="convnet",
        wide_model="wide_resnet10_1",
        robust_model="convnet",
        held_out="convnet_small",
        source_images=3000,
        source_budget=("fast", 8),
        robust_epochs=8,
        attack_steps=2,
        evaluated=120,
        plan_epochs=4,
        plan_warm_up=3,
        plan_lr=0.3,
        restarts=4,
        severity=1,  # at 2, as published, trainings this short learn nothing from corrupted images
        offered=4,
    ),
    repair=RepairScale(
        images=1500,
        tests=300,
        failures=60,
        search_epochs=4,
        refine_epochs=2,
        steps_per_epoch=15,
        budget=("small_darts", 8),
        channels=8,
        layers=3,
        auxiliary=False,
        search_channels=4,
        search_layers=3,
        search_batch=16,
        search_lr=0.1,
        arch_lr=0.03,
        precision="fp32",
    ),
    corruptions=CorruptionScale(images=200, timed=100),
)

CPU = Scale(
    name="cpu",
    seeds=(0, 1, 2),
    rta=replace(
        DEMO.rta,
        originals=1500,
        budget=("fast", 8),
        source_images=6000,
        attack_steps=3,
        evaluated=400,
        plan_epochs=8,
        restarts=6,
        severity=2,
        offered=10,
    ),
    repair=replace(
        DEMO.repair,
        images=4000,
        tests=600,
        failures=200,
        search_epochs=6,
        refine_epochs=3,
        steps_per_epoch=20,
        budget=("small_darts", 12),
    ),
)

SMALL = Scale(
    name="small",
    seeds=(0, 1, 2),
    rta=RtaScale(
        originals=5000,
        targets=("resnet18", "preact_resnet18"),
        budget=("table1", 30),
        sources=tuple(SOURCES),
        clean_model="resnet18",
        wide_model="wide_resnet28_4",
        robust_model="resnet18",
        held_out="preact_resnet18",
        source_images=20_000,
        source_budget=("fast", 30),
        robust_epochs=20,
        attack_steps=10,
        evaluated=2000,
        plan_epochs=20,
        plan_lr=0.1,
        pretraining="tiny-imagenet",
        user_weights=True,
    ),
    repair=RepairScale(
        images=20_000,
        tests=4000,
        failures=400,
        search_epochs=20,
        refine_epochs=8,
        steps_per_epoch=150,
        budget=("darts", 60),
        channels=16,
        layers=8,
        auxiliary=False,
        search_layers=5,
        arch_lr=3e-3,
    ),
)

PAPER = Scale(
    name="paper",
    seeds=(0, 1, 2, 3, 4),
    rta=RtaScale(
        originals=10_000,
        targets=("resnet50", "densenet121"),
        stage2_targets=("wide_resnet28_4", "preact_resnet18"),
        short_rounds=False,
        budget=("table1", 110),
        sources=tuple(SOURCES),
        clean_model="resnet50",
        wide_model="wide_resnet28_4",
        robust_model="wide_resnet34_10",
        held_out="preact_resnet18",
        source_images=50_000,
        source_budget=("table1", 110),
        robust_epochs=110,
        attack_steps=10,
        evaluated=10_000,
        plan_epochs=110,
        pretraining="tiny-imagenet",
        user_weights=True,
    ),
    repair=RepairScale(
        images=50_000,
        tests=10_000,
        failures=1000,
        search_epochs=50,
        refine_epochs=20,
        steps_per_epoch=520,
        budget=("darts", 600),
        order=2,  # the paper does not say; its hours fit the second order
    ),
)

SCALES = {scale.name: scale for scale in (SMOKE, DEMO, CPU, SMALL, PAPER)}


def get(name: str) -> Scale:
    """The scale of that name; ValueError that suggests the nearest one otherwise."""
    if name not in SCALES:
        raise unknown("scale", name, SCALES)
    return SCALES[name]


def run_name(scale: str, dataset: str) -> str:
    """Name of the run's folder: the scale on the embedded data set, scale-dataset otherwise."""
    return get(scale).name if dataset == "shapes10" else f"{get(scale).name}-{dataset.strip('/').replace('/', '_')}"
