"""From a control to the new picture: every explorer of the notebooks, in a real JupyterLab and a real browser, on a finished run.

    OMP_NUM_THREADS=1 python benchmarks/explorers.py [--scale demo] [--only 01,11] [--images docs/images]

Opens the notebooks as they are and runs all their cells, so the run of that scale should lie in $RTALIB_OUTPUTS, or each waits until its
part is made. Then every control takes another value by keyboard, a few times, and the page itself measures from the event that changes the
value to the frame that shows the new picture. `cpu_ms` is the CPU time that a change costs the notebook's kernel, whatever else the machine
does.
--images also takes the README's pictures.
"""

import argparse
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil
from playwright import sync_api

from benchmarks import results
from rtalib import provenance, store
from tests.helpers import lab

FIELDS = "notebook explorer control first_ms median_ms slowest_ms cpu_ms changes empty_frames load".split()
EXPLORERS = re.compile(r"(?<=\.)explore_\w+(?=\()")
CHANGES = 6  # of each control
SHARP = 4 / 3  # the pixels of a view for one of the page: nothing is resampled
LONG = 1800  # seconds that the cells of a notebook may take
NAME = "element => element.closest('.jupyter-widgets').querySelector('.widget-label').textContent"


def explorers() -> dict[str, list[str]]:
    """{notebook: the functions that open its explorers}, of those that have some."""
    found = {path.stem: EXPLORERS.findall(path.read_text()) for path in sorted((lab.ROOT / "notebooks").glob("*.ipynb"))}
    return {name: functions for name, functions in found.items() if functions}


def measure(page: lab.Page, explorer) -> Iterator[dict]:
    """A row for each control, the last one first: the first ones narrow what the last ones can show."""
    explorer.scroll_into_view_if_needed()
    for control in reversed(page.movable(explorer)):
        yield {"control": control.evaluate(NAME), **summary(page, explorer, [lambda control=control: page.press(control)] * CHANGES)}


def summary(page: lab.Page, explorer, acts: list[Callable[[], None]]) -> dict:
    before = spent()
    changes = [page.after(explorer, act) for act in acts]
    cost = round(1000 * (spent() - before) / len(acts))
    first, *later = (round(1000 * change.seconds) for change in changes)
    times = {"first_ms": first, "median_ms": round(statistics.median(later)), "slowest_ms": max(first, *later)}
    return times | {
        "cpu_ms": cost,
        "changes": len(changes),
        "empty_frames": sum(change.gaps for change in changes),
        "load": round(os.getloadavg()[0], 1),
    }


def spent() -> float:
    """CPU seconds of the kernel that was started last."""
    kernels = [child for child in psutil.Process().children(recursive=True) if "ipykernel_launcher" in child.cmdline()]
    times = max(kernels, key=lambda kernel: kernel.create_time()).cpu_times()
    return times.user + times.system


# ---------------------------------------------------------------------------------------------------------- the pictures


def corrupted(page: lab.Page, explorer) -> None:
    choose(page, explorer, "type", "glass blur")


def attacked(page: lab.Page, explorer) -> None:
    choose(page, explorer, "attack", "ODI-PGD")


def clicked(page: lab.Page, explorer) -> None:
    page.after(explorer, explorer.locator("button[title^='failure ']").nth(20).click)


def refined(page: lab.Page, explorer) -> None:
    choose(page, explorer, "first", "Org. DNN")
    choose(page, explorer, "second", "CF-DARTS")


def choose(page: lab.Page, explorer, name: str, label: str) -> None:
    menu = explorer.get_by_label(name, exact=True)
    if menu.evaluate("menu => menu.selectedOptions[0].label") != label:
        page.after(explorer, lambda: menu.select_option(label=label))


PICTURES: dict[str, tuple[str, Callable]] = {
    "explore_corruptions": ("corruptions", corrupted),
    "explore_attacks": ("attacks", attacked),
    "explore_core": ("core-failures", clicked),
    "explore_cells": ("cells", refined),
}


def take(page: lab.Page, function: str, explorer, folder: Path) -> None:
    """The README's picture of an explorer, if it has one."""
    if function in PICTURES:
        name, prepare = PICTURES[function]
        explorer.scroll_into_view_if_needed()
        prepare(page, explorer)
        folder.mkdir(parents=True, exist_ok=True)
        explorer.screenshot(path=folder / f"{name}.png")


def markdown(rows: list[dict]) -> str:
    """A line for each explorer: the range over its controls."""
    lines = ["| notebook | explorer | controls | first, ms | median, ms | slowest, ms | CPU, ms |", "| --- | --- |" + " ---: |" * 5]
    for key in dict.fromkeys((row["notebook"], row["explorer"]) for row in rows):
        found = [row for row in rows if (row["notebook"], row["explorer"]) == key]
        ranges = [sorted({row[name] for row in found}) for name in ("first_ms", "median_ms", "slowest_ms", "cpu_ms")]
        figures = " | ".join(" to ".join(map(str, dict.fromkeys((each[0], each[-1])))) for each in ranges)
        lines.append(f"| {key[0][:2]} | `{key[1]}` | {len(found)} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="demo")
    parser.add_argument("--only", default="", help="numbers of notebooks, say 01,11; default all that have explorers")
    parser.add_argument("--images", type=Path, help="take the README's pictures there too")
    parser.add_argument("--out", type=Path, default=lab.ROOT / "outputs" / "record" / "benchmarks" / "explorers.csv")
    args = parser.parse_args()
    chosen = {name: found for name, found in explorers().items() if not args.only or name[:2] in args.only.split(",")}
    folder, rows = Path(tempfile.mkdtemp()), []
    for name in chosen:
        source = (lab.ROOT / "notebooks" / f"{name}.ipynb").read_text()
        (folder / f"{name}.ipynb").write_text(source.replace('scale = \\"demo\\"', f'scale = \\"{args.scale}\\"'))
    with lab.server(folder, store.outputs()) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=lab.CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1300}, device_scale_factor=SHARP)
        for name, functions in chosen.items():
            page = lab.Page(tab, address, f"{name}.ipynb", seconds=LONG)
            for i, function in enumerate(functions):
                explorer = page.explorers().nth(i)
                if args.images:
                    take(page, function, explorer, args.images)
                for row in measure(page, explorer):
                    rows.append({"notebook": name, "explorer": function, **row})
                    print(rows[-1], flush=True)
            page.close()
            save(args, rows)
        browser.close()
    shutil.rmtree(folder)
    save(args, rows)
    print(markdown(rows))


def save(args: argparse.Namespace, rows: list[dict]) -> None:
    stamp = provenance.stamp()
    facts = {"scale": args.scale} | {key: stamp[key] for key in ("cpu", "cores", "git", "dirty", "time")}
    results.write(args.out, rows, FIELDS, facts)


if __name__ == "__main__":
    main()
