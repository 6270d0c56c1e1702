"""Pure functions from arrays to figures: contact sheets, weights of operations, which points a selection chose."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rtalib.plot_style import BLACK, BLUE, COLUMN, ORANGE, PALE, RED, Drawing, figure, use_style


def heat(axes: Axes, shades: np.ndarray, texts: list[list[str]], *, bold: np.ndarray | None = None) -> None:
    """Cells shaded white to blue by `shades` in [0,1], each with its text."""
    axes.imshow(0.08 + 0.72 * shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            weight = "bold" if bold is not None and bold[j] == i else "normal"
            axes.text(j, i, text, ha="center", va="center", fontsize=6.5, weight=weight, color="white" if shades[i, j] > 0.72 else BLACK)
    axes.set_xticks(np.arange(shades.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(shades.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.4)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def alpha_heatmap(
    weights: np.ndarray, ops: Sequence[str], *, edges: Sequence[str] | None = None, title: str = "Operation weights"
) -> Drawing:
    """Weights (E,K) in [0,1] of K operations on E edges, as cells; the greatest of each edge has a frame."""
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 2 or weights.shape[1] != len(ops):
        raise ValueError(f"weights: expected shape (edges, {len(ops)}) for {len(ops)} ops, got {weights.shape}")
    edges = list(edges or (str(i) for i in range(len(weights))))
    with use_style():
        drawing = figure(COLUMN * 1.35, 0.2 * len(weights) + 1.0)
        axes = drawing.subplots()
        heat(axes, weights / max(weights.max(), 1e-12), [[f"{value:.2f}".lstrip("0") for value in line] for line in weights])
        for edge, op in enumerate(weights.argmax(axis=1)):
            axes.add_patch(Rectangle((op - 0.5, edge - 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=1.3, zorder=3))
        axes.set(yticks=range(len(edges)), yticklabels=edges, ylabel="edge", title=title)
        axes.set_xticks(range(len(ops)), [op.replace("_", " ") for op in ops], rotation=40, ha="right", rotation_mode="anchor")
    return drawing


def image_grid(
    images: np.ndarray, titles: Sequence[str] | None = None, *, columns: int = 8, size: float = 0.85, title: str | None = None
) -> Drawing:
    """Contact sheet of uint8 images (N,3,H,W) (tensor on the CPU or array), `size` inches each, pixels kept square and sharp."""
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] != 3 or not len(array):
        raise ValueError(f"images: expected uint8 (N,3,H,W) with N > 0, got {array.dtype} {array.shape}")
    if titles is not None and len(titles) != len(array):
        raise ValueError(f"titles: got {len(titles)} for {len(array)} images, expected one each")
    columns = min(columns, len(array))
    lines = -(-len(array) // columns)
    with use_style():
        drawing = figure(columns * size, lines * (size + (0.18 if titles else 0)) + (0.3 if title else 0))
        drawing.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
        panels = drawing.subplots(lines, columns, squeeze=False)
        for axes in panels.flat:
            axes.axis("off")
        for i, (axes, image) in enumerate(zip(panels.flat, array, strict=False)):
            axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
            if titles is not None:
                axes.set_title(titles[i], fontsize=6, weight="normal", loc="center", pad=2)
        if title:
            drawing.suptitle(title, fontsize=8.5, weight="bold", x=0.01, ha="left")
    return drawing


def selection_map(
    fixed: np.ndarray, candidates: np.ndarray, chosen: Sequence[int], *, names: Sequence[str] = ("training", "failing")
) -> Drawing:
    """Which candidates a selection chose, and in which order: fixed centres (M,D), candidates (N,D), indices into the candidates.

    D > 2 is projected on the two directions of greatest variance of all points together (principal components).
    """
    fixed, candidates, chosen = np.asarray(fixed, float), np.asarray(candidates, float), np.asarray(chosen, int)
    if fixed.ndim != 2 or candidates.ndim != 2 or fixed.shape[1] != candidates.shape[1] or candidates.shape[1] < 2:
        raise ValueError(f"candidates: expected (N,D) beside fixed (M,D) with D >= 2, got {candidates.shape} and {fixed.shape}")
    everything = np.concatenate([fixed, candidates])
    if everything.shape[1] > 2:
        centred = everything - everything.mean(axis=0)
        everything = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    fixed, candidates = everything[: len(fixed)], everything[len(fixed) :]
    with use_style():
        drawing = figure(COLUMN * 1.25, COLUMN * 1.25)
        axes = drawing.subplots()
        axes.scatter(*fixed.T, s=9, color="#B0B0B0", linewidths=0, label=names[0])
        axes.scatter(*candidates.T, s=13, color=ORANGE, alpha=0.65, linewidths=0, label=names[1])
        axes.scatter(*candidates[chosen].T, s=75, color=BLUE, edgecolors="white", linewidths=0.6, label="selected, in this order", zorder=3)
        for place, point in enumerate(candidates[chosen], start=1):
            axes.text(*point, str(place), ha="center", va="center_baseline", fontsize=5.5, color="white", zorder=4)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set(visible=True, color=PALE)
        drawing.legend(loc="outside upper center", ncols=3, handletextpad=0.1, columnspacing=1.0)
    return drawing
