"""AugMix (Hendrycks et al., ICLR 2020) offline: chains of simple operations, mixed with one another and with the clean image.

The operations follow Pillow, which the published code calls (pil_ops.py), so a result equals the published one for equal draws. The
training loss of the paper (consistency of three views) is in training/mixing.py.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rtalib import rng
from rtalib.augment import pil_ops
from rtalib.errors import check_images, check_index, check_name, check_number

LEAST_LEVEL, MOST_LEVEL = 0.1, 10.0
RANDOM_DEPTHS = 3  # depth -1: 1, 2 or 3 operations with equal chance
LEAST_CONCENTRATION = 0.05  # below it the draws of a Dirichlet or Beta law leave the range of float64
PIXELS = 2**19  # pixels of chains worked on at once

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of images and magnitudes
    "autocontrast": lambda images, _: pil_ops.autocontrast(images),
    "equalize": lambda images, _: pil_ops.equalize(images),
    "posterize": lambda images, lost: pil_ops.posterize(images, 4 - lost),
    "rotate": pil_ops.rotate,
    "solarize": lambda images, share: pil_ops.solarize(images, 256 - share),
    "shear_x": pil_ops.shear_x,
    "shear_y": pil_ops.shear_y,
    "translate_x": pil_ops.translate_x,
    "translate_y": pil_ops.translate_y,
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
    check_name("operation", operation, OPERATIONS)
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
    CF-DARTS does. alpha: w ~ Dirichlet(alpha, ..., alpha), m ~ Beta(alpha, alpha), alpha from 0.05; values other than 1 need SciPy.
    twins: another picture of each image, like `images`: one more operation, as likely as the others, which replaces the image by its twin
    at the front of the chain (DeepRepair's stylized images).

    Mixing gray levels equals mixing normalized values, as the published code does, up to the rounding at the end.
    Raises TypeError or ValueError that name the argument.
    """
    images = check_images(images)
    index = check_index(index, len(images))
    check_number("severity", severity, LEAST_LEVEL, MOST_LEVEL)
    check_number("width", width, 1, integer=True)
    if depth != -1:
        check_number("depth", depth, 1, integer=True, unit=" operation, or -1 to draw it")
    check_number("alpha", alpha, LEAST_CONCENTRATION)
    if twins is not None:
        twins = check_images(twins, "twins")
        if twins.shape != images.shape:
            raise ValueError(f"twins: expected {tuple(images.shape)}, one picture for each image, got {tuple(twins.shape)}")
    names = tuple(name for name in OPERATIONS if posterize or name != "posterize")
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    step = max(1, PIXELS // (images.shape[2] * images.shape[3] * width))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        twin = None if twins is None else twins[part]
        result[part] = _mixed(images[part], twin, seed, index[part], severity, width, depth, alpha, names)
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
    """augmix of one part of the batch; all chains of all its images are computed together, in (N * width, 3, H, W)."""
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
        operate(chains, torch.where(turn < length, operation[:, turn], -1), level[:, turn], sign[:, turn], names)
    weights = dirichlet(midpoints(seed, index, rng.stream("augmix", "weights"), width), alpha)
    share = beta(midpoints(seed, index, rng.stream("augmix", "share"), 1), alpha)
    return mixed(images, chains, share, weights)


def operate(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor, names: Sequence[str] = tuple(OPERATIONS)) -> None:
    """Apply to each of uint8 (N,3,H,W), in place, names[operation] at float64 `level` 0.1 to 10; sign: -1 or 1; all (N,), on the CPU.

    Images whose operation is no position in `names` stay.
    """
    for number, name in enumerate(names):
        at = (operation == number).nonzero().squeeze(1)
        if not len(at):
            continue
        magnitude = magnitude_of(name, level[at], *images.shape[2:])
        if name in SIGNED:
            magnitude = magnitude * sign[at]
        at = at.to(images.device)
        images.index_copy_(0, at, OPERATIONS[name](images.index_select(0, at), magnitude.to(images.device)))


def mixed(images: Tensor, chains: Tensor, share: Tensor, weights: Tensor) -> Tensor:
    """uint8 (N,3,H,W): (1 - share) image + share sum_k weights_k chain_k, rounded.

    chains: uint8 (N K,3,H,W), the K of an image after one another. share: float64 (N,1). weights: float64 (N,K).
    """
    width = weights.shape[1]
    parts = torch.cat([1 - share, share * weights], dim=1).float().to(images.device).view(-1, 1 + width, 1, 1, 1)
    total = images * parts[:, 0]
    for k, chain in enumerate(chains.view(-1, width, *images.shape[1:]).unbind(1), 1):
        total += chain * parts[:, k]
    return total.round_().clamp_(0, 255).to(torch.uint8)


def midpoints(seed: int, index: Tensor, stream: int, count: int) -> Tensor:
    """float64 (N, count), uniform over the midpoints of 2^32 equal parts of 0..1: never 0 or 1, where quantiles are infinite."""
    return rng.uniform(seed, index, stream, count) + 2.0**-33


def dirichlet(uniform: Tensor, alpha: float) -> Tensor:
    """float64 (N, K) of Dirichlet(alpha, ..., alpha) weights from uniform numbers inside 0..1: normalized gamma quantiles."""
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
