"""The core-failure set to look at: failures and training images on a plane, what a rule picks among them, and how well the picks cover."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from torch import Tensor

from rtalib.array_figures import show_pixels
from rtalib.coreset import covering_radii, farthest, k_center_greedy, random_selection
from rtalib.data import LabeledImages
from rtalib.errors import unknown
from rtalib.plot_style import BLUE, GREEN, GREY, ORANGE, PAGE, PALE, PALE_BLUE, RED, Drawing, figure, use_style
from rtalib.widgets import around

if TYPE_CHECKING:
    from ipywidgets import VBox

RULES = {"k-center": BLUE, "farthest": ORANGE, "random": GREEN, "to the letter": GREY}
SHOWN = 10  # picks with a number on the map and a picture below it


@dataclass(frozen=True, eq=False)
class CoreMap:
    """Failures, what each rule of RULES picks among them, and the plane on which they are drawn.

    notes: a line for each failure. places (N,2), background (M,2): failures and training images on the two principal axes, which hold the
    share `variance` of all variance. picks: by rule, int64 in order; 'to the letter' has one. radii: by rule, of 0, 1, ... picks.
    """

    failures: LabeledImages
    notes: tuple[str, ...]
    places: Tensor
    background: Tensor
    variance: float
    picks: dict[str, Tensor]
    radii: dict[str, Tensor]

    @property
    def budget(self) -> int:
        """The most picks that there are of a rule."""
        return len(self.picks["k-center"])


def core_map(failures: LabeledImages, notes: Sequence[str], candidates: Tensor, centers: Tensor, budget: int, seed: int = 0) -> CoreMap:
    """Every rule's picks up to `budget`, smaller budgets being prefixes, on features of failures (N,D) and of training images (M,D).

    seed: of the random rule. Raises ValueError as `k_center_greedy` does, and for notes or features that are not one for each failure.
    """
    for name, count in (("notes", len(notes)), ("candidates", len(candidates))):
        if count != len(failures):
            raise ValueError(f"{name}: expected {len(failures)}, one for each failure, got {count}")
    picks = {
        "k-center": k_center_greedy(candidates, centers, budget),
        "farthest": farthest(candidates, centers, budget),
        "random": random_selection(len(candidates), budget, seed),
    }
    picks["to the letter"] = picks["farthest"][:1]
    radii = {rule: covering_radii(candidates, centers, chosen) for rule, chosen in picks.items()}
    radii["to the letter"] = torch.cat([radii["to the letter"], radii["to the letter"][-1:].expand(budget - 1)])
    (places, background), variance = principal_plane(candidates, centers)
    return CoreMap(failures, tuple(notes), places, background, variance, picks, radii)


def principal_plane(*sets: Tensor) -> tuple[list[Tensor], float]:
    """Each set of features (N,D) on the two principal axes of all of them, (N,2), and the share of the variance that these hold."""
    rows = torch.cat(sets).double()
    rows = rows - rows.mean(dim=0)
    sizes, axes = torch.linalg.eigh(rows.T @ rows)
    axes = axes[:, [-1, -2]]
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0)[None]).sign()  # eigenvectors have either sign: the largest entry is positive
    share = float(sizes[-2:].sum() / sizes.sum().clamp(min=1e-300))
    return list((rows @ axes).float().split([len(part) for part in sets])), share


def core_view(found: CoreMap, rule: str = "k-center", budget: int = SHOWN) -> Drawing:
    """The map with the first `budget` picks of a rule, the covering radius of every rule against the budget, the first picks' pictures.

    Raises ValueError for a rule not in RULES, or a budget that is not 1 to found.budget.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if not 1 <= budget <= found.budget:
        raise ValueError(f"budget: expected 1 to {found.budget}, got {budget}")
    chosen = found.picks[rule][:budget]
    with use_style():
        drawing = figure(PAGE, 4.7)
        upper, lower = drawing.subfigures(2, 1, height_ratios=(3.4, 1))
        plane, curves = upper.subplots(1, 2, width_ratios=(3, 2))
        _map(plane, found, rule, chosen)
        _curves(curves, found, rule, budget)
        for number, axes in enumerate(lower.subplots(1, SHOWN)):
            axes.axis("off")
            if number < len(chosen):
                pick = int(chosen[number])
                show_pixels(axes, found.failures.images[pick].cpu().numpy())
                axes.set_title(f"{number + 1}", fontsize=7)
                axes.text(0.5, -0.08, found.notes[pick], transform=axes.transAxes, ha="center", va="top", fontsize=5.5)
    radius = float(found.radii[rule][budget])
    label = (
        f"{len(chosen)} of {len(found.failures)} failures chosen by the rule {rule} with a budget of {budget}; covering radius {radius:.3g}"
    )
    drawing.set_label(label)
    return drawing


def _map(axes: Axes, found: CoreMap, rule: str, chosen: Tensor) -> None:
    axes.scatter(*found.background.T, s=3, color=PALE, linewidths=0, label="training images, centres from the start", rasterized=True)
    axes.scatter(*found.places.T, s=6, color=PALE_BLUE, linewidths=0, label="failures", rasterized=True)
    axes.scatter(*found.places[chosen].T, s=16, color=RED, edgecolors="white", linewidths=0.4, label=f"chosen: {len(chosen)}", zorder=3)
    for number, (x, y) in enumerate(found.places[chosen[:SHOWN]].tolist(), 1):
        axes.annotate(str(number), (x, y), xytext=(2.5, 2.5), textcoords="offset points", fontsize=7, weight="bold", color=RED, zorder=4)
    axes.set(xticks=[], yticks=[], title=f"{rule[0].upper()}{rule[1:]}", xlabel=f"two principal axes, {found.variance:.0%} of the variance")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, handletextpad=0.2, columnspacing=1)


def _curves(axes: Axes, found: CoreMap, rule: str, budget: int) -> None:
    for name, colour in RULES.items():
        strong = name == rule
        axes.plot(
            found.radii[name], color=colour, linewidth=2 if strong else 1, linestyle="--" if name == "to the letter" else "-", label=name
        )
    axes.plot([budget], [found.radii[rule][budget]], "o", color=RULES[rule], markersize=5)
    axes.set(xlabel="budget", xlim=(0, found.budget), ylim=(0, None), title="Covering radius")
    axes.legend(loc="lower left")


def explore_core(found: CoreMap) -> "VBox":
    """Controls for rule and budget around `core_view`."""
    from ipywidgets import Dropdown, IntSlider

    return around(
        lambda rule, budget: core_view(found, rule, budget),
        rule=Dropdown(options=list(RULES), description="rule"),
        budget=IntSlider(min(SHOWN, found.budget), 1, found.budget, description="budget", continuous_update=False),
    )


def compare_rules(found: CoreMap, groups: Tensor, budget: int) -> list[dict]:
    """A row for each rule: different examples among `budget` picks, different `groups` (N,) (base images, say), covering radius."""
    rows = []
    for rule, picks in found.picks.items():
        chosen = picks[:budget]
        facts = {"examples": len(chosen.unique()), "groups": len(groups[chosen].unique())}
        rows.append({"rule": rule, "budget": budget, **facts, "radius": float(found.radii[rule][budget])})
    return rows
