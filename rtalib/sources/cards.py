"""The fifteen source models that RTA attacks: their cards, and how a substitute of any size is trained.

The contest (CVPR 2021 AML-CV, ARES platform) had 13 CIFAR-10 defenses; RTA attacks them and two clean models. A plan lists the trainings
of a substitute as plain data; sources/train.py carries them out, sources/public_weights.py reads the published weights instead.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One training of a plan; its network is the next stage's previous one, and that of the last stage is the source.

    objective: a name of sources.train.objective. budget: which epochs and labels of the scale it has: those of 'clean' training, of
    'robust' training, or of a 'plan', whose labels are never smoothed by the recipe. epochs, lr: shares of the plan's epochs and of the
    recipe's learning rate. data: the images, 'train', 'half' of them, 'mixed' (that half, and the other half with the labels that the
    previous network gives it) or 'other' (another data set). begin: 'fresh', or the weights of the 'previous' network, with a 'new head'
    or without. head: a name of models.heads.HEADS, or the network's own. weights: train 'all', pruning 'scores' over them, or the
    'survivors'. validation: 'best' ends with the weights of the best PGD accuracy on held-back images, 'collapse' watches for a fall.
    warm_up: share of its epochs that are the method's own warm-up.
    """

    objective: str
    budget: str = "plan"
    epochs: float = 1.0
    lr: float = 1.0
    data: str = "train"
    begin: str = "fresh"
    head: str = ""
    weights: str = "all"
    validation: str = ""
    warm_up: float = 0.0


@dataclass(frozen=True)
class Source:
    """One card. Accuracies are published ones in percent, at 8/255 unless `note` says otherwise; None if there is none.

    clean_accuracy, robust_accuracy (the authors' own attack), autoattack; starter_score: fraction misclassified under the contest's PGD-10;
    robustbench: the id of the same weights there; plan: what trains its substitute here, on the network that the scale names.
    """

    name: str
    architecture: str
    method: str
    paper: str
    plan: tuple[Stage, ...]
    clean_accuracy: float | None = None
    robust_accuracy: float | None = None
    autoattack: float | None = None
    starter_score: float | None = None
    robustbench: str | None = None
    note: str = ""


_CLEAN = (Stage("clean", budget="clean"),)

