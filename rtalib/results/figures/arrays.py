"""Pure functions from arrays to figures: contact sheets, weights of operations, chosen points, transfer matrices, differences."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.patches import Rectangle

from rtalib.results.figures import style

DARK = 0.2  # luminance of a cell below which its text is white; seaborn's own 0.4 leaves white text on pale cells
NAMES = 0.98  # inches beside a gallery for the names of its lines


def heat(
    axes: Axes, lines: Sequence[str], columns: Sequence[str], shades: np.ndarray, texts: np.ndarray, *, bold: Sequence = (), **look: object
) -> None:
    """Cells shaded by `shades` (lines, columns), white to blue for 0 to 1, each with its text; the center of (i, j) is (j + 0.5, i + 0.5).

    texts: strings, or numbers whose format is `fmt`. Cells that are NaN stay empty. bold: the cells (i, j) with bold text. look: other
    options of seaborn.heatmap.
    """
    import seaborn
    from seaborn.utils import relative_luminance

    look = {"cmap": "Blues", "vmin": -0.1, "vmax": 1.25, "linewidths": 1.2, "fmt": "", "annot_kws": {"size": 6.5}} | look
    canvas = axes.figure.canvas
    FigureCanvasBase(axes.figure)  # draws nothing: seaborn.heatmap draws the whole figure to see whether tick labels overlap
    seaborn.heatmap(shades, annot=np.asarray(texts), cbar=False, xticklabels=False, yticklabels=False, ax=axes, **look)
    axes.figure.set_canvas(canvas)
    faces = axes.collections[0].get_facecolors().reshape(*np.shape(shades), 4)
    for text in axes.texts:
        column, line = map(int, text.get_position())
        dark = relative_luminance(faces[line, column]) < DARK
        text.set(color="white" if dark else style.BLACK, weight="bold" if (line, column) in bold else "normal")
    axes.set_yticks(np.arange(len(lines)) + 0.5, lines)
    style.slanted(axes, columns, first=0.5)
    axes.tick_params(length=0)


def frame_cell(
    axes: Axes, line: int, column: int, *, columns: int = 1, inset: float = 0, color: str = style.RED, width: float = 1.3
) -> None:
    """A frame around a cell of a heat map, or around several `columns` beside each other, `inset` cells inside their edges."""
    size = columns - 2 * inset, 1 - 2 * inset
    axes.add_patch(Rectangle((column + inset, line + inset), *size, fill=False, edgecolor=color, linewidth=width, zorder=3))


def show_pixels(axes: Axes, image: np.ndarray) -> None:
    """An image (3,H,W), pixels square and sharp, without a frame."""
    axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    axes.axis("off")


def image_grid(
    images: np.ndarray, titles: Sequence[str] | None = None, *, columns: int = 8, size: float = 0.85, title: str | None = None
) -> style.Drawing:
    """Contact sheet of uint8 images (N,3,H,W) (tensor on the CPU or array), `size` inches each, pixels kept square and sharp."""
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] != 3 or not len(array):
        raise ValueError(f"images: expected uint8 (N,3,H,W) with N > 0, got {array.dtype} {array.shape}")
    if titles is not None and len(titles) != len(array):
        raise ValueError(f"titles: got {len(titles)} for {len(array)} images, expected one each")
    columns = min(columns, len(array))
    lines = -(-len(array) // columns)
    with style.use_style():
        drawing = style.figure(columns * size, lines * (size + (0.18 if titles else 0)) + (0.3 if title else 0))
        drawing.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
        panels = drawing.subplots(lines, columns, squeeze=False)
        for axes in panels.flat:
            axes.axis("off")
        for i, (axes, image) in enumerate(zip(panels.flat, array, strict=False)):
            show_pixels(axes, image)
            if titles is not None:
                axes.set_title(titles[i], fontsize=6, weight="normal", loc="center", pad=2, parse_math=False)
        if title:
            drawing.suptitle(title, fontsize=8.5, weight="bold", x=0.01, ha="left")
    return drawing


def transfer_heatmap(accuracy: np.ndarray, clean: Sequence[float], names: Sequence[str], *, foot: str = "") -> style.Drawing:
    """Accuracy of networks (columns) on examples crafted on others (lines) and, above, on clean images; a frame marks white-box cells.

    accuracy: (N,N) percent, crafted on x attacked; clean: N percent; foot: what the numbers are of. Cells are shaded by the share of the
    column's clean accuracy that is lost. ValueError for another shape.
    """
    accuracy, clean = np.asarray(accuracy, float), np.asarray(clean, float)
    if accuracy.shape != (len(names), len(names)) or clean.shape != (len(names),):
        raise ValueError(f"accuracy: expected {(len(names),) * 2} beside {len(names)} clean ones, got {accuracy.shape} and {clean.shape}")
    table = np.vstack([clean, accuracy])
    lost = ((clean - table) / np.maximum(clean, 1e-9)).clip(0, 1)  # a network without accuracy loses nothing
    shown = [name.replace("_", " ") for name in names]
    with style.sheet(style.PAGE, 0.24 * len(table) + 1.4, foot) as (drawing, axes):
        heat(axes, ["clean images", *shown], shown, lost, table, fmt=".0f")
        for i in range(len(names)):
            frame_cell(axes, i + 1, i)
        title = "Accuracy in percent; the darker, the more of the clean accuracy is lost"
        axes.set(title=title, ylabel="crafted on", xlabel="classified by")
    return drawing


def difference_dots(differences: Mapping[str, np.ndarray], names: Sequence[str], *, axis: str, foot: str = "") -> style.Drawing:
    """Differences with intervals, a line per name and a color per series: {series: (names, 3)} of value, low and high."""
    for series, found in differences.items():
        if np.shape(found) != (len(names), 3):
            raise ValueError(f"differences[{series!r}]: expected shape ({len(names)}, 3), got {np.shape(found)}")
    with style.sheet(style.PAGE, max(0.23, 0.1 * len(differences)) * len(names) + 1.0, foot) as (drawing, axes):
        for line in range(1, len(names), 2):
            axes.axhspan(line - 0.5, line + 0.5, color="#F4F4F4", lw=0, zorder=0)
        for k, (series, found) in enumerate(differences.items()):
            value, low, high = np.asarray(found, float).T
            places = np.arange(len(names)) + min(0.3, 0.8 / len(differences)) * (k - (len(differences) - 1) / 2)
            reach = np.maximum([value - low, high - value], 0)
            look = {"fmt": style.MARKERS[k], "color": style.CYCLE[k % len(style.CYCLE)], "ms": 3.4, "elinewidth": 0.9}
            axes.errorbar(value, places, xerr=reach, label=series, **look)
        axes.axvline(0, color=style.BLACK, lw=0.6, zorder=0)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel=axis, ylim=(len(names) - 0.4, -0.6))
        axes.grid(axis="x")
        style.legend_above(drawing, axes)
    return drawing


def severity_gallery(clean: np.ndarray, corrupted: np.ndarray, names: Sequence[str], *, title: str | None = None) -> style.Drawing:
    """One image under every type at every severity: a line per type, a column per severity, and above them the clean image.

    clean: uint8 (3,H,W); corrupted: uint8 (T,S,3,H,W) with severities 1 to S; names of the T types. Tensors on the CPU or arrays.
    ValueError for others.
    """
    clean, corrupted = np.asarray(clean), np.asarray(corrupted)
    if corrupted.dtype != np.uint8 or corrupted.ndim != 5 or corrupted.shape[2:] != clean.shape or len(names) != len(corrupted):
        expected = f"uint8 ({len(names)},S,{','.join(map(str, clean.shape))}) for {len(names)} names and that clean image"
        raise ValueError(f"corrupted: expected {expected}, got {corrupted.dtype} {corrupted.shape}")
    types, severities, _, height, width = corrupted.shape
    down, right = height + max(1, height // 16), width + max(1, width // 16)  # a picture and the gap after it
    mosaic = np.full(((types + 1) * down, severities * right, 3), 255, np.uint8)
    mosaic[:height, :width] = clean.transpose(1, 2, 0)
    for (i, j), picture in zip(np.ndindex(types, severities), corrupted.reshape(-1, *clean.shape), strict=True):
        mosaic[(i + 1) * down :, j * right :][:height, :width] = picture.transpose(1, 2, 0)
    with style.use_style():
        wide, tall = style.COLUMN - NAMES, (style.COLUMN - NAMES) * mosaic.shape[0] / mosaic.shape[1]
        drawing = style.figure(style.COLUMN, tall + 0.65, layout=None)
        axes = style.place(drawing, NAMES, 0.4, wide, tall)
        axes.imshow(mosaic, interpolation="nearest")
        axes.set_yticks(np.arange(types + 1) * down + height / 2, ["clean", *names])
        axes.set_xticks(np.arange(severities) * right + width / 2, [str(j + 1) for j in range(severities)])
        axes.set_xlabel("severity")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if title:
            drawing.suptitle(title, fontsize=8.5, weight="bold", x=0.01, y=0.995, ha="left", va="top")
    return drawing


def selection_map(fixed: np.ndarray, candidates: np.ndarray, chosen: Sequence[int]) -> style.Drawing:
    """The candidates that a selection chose, and their order: fixed centers (M,D), candidates (N,D), indices into the candidates.

    More than two dimensions are projected on the first two principal components of all points. ValueError for other shapes.
    """
    fixed, candidates, chosen = np.asarray(fixed, float), np.asarray(candidates, float), np.asarray(chosen, int)
    if fixed.ndim != 2 or candidates.ndim != 2 or fixed.shape[1] != candidates.shape[1] or candidates.shape[1] < 2:
        raise ValueError(f"candidates: expected (N,D) beside fixed (M,D) with D >= 2, got {candidates.shape} and {fixed.shape}")
    everything = np.concatenate([fixed, candidates])
    axis = "feature"
    if everything.shape[1] > 2:
        axis = "principal component of the features"
        centered = everything - everything.mean(axis=0)
        everything = centered @ np.linalg.svd(centered, full_matrices=False)[2][:2].T
    fixed, candidates = everything[: len(fixed)], everything[len(fixed) :]
    with style.sheet(style.COLUMN, style.COLUMN + 0.2) as (drawing, axes):
        axes.scatter(*fixed.T, s=9, color="#B0B0B0", linewidths=0, label="training")
        axes.scatter(*candidates.T, s=13, color=style.ORANGE, alpha=0.65, linewidths=0, label="failing")
        look = {"s": 75, "color": style.BLUE, "edgecolors": "white", "linewidths": 0.6, "zorder": 3}
        axes.scatter(*candidates[chosen].T, label="selected, in this order", **look)
        for order, point in enumerate(candidates[chosen], start=1):
            axes.text(*point, str(order), ha="center", va="center_baseline", fontsize=5.5, color="white", zorder=4)
        axes.set(xticks=[], yticks=[], aspect="equal", xlabel=f"first {axis}", ylabel=f"second {axis}")
        axes.spines[:].set(visible=True, color=style.PALE)
        drawing.legend(loc="outside upper center", ncols=3, handletextpad=0.1, columnspacing=1.0)
    return drawing
