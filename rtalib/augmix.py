"""AugMix (Hendrycks et al., ICLR 2020) offline: chains of simple operations, mixed with one another and with the clean image.

Every operation works on a whole batch with one magnitude per image, in the arithmetic of Pillow, which the published code calls; so a
result equals the published one for equal draws. The training loss of the paper (consistency of three views) is in mixing_objectives.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rtalib import rng
from rtalib.errors import check_images, unknown

LEAST_LEVEL, MOST_LEVEL = 0.1, 10.0
RANDOM_DEPTHS = 3  # depth -1: 1, 2 or 3 operations with equal chance
LEAST_CONCENTRATION = 0.05  # below it the draws of a Dirichlet or Beta law leave the range of float64
PIXELS = 2**19  # pixels of chains worked on at once


def autocontrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Each channel of each image stretched to 0..255; a flat channel stays. There is no magnitude."""
    low = images.amin((2, 3)).view(-1, 1).double()
    spread = images.amax((2, 3)).view(-1, 1).double() - low
    scale = torch.full_like(spread, 255) / spread  # number / tensor would be number * (1 / tensor), rounded twice
    levels = torch.arange(256, device=images.device)
    stretched = (levels * scale).add_(-low * scale).clamp_(0, 255).long()
    return _look_up(_places(images), torch.where(spread == 0, levels, stretched), images)