# A source's place is the seed of its training. The most expensive plans come first, so that no run ends with one of them alone.
_CARDS = (
    Source(
        "clean_resnet50",
        "ResNet-50 with a 3x3 stem",
        "standard training",
        "He et al. 2016",
        _CLEAN,
        note="RTA names it 'resnet50' without settings; the CIFAR stem is inferred from the contest's Stage I target",
    ),
    Source(
        "clean_wideresnet",
        "WRN-28-4 or WRN-34-10",
        "standard training",
        "Zagoruyko and Komodakis 2016",
        _CLEAN,
        note="RTA names it 'wideresnet' without settings",
    ),
    Source(
        "pgd_at",
        "wide ResNet of Madry et al., about WRN-34-10",
        "PGD-AT",
        "Madry et al. 2018",
        (Stage("pgd_at", budget="robust"),),
        *(87.14, 47.04, 44.04, 0.515),
        note="the published network sees per-image standardized inputs",
    ),
    Source(
        "wideresnet_trades",
        "WRN-34-10",
        "TRADES, beta 6",
        "Zhang et al. 2019",
        (Stage("trades", budget="robust"),),
        *(84.92, 56.43, 53.08, 0.418),
        robustbench="Zhang2019Theoretically",
        note="published at eps 0.031",
    ),
    Source(
        "fast_at",
        "PreAct ResNet-18",
        "FastAT, 30 epochs",
        "Wong et al. 2020",
        (Stage("fast_at", budget="robust", validation="collapse"),),
        *(83.34, 46.06, 43.21, 0.492),
        robustbench="Wong2020Fast",
    ),
    Source(
        "label_smoothing",
        "WRN-34-10",
        "PGD-AT with label smoothing",
        "Pang et al. 2021",
        (Stage("label_smoothing", budget="robust"),),
        starter_score=0.418,
        note="identified by its weights' names; the contest's smoothing value is unpublished; 0.1 here",
    ),
    Source(
        "hydra",
        "WRN-28-10, 90 % of the weights pruned",
        "HYDRA",
        "Sehwag et al. 2020",
        (
            Stage("trades", epochs=0.75),
            Stage("trades", epochs=0.2, begin="previous", weights="scores"),
            Stage("trades", epochs=0.75, lr=0.1, begin="previous", weights="survivors"),
        ),
        *(88.98, 62.24, 57.14, 0.369),
        robustbench="Sehwag2020Hydra",
        note="published with 500,000 extra images; the substitute has none",
    ),
    Source(
        "awp",
        "WRN-28-10",
        "adversarial weight perturbation on RST",
        "Wu et al. 2020",
        (Stage("trades_awp", warm_up=0.05),),
        *(88.25, 60.04, 60.04, 0.349),
        robustbench="Wu2020Adversarial_extra",
        note="published with 500,000 extra images; the substitute is TRADES-AWP without them",
    ),
    Source(
        "rst",
        "WRN-28-10",
        "robust self-training: TRADES with 500,000 pseudo-labeled images",
        "Carmon et al. 2019",
        (Stage("clean", data="half"), Stage("trades", data="mixed")),
        *(89.69, 62.5, 59.53, 0.346),
        robustbench="Carmon2019Unlabeled",
        note="the extra images were withdrawn; the substitute treats half of the training images as unlabeled",
    ),
    Source(
        "mmc",
        "ResNet-v2 of depth 47, 256 features, distance logits",
        "max-Mahalanobis center loss with PGD training",
        "Pang et al. 2020 (ICLR)",
        (Stage("mmc", epochs=1.25, head="centres", lr=0.1),),
        *(80.89, 55.0, 43.48, 0.42),
        note="the accuracies are those of the leaderboard's 'RN-32', probably the same network",
    ),
    Source(
        "pre_training",
        "WRN-28-10",
        "adversarial pre-training on 32-pixel ImageNet, then tuning",
        "Hendrycks et al. 2019",
        (Stage("pgd_at", data="other"), Stage("pgd_at", epochs=0.05, lr=0.01, begin="new head")),
        *(87.11, 57.4, 54.92, 0.4),
        robustbench="Hendrycks2019Using",
    ),
    Source(
        "free_at",
        "WRN-32-10",
        "Free-AT, m = 8",
        "Shafahi et al. 2019",
        (Stage("free_at", epochs=1 / 8),),
        *(86.11, 46.19, 41.47, 0.525),
        note="the authors report 85.96 clean and 46.33 robust; the published network sees per-image standardized inputs",
    ),
    Source(
        "feature_scatter",
        "WRN-28-10",
        "Feature Scattering",
        "Zhang and Wang 2019",
        (Stage("feature_scatter"),),
        *(89.98, 60.6, 36.64, 0.248),
        note="masks gradients: far weaker under AutoAttack than under PGD",
    ),
    Source(
        "robust_overfitting",
        "WRN-34-10",
        "PGD-AT, stopped early",
        "Rice et al. 2020",
        (Stage("pgd_at", validation="best"),),
        *(85.34, 58.0, 53.42, 0.422),
        note="the accuracies are those of the WRN-34-20 that was published",
    ),
    Source(
        "at_he",
        "WRN-34-10, features and class weights normalized",
        "PGD-AT with hypersphere embedding",
        "Pang et al. 2020",
        (Stage("at_he", head="cosine"),),
        *(85.14, None, 53.74, 0.373),
        note="the accuracies are those of the WRN-34-20 that was published",
    ),
)
SOURCES: dict[str, Source] = {card.name: card for card in _CARDS}
