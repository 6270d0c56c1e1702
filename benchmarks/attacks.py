"""PGD with one budget by several hands: rtalib (plain, prepared, bfloat16, stopping), torchattacks, foolbox, AutoAttack's APGD.

    python benchmarks/attacks.py [--networks resnet18,convnet] [--batches 16,64] [--steps 10] [--out outputs/benchmarks/attacks.csv]

Each network is trained first (once: it stays in the store), and only images that it gets right are attacked: on others, stopping would be
free, and success no merit. One thread, CPU time of the process, the contestants in turn within a round; the median round counts. On a GPU
wall time. A gradient is one image through the network forward and backward, counted as it happens. Success is the share of images that
the network itself, in float32, gets wrong afterwards, at eps 8/255 and at a smaller one. Peers that are not installed are left out.
"""

import argparse
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import results, timing
from rtalib import attacks, load_dataset, models, provenance, training
from rtalib.training.artefacts import trained_network

STEP_SHARE = 1 / 4  # step size over eps: 2/255 at 8/255
FIELDS = (
    "network batch contestant precision gradients_per_image gradients_per_second images_per_second seconds wall_seconds clock rounds "
    "over_torchattacks over_same_precision over_foolbox clean_accuracy success_images eps success small_eps success_small load"
).split()
Attack = Callable[[Tensor, Tensor], Tensor]


class Autocast(nn.Module):
    """A model computed in bfloat16 by autocast and in nothing else: what a user of a peer would write."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.model(x).float()


def ours(model: nn.Module, eps: float, steps: int, **options: object) -> tuple[nn.Module, Attack]:
    recipe = attacks.PGD(eps, STEP_SHARE * eps, steps, **options)
    return model, lambda x, y: recipe(model, x, y)


def torchattacks_pgd(model: nn.Module, eps: float, steps: int, random_start: bool = True) -> tuple[nn.Module, Attack]:
    import torchattacks

    return model, torchattacks.PGD(model, eps=eps, alpha=STEP_SHARE * eps, steps=steps, random_start=random_start)


def foolbox_pgd(model: nn.Module, eps: float, steps: int, random_start: bool = True) -> tuple[nn.Module, Attack]:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=next(model.parameters()).device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SHARE * eps, steps=steps, random_start=random_start)
    return model, lambda x, y: attack.run(wrapped, x, foolbox.criteria.Misclassification(y), epsilon=eps)


def apgd(model: nn.Module, eps: float, steps: int) -> tuple[nn.Module, Attack]:
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(model, n_iter=steps, eps=eps, device=next(model.parameters()).device)
    return model, attack.perturb


def contestants(model: nn.Module, eps: float, steps: int) -> dict[tuple[str, str], tuple[nn.Module, Attack]]:
    """{(name, precision): (the module whose gradients are counted, the attack)}."""
    fast, faster = attacks.prepared(model), attacks.prepared(model, "bfloat16")
    found = {
        ("rtalib", "float32"): ours(model, eps, steps),
        ("rtalib, prepared", "float32"): ours(fast, eps, steps),
        ("rtalib, prepared", "bfloat16"): ours(faster, eps, steps),
        ("rtalib, stop on success", "float32"): ours(model, eps, steps, stop_on_success=True),
        ("rtalib, prepared, stop on success", "bfloat16"): ours(faster, eps, steps, stop_on_success=True),
    }
    if importlib.util.find_spec("torchattacks"):
        found["torchattacks", "float32"] = torchattacks_pgd(model, eps, steps)
        found["torchattacks", "bfloat16"] = torchattacks_pgd(Autocast(model).eval(), eps, steps)
    if importlib.util.find_spec("foolbox"):
        found["foolbox", "float32"] = foolbox_pgd(model, eps, steps)
    if importlib.util.find_spec("pyautoattack"):
        found["pyautoattack, APGD-CE", "float32"] = apgd(model, eps, steps)
    return found


class StockResNet18(models.Classifier):
    """torchvision's ResNet-18 as it comes, made for larger images: its stem makes a 32x32 image 8x8 at once."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = torchvision.models.resnet18(num_classes=num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.normalize(x))


def build(name: str, num_classes: int = 10) -> nn.Module:
    """'resnet18_stock', or any name that models.build knows."""
    return StockResNet18(num_classes) if name == "resnet18_stock" else models.build(name, num_classes)


def trained(name: str, arguments: argparse.Namespace) -> nn.Module:
    """The network after some epochs; deterministic on one machine, and kept in the store."""
    data = load_dataset(arguments.data, "train", limit=arguments.train)
    recipe = replace(training.RECIPES["fast"].scaled(arguments.epochs), lr=0.02)
    network, _ = trained_network(
        lambda: build(name, data.num_classes),
        lambda: data,
        recipe,
        parameters={"model": name, "data": data.digest},
        seed=0,
        label=f"benchmark-{name}",
    )
    return network.to(device=arguments.device, memory_format=torch.contiguous_format)  # as peers get it: prepared() chooses its own


def solved(model: nn.Module, arguments: argparse.Namespace) -> tuple[Tensor, Tensor, float]:
    """(float images, labels, accuracy): up to `--images` test images that the model gets right, and how many it gets right."""
    test = load_dataset(arguments.data, "test", limit=2 * arguments.images)
    right = training.predict(model, test.images).argmax(1) == test.hard_labels
    accuracy = right.double().mean().item()
    batch = max(map(int, arguments.batches.split(",")))
    if accuracy < 0.5 or right.sum() < batch:
        raise SystemExit(
            f"the network is right on {accuracy:.0%} of the test images: too few to attack; raise --train, --epochs or --images"
        )
    chosen = test.subset(right.nonzero().squeeze(1)[: arguments.images])
    return (chosen.images.float() / 255).to(arguments.device), chosen.hard_labels.to(arguments.device), accuracy


