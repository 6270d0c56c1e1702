"""The core-failure set to look at: failures and training images on a plane, what a rule picks among them, and how well the picks cover."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from torch import Tensor

from rtalib.coreset.selection import covering_radii, farthest, k_center_greedy, random_selection
from rtalib.data.images import LabeledImages
from rtalib.errors import unknown
from rtalib.results.figures.arrays import show_pixels
from rtalib.results.figures.style import BLACK, BLUE, GREEN, ORANGE, PAGE, PALE, PALE_BLUE, RED, Drawing, figure, place, use_style
from rtalib.widgets.base import LEGIBLE, SCREEN, around

if TYPE_CHECKING:
    from ipywidgets import BoundedIntText, Button, VBox

RULES = {"k-center": BLUE, "farthest": ORANGE, "random": GREEN, "to the letter": BLACK}
SHOWN = 10  # picks with a number on the map and a picture below it
HEIGHT = 4.85  # of the view, and
MAP = (0.05, 1.55, 4.35, 3.1)  # the left, lower, wide and high of its map, in inches
POINT = 0.1  # side of what can be clicked, in inches; about twice what is drawn


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


def core_view(found: CoreMap, rule: str = "k-center", budget: int = SHOWN, failure: int | None = None) -> Drawing:
    """The map with the first `budget` picks of a rule, the covering radius of every rule against the budget, and pictures.

    Below are those of the first picks; beside the map that of one failure, ringed on the map, default the first pick.
    Raises ValueError for a rule not in RULES, a budget that is not 1 to found.budget, or a failure that there is not.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if not 1 <= budget <= found.budget:
        raise ValueError(f"budget: expected 1 to {found.budget}, got {budget}")
    chosen = found.picks[rule][:budget]
    failure = int(chosen[0]) if failure is None else failure
    if not 0 <= failure < len(found.failures):
        raise ValueError(f"failure: expected 0 to {len(found.failures) - 1}, got {failure}")
    with use_style():
        drawing = figure(PAGE, HEIGHT, layout=None)
        _map(place(drawing, *MAP), found, rule, chosen, failure)
        _curves(place(drawing, 4.75, 3.1, 2.25, 1.55), found, rule, budget)
        words = _looked_at(drawing, found, chosen, failure)
        for number, pick in enumerate(chosen[:SHOWN].tolist()):
            axes = place(drawing, 0.05 + 0.705 * number, 0.32, 0.65, 0.65)
            _picture(axes, found, pick, f"{number + 1}")
    radius = float(found.radii[rule][budget])
    facts = f"{len(chosen)} of {len(found.failures)} failures chosen by the rule {rule} with a budget of {budget}"
    drawing.set_label(f"{facts}; covering radius {radius:.3g}. {words}")
    return drawing


def _picture(axes: Axes, found: CoreMap, failure: int, title: str) -> None:
    show_pixels(axes, found.failures.images[failure].cpu().numpy())
    axes.set_title(title, fontsize=7, pad=2)
    axes.text(0.5, -0.05, found.notes[failure], transform=axes.transAxes, ha="center", va="top", fontsize=5.5)


def _looked_at(drawing: Drawing, found: CoreMap, chosen: Tensor, failure: int) -> str:
    """One failure's picture and what it is; returns that in words."""
    axes = place(drawing, 4.75, 1.3, 1.25, 1.25)
    show_pixels(axes, found.failures.images[failure].cpu().numpy())
    order = (chosen == failure).nonzero().flatten().tolist()
    state = f"pick {order[0] + 1}" if order else "not chosen"
    drawing.text(6.1 / PAGE, 2.55 / HEIGHT, f"failure {failure}\n\n{found.notes[failure]}\n\n{state}", va="top", fontsize=7)
    return f"Failure {failure}, {found.notes[failure].replace(chr(10), ' ')}: {state}"


def _map(axes: Axes, found: CoreMap, rule: str, chosen: Tensor, failure: int) -> None:
    axes.scatter(*found.background.T, s=3, color=PALE, linewidths=0, label="training images, centers from the start", rasterized=True)
    axes.scatter(*found.places.T, s=6, color=PALE_BLUE, linewidths=0, label="failures", rasterized=True)
    axes.scatter(*found.places[chosen].T, s=16, color=RED, edgecolors="white", linewidths=0.4, label=f"chosen: {len(chosen)}", zorder=3)
    axes.scatter(*found.places[failure], s=60, color="none", edgecolors=BLACK, linewidths=1.2, zorder=5)
    for number, (x, y) in enumerate(found.places[chosen[:SHOWN]].tolist(), 1):
        axes.annotate(str(number), (x, y), xytext=(2.5, 2.5), textcoords="offset points", fontsize=7, weight="bold", color=RED, zorder=4)
    low, high = (corner.tolist() for corner in limits(found))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[], title=f"{rule[0].upper()}{rule[1:]}")
    axes.set_xlabel(f"two principal axes, {found.variance:.0%} of the variance", labelpad=2)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.05), ncols=3, handletextpad=0.2, columnspacing=1, borderaxespad=0)


