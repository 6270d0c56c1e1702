"""A searched cell drawn like a circuit: every feature map is a horizontal wire, every operation a box between two wires.

Wires run left to right and drops run downward, so lines cross at right angles only and no label can cover another.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch

from rtalib.errors import check_name
from rtalib.results.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, PALE, PINK, Drawing, figure, use_style

# Beginning of an operation's name -> color of its family.
OP_COLORS = {"sep_conv": BLUE, "dil_conv": GREEN, "max_pool": ORANGE, "avg_pool": PINK, "skip_connect": GREY, "none": PALE}
HIGHLIGHT = "#F6D9A0"  # pale orange behind black letters
BOX_WIDTH, BOX_HEIGHT, STEP, GAP = 1.35, 0.46, 1.62, 0.95


class HasCells(Protocol):
    """A genotype: per cell, a list of (operation, source); entries 2i and 2i+1 feed node i; sources 0, 1 are the cell's inputs."""

    normal: Sequence[tuple[str, int]]
    reduce: Sequence[tuple[str, int]]


def draw_cell(genotype: HasCells, *, cell: str = "both", title: str | None = None) -> Drawing:
    """The normal cell, the reduction cell, or both side by side. `cell`: "normal" | "reduce" | "both"."""
    check_name("cell", cell, ("normal", "reduce", "both"))
    names = ("normal", "reduce") if cell == "both" else (cell,)
    nodes = max(len(getattr(genotype, name)) // 2 for name in names)
    with use_style():
        width = 0.42 * (2 * STEP * nodes + GAP * nodes + 2.6)
        drawing = figure(width, 0.42 * (nodes + 2) * len(names) + 0.45 * len(names) + (0.25 if title else 0))
        if title:
            drawing.suptitle(title, fontsize=9, x=0.01, ha="left")
        for axes, name in zip(drawing.subplots(len(names), squeeze=False).flat, names, strict=True):
            circuit(axes, getattr(genotype, name), used(genotype, name))
            axes.set_title({"normal": "Normal cell", "reduce": "Reduction cell"}[name])
    return drawing


def used(genotype: HasCells, name: str) -> list[int]:
    """Feature maps that the output concatenates: the genotype's own list if it has one, else all nodes."""
    given = getattr(genotype, f"{name}_concat", None)
    return list(given) if given is not None else list(range(2, 2 + len(getattr(genotype, name)) // 2))


def circuit(axes: Axes, edges: Sequence[tuple[str, int]], output: Sequence[int], marked: Collection[int] = ()) -> None:
    """Draw a cell; the boxes of the edges at the positions `marked` are filled."""
    nodes = len(edges) // 2
    stride = 2 * STEP + GAP
    height = [-0.0, -1.0, *(-(2.0 + i) for i in range(nodes))]
    node_x = [1.0 + stride * (i + 1) - 0.55 for i in range(nodes)]
    end = 1.0 + stride * nodes + 0.35
    last = [0.9, 0.9, *node_x]
    for i in range(nodes):
        pair = sorted((2 * i, 2 * i + 1), key=lambda k: -edges[k][1])  # the drop from the farther source is nearer to the node
        for lane, k in enumerate(pair):
            op, source = edges[k]
            x = 1.0 + stride * i + STEP * lane + BOX_WIDTH / 2
            last[source] = max(last[source], x)
            _operation(axes, op, x, height[source], height[2 + i], to=node_x[i], last=lane == 1, strong=k in marked)
    for source in range(nodes + 2):
        start = 0.62 if source < 2 else node_x[source - 2]
        stop = end if source in output else last[source]
        axes.plot([start, stop], [height[source]] * 2, color=BLACK, lw=1.0, zorder=1, solid_capstyle="round")
    for i, name in enumerate(("c$_{k-2}$", "c$_{k-1}$")):
        axes.text(0.45, height[i], name, ha="right", va="center", fontsize=8)
    for i in range(nodes):
        axes.add_patch(Circle((node_x[i], height[2 + i]), 0.27, facecolor="white", edgecolor=BLACK, lw=1.0, zorder=4))
        axes.text(node_x[i], height[2 + i], str(i), ha="center", va="center", fontsize=7.5, zorder=5)
    rails = [height[source] for source in output]
    axes.plot([end, end], [max(rails) + 0.25, min(rails) - 0.25], color=BLACK, lw=3.2, solid_capstyle="butt", zorder=3)
    axes.text(end + 0.2, sum(rails) / len(rails), "c$_k$", ha="left", va="center", fontsize=8)
    axes.set(xlim=(-0.45, end + 0.85), ylim=(height[-1] - 0.45, 0.4), aspect="equal")
    axes.axis("off")


def _operation(axes: Axes, op: str, x: float, top: float, bottom: float, *, to: float, last: bool, strong: bool) -> None:
    """A drop from the wire at `top` into a box on the row `bottom`, and from there a line into the node at `to`."""
    tint = next((c for family, c in OP_COLORS.items() if op.startswith(family)), BLACK)
    axes.plot([x, x], [top, bottom + BOX_HEIGHT / 2], color=tint, lw=1.2, zorder=2)
    axes.plot([x], [top], "o", color=tint, ms=3.2, zorder=3)
    box = FancyBboxPatch(
        (x - BOX_WIDTH / 2, bottom - BOX_HEIGHT / 2), BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.12", zorder=3
    )
    box.set(facecolor=HIGHLIGHT if strong else "white", edgecolor=tint, linewidth=2.4 if strong else 1.2)
    axes.add_patch(box)
    axes.text(x, bottom, _short(op), ha="center", va="center", fontsize=6.3, color=BLACK, zorder=4)
    if last:
        axes.plot([x + BOX_WIDTH / 2, to], [bottom] * 2, color=tint, lw=1.2, zorder=1)
    else:  # under the other box, then up into the node
        low = bottom - BOX_HEIGHT / 2 - 0.13
        axes.plot([x, x, to, to], [bottom - BOX_HEIGHT / 2, low, low, bottom], color=tint, lw=1.2, zorder=1)


def _short(op: str) -> str:
    """ "sep_conv_3x3" -> "sep 3×3"; "max_pool_3x3" -> "max 3×3"; "skip_connect" -> "skip"."""
    name, _, size = op.rpartition("_")
    return f"{name.split('_')[0]} {size.replace('x', '×')}" if size[:1].isdigit() else op.removesuffix("_connect").replace("_", " ")