def gradients(module: nn.Module, run: Callable[[], object]) -> int:
    """How many images go through `module` with a gradient to them."""
    count = 0

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal count
        count += len(inputs[0]) if inputs[0].requires_grad else 0

    hook = module.register_forward_pre_hook(note)
    run()
    hook.remove()
    return count


def success(model: nn.Module, attack: Attack, images: Tensor, labels: Tensor, batch: int) -> float:
    wrong = 0
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        found = attack(x, y)
        with torch.no_grad():
            wrong += int((model(found).argmax(1) != y).sum())
    return wrong / len(labels)


def measure(name: str, batch: int, model: nn.Module, images: Tensor, labels: Tensor, arguments: argparse.Namespace) -> list[dict]:
    device, x, y = arguments.device, images[:batch], labels[:batch]
    runs = contestants(model, 8 / 255, arguments.steps)
    counts = {who: gradients(module, lambda attack=attack: attack(x, y)) for who, (module, attack) in runs.items()}  # also the warm-up
    racing = {who: lambda attack=attack: attack(x, y) for who, (_, attack) in runs.items()}
    times, load = timing.alternate(racing, arguments.rounds, device, f"{name} batch {batch}")
    rows = []
    for who, found in times.items():
        seconds, wall = timing.median(found), timing.median(found, "wall")
        rates = {"gradients_per_second": counts[who] / seconds, "images_per_second": batch / seconds, "seconds": seconds}
        facts = {"network": name, "batch": batch, "rounds": arguments.rounds, "clock": timing.clock(device)}
        cell = dict(zip(("contestant", "precision"), who, strict=True)) | {"gradients_per_image": counts[who] / batch, "wall_seconds": wall}
        rows.append(facts | cell | rates | {"load": load})
    return ratios(rows)


def ratios(rows: list[dict]) -> list[dict]:
    """Each row with how many times as many images a second it attacks as the peers do."""
    speed = {(row["contestant"], row["precision"]): row["images_per_second"] for row in rows}
    for row in rows:
        peers = {
            "over_torchattacks": ("torchattacks", "float32"),
            "over_same_precision": ("torchattacks", row["precision"]),
            "over_foolbox": ("foolbox", "float32"),
        }
        row |= {field: row["images_per_second"] / speed[peer] for field, peer in peers.items() if peer in speed}
    return rows


def add_success(rows: list[dict], model: nn.Module, images: Tensor, labels: Tensor, arguments: argparse.Namespace) -> None:
    """Success does not depend on the batch, so it is measured once per network, and written to all of its rows."""
    for radius_field, field, radius in (("eps", "success", 8 / 255), ("small_eps", "success_small", arguments.small_eps / 255)):
        runs = contestants(model, radius, arguments.steps)
        found = {who: success(model, attack, images, labels, 64) for who, (_, attack) in runs.items()}
        for row in rows:
            row |= {field: found[row["contestant"], row["precision"]], radius_field: radius}


def markdown(rows: list[dict]) -> str:
    head = ("network", "batch", "contestant", "precision", "gradients/s", "images/s", "x torchattacks", "x same precision", "x foolbox")
    head += ("success, 8/255", "success, small eps")
    lines = [f"| {' | '.join(head)} |", "| --- | ---: | --- | --- |" + " ---: |" * 7]
    for row in rows:
        numbers = [f"{row['gradients_per_second']:,.1f}", f"{row['images_per_second']:,.1f}"]
        numbers += [f"{row[field]:.2f}" if field in row else "" for field in ("over_torchattacks", "over_same_precision", "over_foolbox")]
        numbers += [f"{row[field]:.1%}" for field in ("success", "success_small")]
        cells = [row["network"], str(row["batch"]), row["contestant"], row["precision"], *numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet18,convnet", help="resnet18_stock, and any names that models.build knows")
    parser.add_argument("--batches", default="16,64")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--small-eps", type=float, default=2.0, help="grey levels of the second radius, at which success is compared")
    parser.add_argument("--data", default="shapes10", help="any name that load_dataset reads")
    parser.add_argument("--train", type=int, default=2000, help="training images")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=256, help="attacked test images, over which success is counted")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/attacks.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = []
    for name in arguments.networks.split(","):
        model = trained(name, arguments)
        images, labels, accuracy = solved(model, arguments)
        found = [row for batch in map(int, arguments.batches.split(",")) for row in measure(name, batch, model, images, labels, arguments)]
        add_success(found, model, images, labels, arguments)
        rows += [row | {"clean_accuracy": accuracy, "success_images": len(labels)} for row in found]
        print(f"{name}: right on {accuracy:.1%} of the test images", file=sys.stderr, flush=True)
    stamp = provenance.stamp()
    facts = {"data": arguments.data, "steps": arguments.steps, "torch": torch.__version__}
    peers = [name for name in ("torchattacks", "foolbox", "pyautoattack") if importlib.util.find_spec(name)]
    facts |= {"peers": " ".join(f"{name}=={importlib.metadata.version(name)}" for name in peers)}
    facts |= {key: stamp[key] for key in ("cpu", "gpu", "threads", "git", "time")}
    results.write(arguments.out, rows, FIELDS, facts)
    print(markdown(rows), f"\n{arguments.out}")


if __name__ == "__main__":
    main()
