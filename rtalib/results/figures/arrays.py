"""Pure functions from arrays to figures: contact sheets, weights of operations, chosen points, transfer matrices, differences."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from rtalib.results.figures.style import BLACK, BLUE, COLUMN, CYCLE, GREY, ORANGE, PAGE, PALE, RED, Drawing, figure, place, use_style

NAMES = 0.98  # inches beside a gallery for the names of its lines


def heat(axes: Axes, shades: np.ndarray, texts: list[list[str]], *, bold: np.ndarray | None = None) -> None:
    """Cells shaded white to blue by `shades` in [0,1], each with its text; empty ones are left out, for a text costs a millisecond."""
    axes.imshow(0.08 + 0.72 * shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            if not text:
                continue
            weight = "bold" if bold is not None and bold[j] == i else "normal"
            axes.text(j, i, text, ha="center", va="center", fontsize=6.5, weight=weight, color="white" if shades[i, j] > 0.72 else BLACK)
    bottom, right = shades.shape[0] - 0.5, shades.shape[1] - 0.5
    axes.hlines(np.arange(-0.5, bottom + 1), -0.5, right, color="white", linewidth=1.4, zorder=1)  # minor ticks cost ten times the time
    axes.vlines(np.arange(-0.5, right + 1), -0.5, bottom, color="white", linewidth=1.4, zorder=1)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def show_pixels(axes: Axes, image: np.ndarray) -> None:
    """An image (3,H,W), pixels square and sharp, without a frame."""
    axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    axes.axis("off")


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
            show_pixels(axes, image)
            if titles is not None:
                axes.set_title(titles[i], fontsize=6, weight="normal", loc="center", pad=2)
        if title:
            drawing.suptitle(title, fontsize=8.5, weight="bold", x=0.01, ha="left")
    return drawing


def transfer_heatmap(
    accuracy: np.ndarray, clean: Sequence[float], names: Sequence[str], *, title: str = "Accuracy in percent", foot: str = ""
) -> Drawing:
    """How networks (columns) do on what was crafted on others (lines), and above on clean images; the line's own network has a frame.

    accuracy: (N,N) percent, crafted on x attacked; clean: N percent; foot: what the numbers are of. Shaded by what is lost of the clean
    accuracy of a column.
    """
    accuracy, clean = np.asarray(accuracy, float), np.asarray(clean, float)
    if accuracy.shape != (len(names), len(names)) or clean.shape != (len(names),):
        raise ValueError(f"accuracy: expected {(len(names),) * 2} beside {len(names)} clean ones, got {accuracy.shape} and {clean.shape}")
    table = np.vstack([clean, accuracy])
    lost = ((clean - table) / np.maximum(clean, 1e-9)).clip(0, 1)  # none where there is none to lose
    with use_style():
        drawing = figure(PAGE, 0.24 * len(table) + 1.4)
        axes = drawing.subplots()
        heat(axes, lost, [[f"{value:.0f}" for value in line] for line in table])
        for i in range(len(names)):
            axes.add_patch(Rectangle((i - 0.5, i + 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=1.3, zorder=3))
        shown = [name.replace("_", " ") for name in names]
        axes.set_yticks(range(len(table)), ["clean images", *shown])
        axes.set_xticks(range(len(names)), shown, rotation=40, ha="right", rotation_mode="anchor")
        axes.set(title=f"{title}; the darker, the more of the clean accuracy is lost", ylabel="crafted on", xlabel="classified by")
        drawing.supxlabel(foot, fontsize=6, color=GREY, x=0.99, ha="right")
    return drawing


def difference_dots(differences: Mapping[str, np.ndarray], names: Sequence[str], *, axis: str, foot: str = "") -> Drawing:
    """Differences with intervals, a line per name and a colour per series: {series: (names, 3)} of value, low and high."""
    for series, found in differences.items():
        if np.shape(found) != (len(names), 3):
            raise ValueError(f"differences[{series!r}]: expected shape ({len(names)}, 3), got {np.shape(found)}")
    with use_style():
        drawing = figure(COLUMN * 1.5, 0.23 * len(names) + 1.0)
        axes = drawing.subplots()
        for k, (series, found) in enumerate(differences.items()):
            value, low, high = np.asarray(found, float).T
            places = np.arange(len(names)) + 0.3 * (k - (len(differences) - 1) / 2)
            reach = np.maximum([value - low, high - value], 0)
            axes.errorbar(value, places, xerr=reach, fmt="os^D"[k % 4], ms=3.4, color=CYCLE[k % len(CYCLE)], elinewidth=0.9, label=series)
        axes.axvline(0, color=BLACK, lw=0.6, zorder=0)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel=axis, ylim=(len(names) - 0.4, -0.6))
        axes.grid(axis="x")
        drawing.legend(loc="outside upper center", ncols=len(differences))
        drawing.supxlabel(foot, fontsize=6, color=GREY, x=0.99, ha="right")
    return drawing


def severity_gallery(clean: np.ndarray, corrupted: np.ndarray, names: Sequence[str], *, title: str | None = None) -> Drawing:
    """One image under every type at every severity: a line per type, a column per severity, above them the image itself.

    clean: uint8 (3,H,W); corrupted: uint8 (T,S,3,H,W) with severities 1 to S; names of the T types. Tensors on the CPU or arrays.
    """
    clean, corrupted = np.asarray(clean), np.asarray(corrupted)
    if corrupted.dtype != np.uint8 or corrupted.ndim != 5 or corrupted.shape[2:] != clean.shape or len(names) != len(corrupted):
        expected = f"uint8 ({len(names)},S,{','.join(map(str, clean.shape))}) for {len(names)} names and that clean image"
        raise ValueError(f"corrupted: expected {expected}, got {corrupted.dtype} {corrupted.shape}")
    types, severities, _, height, width = corrupted.shape
    down, right = height + max(1, height // 16), width + max(1, width // 16)  # a picture and the gap behind it
    sheet = np.full(((types + 1) * down, severities * right, 3), 255, np.uint8)
    sheet[:height, :width] = clean.transpose(1, 2, 0)
    for (i, j), picture in zip(np.ndindex(types, severities), corrupted.reshape(-1, *clean.shape), strict=True):
        sheet[(i + 1) * down :, j * right :][:height, :width] = picture.transpose(1, 2, 0)
    with use_style():
        wide, tall = COLUMN - NAMES, (COLUMN - NAMES) * sheet.shape[0] / sheet.shape[1]
        drawing = figure(COLUMN, tall + 0.65, layout=None)
        axes = place(drawing, NAMES, 0.4, wide, tall)
        axes.imshow(sheet, interpolation="nearest")
        axes.set_yticks(np.arange(types + 1) * down + height / 2, ["clean", *names])
        axes.set_xticks(np.arange(severities) * right + width / 2, [str(j + 1) for j in range(severities)])
        axes.set_xlabel("severity")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if title:
            drawing.suptitle(title, fontsize=8.5, weight="bold", x=0.01, y=0.995, ha="left", va="top")
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
    axis = "feature"
    if everything.shape[1] > 2:
        axis = "principal component of the features"
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
        axes.set(xticks=[], yticks=[], aspect="equal", xlabel=f"first {axis}", ylabel=f"second {axis}")
        axes.spines[:].set(visible=True, color=PALE)
        drawing.legend(loc="outside upper center", ncols=3, handletextpad=0.1, columnspacing=1.0)
    return drawing