def equalize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Flat histogram for each channel of each image, by Pillow's integers; there is no magnitude."""
    n, channels, height, width = images.shape
    places = _places(images)
    counts = places.bincount(minlength=256 * n * channels).view(-1, 256)
    brightest = counts.gather(1, images.amax((2, 3)).view(-1, 1).long())
    step = (height * width - brightest).div_(255, rounding_mode="floor")
    below = counts.cumsum(1) - counts
    table = (below + step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    # no step is left where one level, or the brightest one, has nearly all pixels: such a channel stays
    return _look_up(places, torch.where(step == 0, torch.arange(256, device=images.device), table), images)


def _places(images: Tensor) -> Tensor:
    """int32 (3NHW,): where each value finds its entry in tables of 256 levels, one per channel of each image, end to end."""
    start = torch.arange(0, 256 * images.shape[0] * images.shape[1], 256, dtype=torch.int32, device=images.device)
    return (images.flatten(2) + start.view(len(images), -1, 1)).view(-1)


def _look_up(places: Tensor, tables: Tensor, images: Tensor) -> Tensor:
    return tables.to(torch.uint8).view(-1).index_select(0, places).view(images.shape)


def posterize(images: Tensor, magnitude: Tensor) -> Tensor:
    """The upper 4 - magnitude bits of each value; magnitude a whole number, 0 to 3."""
    return images & (256 - 2 ** (4 + magnitude.long())).to(torch.uint8).view(-1, 1, 1, 1)


def solarize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Values from 256 - magnitude on are inverted; magnitude a whole number, 0 to 255."""
    return torch.where(images > (255 - magnitude).to(torch.uint8).view(-1, 1, 1, 1), 255 - images, images)


def rotate(images: Tensor, magnitude: Tensor) -> Tensor:
    """Turned by `magnitude` degrees about the centre, counter-clockwise when positive."""
    x, y = _middles_of_pixels(images)
    # rounded to 15 decimals as Pillow does it, and on the CPU, since devices differ in the last bit of a cosine
    angle = torch.deg2rad(magnitude.cpu()).view(-1, 1, 1)
    cosine, sine = (f(angle).mul(1e15).round().div(1e15).to(images.device) for f in (torch.cos, torch.sin))
    centre_y, centre_x = (side / 2 for side in images.shape[2:])
    columns = cosine * x + -sine * y + (cosine * -centre_x + -sine * -centre_y + centre_x)
    rows = sine * x + cosine * y + (sine * -centre_x + cosine * -centre_y + centre_y)
    return sample(images, columns, rows)


def shear_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Rows shifted by `magnitude` px per row, counted from the upper border."""
    x, y = _middles_of_pixels(images)
    return sample(images, x + magnitude.view(-1, 1, 1) * y, y)


def shear_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Columns shifted by `magnitude` px per column, counted from the left border."""
    x, y = _middles_of_pixels(images)
    return sample(images, x, magnitude.view(-1, 1, 1) * x + y)


def translate_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Shifted by `magnitude` px, to the left when positive."""
    x, y = _middles_of_pixels(images)
    return sample(images, x + magnitude.view(-1, 1, 1), y)


def translate_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Shifted by `magnitude` px, upwards when positive."""
    x, y = _middles_of_pixels(images)
    return sample(images, x, y + magnitude.view(-1, 1, 1))


def _middles_of_pixels(images: Tensor) -> tuple[Tensor, Tensor]:
    """(x (1,1,W), y (1,H,1)), float64: 0.5, 1.5, ..."""
    height, width = images.shape[2:]
    x, y = (torch.arange(side, dtype=torch.float64, device=images.device) + 0.5 for side in (width, height))
    return x.view(1, 1, -1), y.view(1, -1, 1)


def sample(images: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """uint8 (N,3,H,W) read at float64 positions in px, of shapes that broadcast to (N,H,W); the first pixel's middle is at 0.5.

    Bilinear and cut to whole levels; black where the position is outside the image; in the outer half of a border pixel that pixel's value.
    Byte for byte what Pillow's affine transform makes of these positions.
    """
    height, width = images.shape[2:]
    seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    columns, rows = columns - 0.5, rows - 0.5
    left, top = columns.floor(), rows.floor()
    across, down = (columns - left)[:, None], (rows - top)[:, None]
    # positions that are whole in one direction need no second neighbour there
    lefts = [(left + k).clamp_(0, width - 1).long() for k in range(1 if torch.equal(left, columns) else 2)]
    tops = [(top + k).clamp_(0, height - 1).long().mul_(width) for k in range(1 if torch.equal(top, rows) else 2)]
    planes = images.flatten(2)

    def read(place: Tensor) -> Tensor:
        place = place.expand(len(images), height, width).reshape(-1, 1, height * width)
        return planes.gather(2, place.expand_as(planes)).view(images.shape)

    lines = [_between([read(row + column) for column in lefts], across) for row in tops]
    return _between(lines, down).to(torch.uint8).mul_(seen[:, None])


def _between(ends: list[Tensor], share: Tensor) -> Tensor:
    """float64 near + (far - near) share, or the only end there is."""
    if len(ends) == 1:
        return ends[0]
    near, far = (end.double() for end in ends)
    return (far - near).mul_(share).add_(near)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": autocontrast,
    "equalize": equalize,
    "posterize": posterize,
    "rotate": rotate,
    "solarize": solarize,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
}
SIGNED = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def magnitude_of(operation: str, level: Tensor, height: int, width: int) -> Tensor:
    """The unsigned magnitude, float64, of `operation` at float64 levels 0.1 to 10, in the unit of its function.

    At level 10: rotation by 30 degrees, a shear by 0.3 px per px, a shift by a third of the side, all 256 levels solarized, 4 bits lost;
    cut to whole numbers except for the shears.
    """
    most = {
        "rotate": 30,
        "shear_x": 0.3,
        "shear_y": 0.3,
        "translate_x": width / 3,
        "translate_y": height / 3,
        "solarize": 256,
        "posterize": 4,
    }
    if operation not in OPERATIONS:
        raise unknown("operation", operation, OPERATIONS)
    scaled = level * most.get(operation, 0) / MOST_LEVEL
    return scaled if operation.startswith("shear") else scaled.trunc()


def augmix(
    images: Tensor,
    *,
    seed: int,
    index: Tensor,
    severity: float = 3.0,
    width: int = 3,
    depth: int = -1,
    alpha: float = 1.0,
    posterize: bool = True,
    twins: Tensor | None = None,
) -> Tensor:
    """AugMix of uint8 (N,3,H,W): (1 - m) image + m sum_k w_k chain_k(image), rounded; uint8 (N,3,H,W) on the same device.

    index: int64 (N,), the identity of each image; the draws depend on (seed, index) and the parameters alone, not on the batch.
    severity: each operation's level is uniform in 0.1 to `severity`, which is at most 10. width: the number of chains.
    depth: operations in a chain; -1: one, two or three, drawn per chain. Operations are uniform over autocontrast, equalize, posterize,
    rotate, solarize, shear and translate along x and y; signs are random. posterize=False leaves that one out, as the list in the paper of
    CF-DARTS does. alpha: w ~ Dirichlet(alpha, ..., alpha), m ~ Beta(alpha, alpha), alpha from 0.05; values but 1 need SciPy.
    twins: another picture of each image, like `images`: one more operation, as likely as the others, which puts the twin in the image's
    place at the front of the chain (DeepRepair's stylised images).

    Mixing grey levels equals mixing normalised values, as the published code does, up to the rounding at the end.
    Raises TypeError or ValueError that name the argument.
    """
    check_images(images)
    if index.dtype != torch.int64 or index.shape != images.shape[:1]:
        raise ValueError(f"index: expected int64 ({len(images)},), got {index.dtype} {tuple(index.shape)}")
    if not LEAST_LEVEL <= severity <= MOST_LEVEL:
        raise ValueError(f"severity: expected {LEAST_LEVEL} to {MOST_LEVEL:g}, got {severity}")
    if width < 1:
        raise ValueError(f"width: expected at least 1 chain, got {width}")
    if depth != -1 and depth < 1:
        raise ValueError(f"depth: expected -1 (drawn) or at least 1 operation, got {depth}")
    check_concentration(alpha, "alpha")
    if twins is not None:
        check_images(twins, "twins")
        if twins.shape != images.shape:
            raise ValueError(f"twins: expected {tuple(images.shape)}, one picture for each image, got {tuple(twins.shape)}")
    names = tuple(name for name in OPERATIONS if posterize or name != "posterize")
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    step = max(1, PIXELS // (images.shape[2] * images.shape[3] * width))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        twin = None if twins is None else twins[part]
        result[part] = _mixed(images[part], twin, seed, index[part].cpu(), severity, width, depth, alpha, names)
    return result


def _mixed(
    images: Tensor,
    twins: Tensor | None,
    seed: int,
    index: Tensor,
    severity: float,
    width: int,
    depth: int,
    alpha: float,
    names: tuple[str, ...],
) -> Tensor:
    """augmix of one part of the batch; all chains of all its images are worked on together, one after another in (N * width, 3, H, W)."""
    steps = RANDOM_DEPTHS if depth == -1 else depth
    count = width * steps
    choices = len(names) + (twins is not None)
    operation = rng.integers(seed, index, rng.stream("augmix", "operation"), count, choices).view(-1, steps)
    level = rng.uniform(seed, index, rng.stream("augmix", "level"), count).view(-1, steps) * (severity - LEAST_LEVEL) + LEAST_LEVEL
    sign = 1 - 2 * rng.integers(seed, index, rng.stream("augmix", "sign"), count, 2).view(-1, steps)
    length = torch.full((len(index) * width,), steps)
    if depth == -1:
        length = rng.integers(seed, index, rng.stream("augmix", "depth"), width, RANDOM_DEPTHS).flatten() + 1
    chains = images.repeat_interleave(width, dim=0)
    if twins is not None:
        styled = ((operation == len(names)) & (torch.arange(steps) < length[:, None])).any(1).nonzero().squeeze(1)
        chains.index_copy_(0, styled.to(images.device), twins.index_select(0, (styled // width).to(images.device)))
    for turn in range(steps):
        for number, name in enumerate(names):
            at = ((operation[:, turn] == number) & (turn < length)).nonzero().squeeze(1)
            if not len(at):
                continue
            magnitude = magnitude_of(name, level[at, turn], *images.shape[2:])
            if name in SIGNED:
                magnitude = magnitude * sign[at, turn]
            at = at.to(images.device)
            chains.index_copy_(0, at, OPERATIONS[name](chains.index_select(0, at), magnitude.to(images.device)))
    weights = dirichlet(middles(seed, index, rng.stream("augmix", "weights"), width), alpha)
    share = beta(middles(seed, index, rng.stream("augmix", "share"), 1), alpha)
    parts = torch.cat([1 - share, share * weights], dim=1).float().to(images.device).view(-1, 1 + width, 1, 1, 1)
    total = images * parts[:, 0]
    for k, chain in enumerate(chains.view(-1, width, *images.shape[1:]).unbind(1), 1):
        total += chain * parts[:, k]
    return total.round_().clamp_(0, 255).to(torch.uint8)


def middles(seed: int, index: Tensor, stream: int, count: int) -> Tensor:
    """float64 (N, count), uniform over the middles of 2^32 equal parts of 0..1: never 0 or 1, where quantiles are infinite."""
    return rng.uniform(seed, index, stream, count) + 2.0**-33


def dirichlet(uniform: Tensor, alpha: float) -> Tensor:
    """float64 (N, K) of Dirichlet(alpha, ..., alpha) weights from uniform numbers inside 0..1: normalised gamma quantiles."""
    if alpha == 1:
        gamma = -torch.log1p(-uniform)
    else:
        from scipy.special import gammaincinv

        gamma = torch.from_numpy(gammaincinv(alpha, uniform.numpy()))
    return gamma / gamma.sum(dim=1, keepdim=True)


def beta(uniform: Tensor, alpha: float) -> Tensor:
    """float64 of Beta(alpha, alpha), the shape of `uniform`: its quantiles at uniform numbers inside 0..1."""
    if alpha == 1:
        return uniform
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, uniform.numpy()))


def check_concentration(value: float, argument: str) -> None:
    """Raise ValueError unless `value`, the parameter of a Beta or Dirichlet law, is finite and at least 0.05."""
    if not LEAST_CONCENTRATION <= value < float("inf"):
        raise ValueError(f"{argument}: expected a finite number from {LEAST_CONCENTRATION}, got {value}")
