"""AutoAttack (Croce and Hein 2020, package pyautoattack) against what `python -m rtalib sources` claims of each robust source.

    python benchmarks/autoattack.py [--scale demo] [--dataset shapes10] [--sources pgd_at,awp] [--attacks apgd-ce,apgd-t] [--out FILE]

The claim is the accuracy under all our attacks of source_study.ATTACKS together (at most 22 gradients each). AutoAttack sees the same test
images. Where it leaves less than the claim by more than 3 points, the line says so: such a source is weaker than our table shows. Sources
are found in the store, or trained.
"""

import argparse
import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from rtalib import attacks, load_dataset, provenance, scales
from rtalib.experiments.rta import source_study
from rtalib.sources.cards import SOURCES

ALLOWED = 3.0  # points
CLEAN = ("clean_resnet50", "clean_wideresnet")


def autoattack(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, names: list[str]) -> torch.Tensor:
    """bool (N,): which images AutoAttack, or the named parts of it, fools at 8/255 in L-infinity."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(network, attacks=names, device=x.device, eps=attacks.EPS, norm="Linf", seed=0, version="custom")
    attack.apgd.n_restarts = 1  # as version 'standard' has it
    found = attack.run_standard_evaluation(x, y, batch_size=len(x))
    found = found[0] if isinstance(found, tuple) else found
    with torch.no_grad():
        return network(found).argmax(1) != y


def row(name: str, arguments: argparse.Namespace, setup: scales.RtaScale) -> dict:
    network, entry = source_study.source_network(name, arguments.dataset, setup)
    test = load_dataset(arguments.dataset, "test", limit=setup.evaluated)
    ours = torch.stack([attacks.attack(recipe, network, test).success for recipe in source_study.ATTACKS.values()]).any(0)
    started = time.process_time()
    theirs = autoattack(network, test.images.float() / 255, test.hard_labels, arguments.attacks.split(","))
    claim, found = (100 * (~fooled).double().mean().item() for fooled in (ours, theirs))
    return {
        **{"source": name, "claim": claim, "autoattack": found, "gap": claim - found, "warn": claim - found > ALLOWED},
        **{"only_autoattack": int((theirs & ~ours).sum()), "only_ours": int((ours & ~theirs).sum()), "n": len(test)},
        **{"cpu_seconds": round(time.process_time() - started, 1), "network": entry.key},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="demo")
    parser.add_argument("--dataset", default="shapes10")
    parser.add_argument("--sources", default=",".join(name for name in SOURCES if name not in CLEAN))
    parser.add_argument("--attacks", default="apgd-ce,apgd-t", help="parts of AutoAttack; all: apgd-ce,apgd-t,fab-t,square")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/autoattack.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setup = replace(scales.get(arguments.scale).rta, sources=tuple(SOURCES))
    stamp = provenance.stamp()
    facts = {"scale": arguments.scale, "dataset": arguments.dataset, "attacks": arguments.attacks}
    facts |= {key: stamp[key] for key in ("torch", "git", "time") if key in stamp}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in arguments.sources.split(","):
        rows.append(row(name, arguments, setup))
        found = rows[-1]
        remark = f"WARNING: AutoAttack finds more than {ALLOWED:g} points below the claim" if found["warn"] else ""
        print(
            f"{name:20} claim {found['claim']:5.1f}  AutoAttack {found['autoattack']:5.1f}  gap {found['gap']:4.1f}  {remark}", flush=True
        )
        with arguments.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*found, *facts], lineterminator="\n")
            writer.writeheader()
            writer.writerows(line | facts for line in rows)


if __name__ == "__main__":
    main()
