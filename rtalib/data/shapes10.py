"""shapes10: the embedded data set. Ten classes of procedurally drawn shapes over clutter, RGB, no download.

A picture is a pure function of (seed, index, label, size). Everything but the outline of the shape (place, colours, textures, clutter,
light) is drawn from (seed, index) alone, so nothing but the outline can tell the class. Coordinates run from -1 to 1 across the image;
outlines are signed distances (negative inside), which makes edges anti-aliased at any size.
"""

import math
from collections.abc import Callable

import torch

from rtalib import rng
from rtalib.data.bounds import check_memory
from rtalib.data.images import LabeledImages
from rtalib.errors import check_name, check_number

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring", "crescent", "hexagon", "heart", "arrow")
SIZES = {"train": 20_000, "test": 5_000}
# A multiple of ten, so that the label is index % 10 in both splits; train indices lie below it.
TEST_OFFSET = 1_000_000_000
TEXTURE = 0.14  # strength of stripes, checks, dots and colour noise, of figure and ground alike
CHUNK_PIXELS = 2**18  # pixels rendered at a time: keeps the working memory near 100 MB

Tensor = torch.Tensor


def make(split: str, n: int | None = None, seed: int = 0) -> LabeledImages:
    """The first `n` images (N,3,32,32) of a split: 'train' (20,000 by default) or 'test' (5,000); more can be asked for.

    Labels cycle through the ten classes, so every prefix is balanced. The splits share no index. ValueError for an unknown split or n < 1.
    """
    index, labels = numbers(split, n)
    return LabeledImages(render(index, labels, seed), labels, CLASSES, "shapes10")


def numbers(split: str, n: int | None = None) -> tuple[Tensor, Tensor]:
    """(index, labels), int64 (n,) each: which pictures make up a split, without drawing them. Raises as `make` does."""
    check_name("split", split, SIZES)
    n = SIZES[split] if n is None else n
    check_number("n", n, 1, TEST_OFFSET, integer=True, unit=" images")
    check_memory(16 * n, f"n: numbering {n:,} images")
    index = torch.arange(n) + (TEST_OFFSET if split == "test" else 0)
    return index, index % len(CLASSES)


