"""The proxy for the contest's hidden evaluation sets, and the score over it (RTA, section 4).

The hidden sets were never documented. The suite here has equal parts: clean test images; the corruptions that RTA trains on; the same
types with the other benchmark's constants and other severities; types that RTA never sees; adversarial examples transferred from a
network that is never a source, in both norms. The score is the paper's formula, the mean over networks of top-1, averaged over parts; its
level is not comparable with the paper's. The contest's released arrays, if you have them (see HIDDEN), are one more column.
"""

from pathlib import Path

from torch import nn

from rtalib import attacks
from rtalib.corruptions import CORRUPTIONS, corrupt
from rtalib.data.images import LabeledImages, concat
from rtalib.data.loading import load_dataset, root_folder
from rtalib.experiments.rta.unlike import unlike_suite
from rtalib.infra import store
from rtalib.models.inference import evaluate
from rtalib.scale_settings import RtaScale
from rtalib.sources.train import source_network
from rtalib.training.artefacts import frost_kind, load_images, save_images

TRANSFER = {
    "transfer_fgsm": attacks.FGSM(),
    "transfer_bim": attacks.BIM(),
    "transfer_pgd": attacks.PGD(),
    "transfer_l2": attacks.PGDL2(),
}
PARTS = ("clean", "corruptions", "held_out_severities", "held_out_types", *TRANSFER)
HELD_OUT_SEVERITIES = (3, 5)
HELD_OUT_TYPES = ("speckle_noise", "gaussian_blur", "saturate")  # no spatter: rows were stored before it could be computed
SEED = 1_000_003
HIDDEN = "aaai22-hidden"  # folder below $RTALIB_DATA with data.npy and label.npy; scored beside the suite, not part of the mean


def proxy_suite(dataset: str, setup: RtaScale) -> dict[str, LabeledImages]:
    """{part: images with labels}, made once from the first `setup.evaluated` test images."""
    test = load_dataset(dataset, "test", limit=setup.evaluated)
    network, source = source_network("held-out", dataset, setup)
    parameters = {"data": test.digest, "severity": setup.severity, "frost": frost_kind(), "held_out": source.key, "parts": PARTS}

    def build(folder: Path) -> None:
        for part in PARTS:
            (folder / part).mkdir(exist_ok=True)
            save_images(folder / part, suite_part(part, test, network, severity=setup.severity))

    entry = store.make("proxy-suite", 2, parameters, build, label=dataset.replace("/", "_"))
    return {part: load_images(entry.path / part) for part in PARTS}


def suite_part(part: str, test: LabeledImages, network: nn.Module, *, severity: int = 2) -> LabeledImages:
    """One of PARTS made from `test`. network: the source of the transferred examples. severity: the one that RTA trains on."""
    if part == "clean":
        return test
    if part in TRANSFER:
        return test.with_images(attacks.attack(TRANSFER[part], network, test, seed=SEED).images)
    types, severities, benchmark = {
        "corruptions": (CORRUPTIONS, (severity,), "imagecorruptions"),
        "held_out_severities": (CORRUPTIONS, HELD_OUT_SEVERITIES, "cifar10-c"),
        "held_out_types": (HELD_OUT_TYPES, HELD_OUT_SEVERITIES, "cifar10-c"),
    }[part]
    made = (corrupt(test.images, name, level, seed=SEED, benchmark=benchmark) for name in types for level in severities)
    return concat([test.with_images(images) for images in made], part)


def measure(network: nn.Module, dataset: str, setup: RtaScale) -> dict:
    """score and its PARTS for one network in percent, n_eval, and `hidden` if the released arrays are there.

    Not part of the score, because rows were stored before: unlike_types, the percentage on each of UNLIKE, and `unlike`, their mean.
    """
    suite = proxy_suite(dataset, setup)
    unlike = {name: 100 * evaluate(network, images) for name, images in unlike_suite(suite["clean"], HELD_OUT_SEVERITIES, SEED).items()}
    parts = {part: 100 * evaluate(network, images) for part, images in suite.items()}
    facts = {"score": sum(parts.values()) / len(parts), **parts, "n_eval": sum(map(len, suite.values()))}
    facts |= {"unlike": sum(unlike.values()) / len(unlike), "unlike_types": unlike}
    return facts | ({"hidden": 100 * evaluate(network, load_dataset(HIDDEN, "test"))} if has_hidden(dataset) else {})


def has_hidden(dataset: str) -> bool:
    """Whether the contest's released arrays, of CIFAR-10's classes, are there."""
    return dataset == "cifar10" and (root_folder() / HIDDEN / "data.npy").is_file()