def limits(found: CoreMap) -> tuple[Tensor, Tensor]:
    """The lower left and the upper right corner of the map."""
    every = torch.cat([found.places, found.background])
    low, high = every.amin(0), every.amax(0)
    margin = 0.04 * (high - low).clamp(min=1e-6)
    return low - margin, high + margin


def _curves(axes: Axes, found: CoreMap, rule: str, budget: int) -> None:
    for name, colour in RULES.items():
        strong = name == rule
        axes.plot(
            found.radii[name], color=colour, linewidth=2 if strong else 1, linestyle="--" if name == "to the letter" else "-", label=name
        )
    axes.plot([budget], [found.radii[rule][budget]], "o", color=RULES[rule], markersize=5)
    axes.set(xlabel="budget", xlim=(0, found.budget), ylim=(0, None), title="Covering radius")
    axes.legend(loc="lower left")


def explore_core(found: CoreMap, **start: object) -> "VBox":
    """Controls for rule, budget and failure around `core_view`; a click on the map looks at the failure there. start: their first values.

    The points that can be clicked are buttons of ipywidgets without a face, laid over the picture. By keyboard there is the number.
    """
    from ipywidgets import BoundedIntText, Dropdown, GridBox, IntSlider, Layout

    first, count = int(found.picks["k-center"][0]), len(found.failures)
    number = BoundedIntText(start.get("failure", first), 0, count - 1, description=f"failure, 0 to {count - 1}")
    budget = start.get("budget", min(SHOWN, found.budget))
    box = around(
        lambda rule, budget, failure: core_view(found, rule, budget, failure),
        {
            "rule": Dropdown(options=list(RULES), value=start.get("rule", "k-center"), description="rule"),
            "budget": IntSlider(budget, 1, found.budget, description="budget"),
            "failure": number,
        },
        name="core-failures",
        code="widgets.explore_core(found, rule={rule}, budget={budget}, failure={failure})\n"
        "widgets.core_view(found, {rule}, {budget}, {failure})",
    )
    controls, picture, foot = box.children
    picture.layout = Layout(grid_area="1 / 1", margin="0", width="100%")
    layout = Layout(grid_template_columns=f"minmax({LEGIBLE}px, {round(PAGE * SCREEN)}px)", align_items="flex-start")
    box.children = (controls, GridBox([picture, *_points(found, number)], layout=layout), foot)
    return box


def _points(found: CoreMap, number: "BoundedIntText") -> "list[Button]":
    """A button over every failure, of those that lie on one another the first in the order of k-center greedy, that sets the number."""
    from ipywidgets import Button, ButtonStyle, Layout

    low, high = limits(found)
    at = (found.places - low) / (high - low) * torch.tensor(MAP[2:]) + torch.tensor(MAP[:2])  # inches from the lower left
    order = torch.cat([found.picks["k-center"], torch.arange(len(at))]).tolist()
    apart = {tuple((at[k] / POINT).int().tolist()): k for k in reversed(order)}
    style, buttons = ButtonStyle(button_color="transparent"), []
    size = {"width": f"{POINT * SCREEN:.0f}px", "height": f"{POINT * SCREEN:.0f}px", "padding": "0", "grid_area": "1 / 1"}
    for k in apart.values():
        left, top = float(at[k, 0]) - POINT / 2, HEIGHT - float(at[k, 1]) - POINT / 2
        margin = f"{100 * top / PAGE:.2f}% 0 0 {100 * left / PAGE:.2f}%"  # of the width, so that the points stay where the picture shrinks
        note = f"failure {k}: {found.notes[k].replace(chr(10), ' ')}"
        button = Button(tooltip=note, tabbable=False, style=style, layout=Layout(margin=margin, **size))
        button.on_click(lambda _, k=k: setattr(number, "value", k))
        buttons.append(button)
    return buttons


def compare_rules(found: CoreMap, groups: Tensor, budget: int) -> list[dict]:
    """A row for each rule: different examples among `budget` picks, different `groups` (N,) (base images, say), covering radius."""
    rows = []
    for rule, picks in found.picks.items():
        chosen = picks[:budget]
        facts = {"examples": len(chosen.unique()), "groups": len(groups[chosen].unique())}
        rows.append({"rule": rule, "budget": budget, **facts, "radius": float(found.radii[rule][budget])})
    return rows