def render(index: Tensor, labels: Tensor, seed: int = 0, size: int = 32) -> Tensor:
    """uint8 (N,3,size,size): one picture per image number `index` (N,) int64, showing the class `labels` (N,) int64 in 0-9.

    `size` is the edge in pixels, at least 16. Raises ValueError on labels outside 0-9, unequal lengths, or a smaller size.
    """
    if index.ndim != 1 or index.shape != labels.shape:
        raise ValueError(f"labels: expected one label per index, got shapes {tuple(labels.shape)} and {tuple(index.shape)}")
    check_number("size", size, 16, integer=True, unit=" pixels")
    if len(labels) and not (0 <= int(labels.min()) and int(labels.max()) < len(CLASSES)):
        raise ValueError(f"labels: expected classes 0-9, got {int(labels.min())} to {int(labels.max())}")
    check_memory(3 * size**2 * len(index), f"index: drawing {len(index):,} images of {size}x{size}")
    chunk = max(1, CHUNK_PIXELS // size**2)
    parts = [_draw(i, k, seed, size) for i, k in zip(index.split(chunk), labels.split(chunk), strict=True)]
    return torch.cat(parts) if parts else torch.empty(0, 3, size, size, dtype=torch.uint8, device=index.device)


def _draw(index: Tensor, labels: Tensor, seed: int, size: int) -> Tensor:
    """One chunk: background, clutter, the shape with its shadow and contour, light."""
    centre = (torch.arange(size, device=index.device, dtype=torch.float32) + 0.5) * (2.0 / size) - 1.0
    y, x = (g.reshape(1, -1) for g in torch.meshgrid(centre, centre, indexing="ij"))
    pixel = 2.0 / size

    def draw(name: str, count: int) -> tuple[Tensor, ...]:
        """`count` uniform numbers per image, each (N,1), from the stream of that name."""
        return rng.uniform(seed, index, rng.stream("shapes10", name), count).float().split(1, dim=1)

    ground, figure, accent = _palette(draw)
    image = _textured(ground, TEXTURE, draw, "ground", x, y)
    image = _clutter(image, draw, x, y, pixel)
    distance = _figure_distance(draw, labels, x, y)
    depth, line, line_tone = draw("edge", 3)
    image = image * (1.0 - 0.25 * depth * torch.exp(-distance.clamp(min=0.0) / 0.08))[:, None]
    image = _over(image, _textured(figure, TEXTURE, draw, "figure", x, y), _coverage(distance, pixel))
    # A contour of one pixel at size 32, in a quarter of the images; it is what noise and blur destroy first.
    contour = _coverage(distance.abs() - 1 / 32, pixel) * (line > 0.75) * (0.35 + 0.45 * (line - 0.5))
    image = _over(image, torch.where((line_tone > 0.5)[:, None], accent, 1.0 - accent), contour)
    return _light(image, draw, x, y).reshape(-1, 3, size, size)


def _palette(draw: Callable) -> tuple[Tensor, Tensor, Tensor]:
    """Three colours (N,3,1): a darkish ground, a figure of another tint and mostly lighter, and an accent for the contour.

    Were the figure as often darker as lighter, a network would see no mean difference between the classes until it had learned edges:
    training would begin with a long plateau, which no small demonstration can afford.
    """
    u = torch.cat(draw("palette", 8), dim=1)[:, :, None]
    ground = 0.1 + 0.42 * u[:, 0:3]
    direction = u[:, 3:6] - 0.15
    direction = direction / (direction.square().sum(dim=1, keepdim=True).sqrt() + 1e-3)
    step = direction * (0.28 + 0.30 * u[:, 6:7])
    return ground, ground + step, 0.08 + 0.2 * u[:, 7:8].expand(-1, 3, 1)


def _textured(colour: Tensor, strength: float, draw: Callable, name: str, x: Tensor, y: Tensor) -> Tensor:
    """(N,3,P): the colour with a gradient, low-frequency colour noise, and one of plain, stripes, checks, dots."""
    kind, angle, frequency, phase, other, amount, *rest = draw(f"{name}-texture", 16)
    turn = 2.0 * math.pi * angle
    waves = 6.0 + 18.0 * frequency
    along = torch.sin(waves * (x * torch.cos(turn) + y * torch.sin(turn)) + 2.0 * math.pi * phase)
    across = torch.sin(waves * (y * torch.cos(turn) - x * torch.sin(turn)) + 2.0 * math.pi * other)
    patterns = (torch.zeros_like(along), along, (3.0 * along * across).clamp(-1, 1), (2.0 * (along + across) - 1.2).clamp(-1, 1))
    choice = (kind * len(patterns)).long()
    pattern = sum(p * (choice == k) for k, p in enumerate(patterns))
    tint = torch.cat(rest[:3], dim=1)[:, :, None] - 0.35
    noise = _colour_noise(draw, f"{name}-noise", x, y)
    return colour + strength * (amount[:, None] * tint * pattern[:, None] + 0.45 * noise)


def _colour_noise(draw: Callable, name: str, x: Tensor, y: Tensor) -> Tensor:
    """(N,3,P) in about -1..1: per channel a shared slow wave and one of its own."""
    u = draw(name, 16)
    planes = []
    for k in range(4):
        turn, phase = 2.0 * math.pi * u[4 * k], 2.0 * math.pi * u[4 * k + 1]
        waves = 1.0 + 4.0 * u[4 * k + 2]
        planes.append(torch.sin(waves * (x * torch.cos(turn) + y * torch.sin(turn)) + phase) * (0.4 + 0.6 * u[4 * k + 3]))
    return torch.stack([0.6 * planes[0] + 0.6 * planes[k] for k in (1, 2, 3)], dim=1)


def _clutter(image: Tensor, draw: Callable, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Distractors under the shape: blobs and strokes of any direction, and one small shape of a random class."""
    for k in range(3):
        cx, cy, angle, length, width, opacity, red, green, blue = draw(f"clutter-{k}", 9)
        length = 0.55 * length * (k % 2)  # of length zero: a blob
        px, py = _turned(x - (2.4 * cx - 1.2), y - (2.4 * cy - 1.2), 2.0 * math.pi * angle)
        distance = torch.hypot((px.abs() - length).clamp(min=0.0), py) - (0.04 + (0.05 if k % 2 else 0.13) * width)
        colour = 0.15 + 0.7 * torch.stack([red, green, blue], dim=1)
        image = _over(image, colour, _coverage(distance, pixel) * (0.15 + 0.3 * opacity))
    cx, cy, angle, radius, kind, opacity, red, green, blue = draw("clutter-shape", 9)
    radius = 0.14 + 0.08 * radius
    px, py = _turned((x - (2.2 * cx - 1.1)) / radius, (y - (2.2 * cy - 1.1)) / radius, 2.0 * math.pi * angle)
    distance = _distance(px, py, (kind[:, 0] * len(CLASSES)).long()) * radius
    colour = 0.15 + 0.7 * torch.stack([red, green, blue], dim=1)
    return _over(image, colour, _coverage(distance, pixel) * (0.15 + 0.3 * opacity))


def _figure_distance(draw: Callable, labels: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(N,P): signed distance to the outline of the class, at a random place, size, rotation and slight stretch."""
    size, angle, right, down, stretch = draw("place", 5)
    radius = 0.48 + 0.22 * size
    room = 0.55 * (1.0 - radius)
    stretch = torch.exp(0.3 * (stretch - 0.5))
    px, py = _turned((x - room * (2 * right - 1)) / radius, (y - room * (2 * down - 1)) / radius, 1.4 * (angle - 0.5))
    return _distance(px * stretch, py / stretch, labels) * radius


def _light(image: Tensor, draw: Callable, x: Tensor, y: Tensor) -> Tensor:
    """A lamp from a random side and a slight change of exposure; then uint8."""
    angle, amount, exposure = draw("light", 3)
    turn = 2.0 * math.pi * angle
    gain = 0.9 + 0.2 * exposure + 0.22 * amount * (x * torch.cos(turn) + y * torch.sin(turn))
    return ((image * gain[:, None]).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def _over(image: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    """`colour` (N,3,1 or P) laid over `image` (N,3,P) with opacity `alpha` (N,P)."""
    return image + (colour - image) * alpha[:, None]


def _coverage(distance: Tensor, pixel: float) -> Tensor:
    """Share of each pixel inside the outline: a ramp one pixel wide around distance zero."""
    return (0.5 - distance / pixel).clamp(0.0, 1.0)


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = torch.cos(angle), torch.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


# Outlines: signed distance in a frame where the shape has a radius near one.


def _distance(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
    """(N,P): per image, the signed distance to the outline of its class."""
    out = torch.empty_like(x)
    for label, outline in enumerate(OUTLINES):
        rows = (labels == label).nonzero()[:, 0]
        if len(rows):
            out[rows] = outline(x[rows], y[rows])
    return out


def _polygon(*corners: tuple[float, float]) -> Callable[[Tensor, Tensor], Tensor]:
    """Signed distance to a polygon: the nearest edge, and inside by the even-odd rule of a ray to the right."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        squared = torch.full_like(x, torch.inf)
        inside = torch.zeros_like(x, dtype=torch.bool)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            ex, ey = bx - ax, by - ay
            px, py = x - ax, y - ay
            along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0)
            squared = torch.minimum(squared, (px - ex * along).square() + (py - ey * along).square())
            if ay != by:
                inside ^= ((y < ay) != (y < by)) & (px < ex / ey * py)
        return torch.where(inside, -squared.sqrt(), squared.sqrt())

    return distance


def _regular(corners: int, radius: float, inner: float | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """A regular polygon, or a star when `inner` gives the radius of every second corner."""
    count = corners * (1 if inner is None else 2)
    radii = [radius if inner is None or k % 2 == 0 else inner for k in range(count)]
    turns = [2.0 * math.pi * k / count for k in range(count)]
    return _polygon(*((r * math.sin(t), -r * math.cos(t)) for r, t in zip(radii, turns, strict=True)))


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.86


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.66).abs() - 0.24


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(x, y) - 0.95, 0.76 - torch.hypot(x - 0.42, y))


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """A square on its corner with a half disc on each upper side."""
    y = y + 0.08
    u, v = (x + y) * math.sqrt(0.5) - 0.06, (y - x) * math.sqrt(0.5) - 0.06
    half = 0.54
    dx, dy = u.abs() - half, v.abs() - half
    square = torch.hypot(dx.clamp(min=0.0), dy.clamp(min=0.0)) + torch.maximum(dx, dy).clamp(max=0.0)
    lobes = torch.minimum(torch.hypot(u + half, v), torch.hypot(u, v + half)) - half
    return torch.minimum(square, lobes)


def _cross_corners(arm: float, reach: float) -> list[tuple[float, float]]:
    quarter = [(arm, -reach), (arm, -arm), (reach, -arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


OUTLINES = (
    _circle,
    _regular(4, 1.0),
    _regular(3, 1.08),
    _regular(5, 1.08, 0.47),
    _polygon(*_cross_corners(0.29, 0.95)),
    _ring,
    _crescent,
    _regular(6, 0.95),
    _heart,
    _polygon((0.0, -1.0), (0.82, -0.1), (0.32, -0.1), (0.32, 0.95), (-0.32, 0.95), (-0.32, -0.1), (-0.82, -0.1)),
)
