"""Elastic transform of one larger picture, a band of rows at a time: float32 samples, and the published ones where they do not decide."""

import numpy as np
import torch

from rtalib.corruptions.large.settled import again, cut, margin

BLOCK = 64  # rows, and columns, that are smoothed by one matrix product


def elastic(image: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor, amplitude: float, alpha: float, taps: list[np.ndarray]) -> np.ndarray:
    """uint8 (3,H,W) of a float32 image in 0..1, displaced by alpha times the smoothed amplitude times dx and dy, float64 (H,W) in -1..1.

    taps: the Gaussian's weights down and across. To the byte as `digital.displace` does it.
    """
    height, width = dx.shape
    out = np.empty(image.shape, np.uint8)
    blocks = [toeplitz(weights) for weights in taps]
    for start in range(0, height, BLOCK):
        band = slice(start, min(start + BLOCK, height))
        shifts = [(smoothed(field, band, blocks, amplitude) * alpha).float() for field in (dx, dy)]
        level, found = _sampled(image, *shifts, start).mul_(255).numpy(), np.empty(image[:, band].numel(), np.uint8)
        unsure, arrays = cut(level, found, margin(10)), [part.numpy() for part in shifts]
        again(found, unsure, lambda places, arrays=arrays, top=start: _displaced(image.numpy(), *arrays, top, places))
        out[:, band] = found.reshape(3, -1, width)
    return out


def _sampled(image: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor, top: int) -> torch.Tensor:
    """float32 values, in a row, of a band from row `top` on of the image (3,H,W): bilinear, from a copy with as much border as it takes."""
    _, height, width = image.shape
    rows, reach = len(dx), int(max(dx.abs().max(), dy.abs().max())) + 2
    near = image.index_select(1, _reflected(torch.arange(top - reach, top + rows + reach), height))
    near = near.index_select(2, _reflected(torch.arange(-reach, width + reach), width))
    stride = near.shape[2]
    first, left = dy.floor(), dx.floor()
    down, across = (dy - first).view(-1), (dx - left).view(-1)
    own = torch.arange(reach, reach + rows)[:, None] * stride + torch.arange(reach, reach + width)
    place = (first.mul_(stride).add_(left).long() + own).view(-1)
    levels = []
    for plane in near.flatten(1):
        corners = [plane[shift:].index_select(0, place) for shift in (0, 1, stride, stride + 1)]
        levels.append(torch.lerp(torch.lerp(*corners[:2], across), torch.lerp(*corners[2:], across), down))
    return torch.cat(levels)


def toeplitz(weights: np.ndarray) -> torch.Tensor:
    """float64 (BLOCK, BLOCK + taps - 1): what smooths a block of rows that stand among their neighbors."""
    matrix, row = np.zeros((BLOCK, BLOCK + len(weights) - 1)), np.arange(BLOCK)[:, None]
    matrix[row, row + np.arange(len(weights))] = weights
    return torch.from_numpy(matrix)


def smoothed(field: torch.Tensor, band: slice, blocks: list[torch.Tensor], amplitude: float) -> torch.Tensor:
    """float64 rows `band` of `amplitude` times the field (H,W), smoothed down and across, edges reflected with the edge repeated."""
    down, across = blocks
    (height, width), count = field.shape, band.stop - band.start
    reach, beside = (block.shape[1] // 2 - BLOCK // 2 for block in blocks)
    rows = field.index_select(0, _reflected(torch.arange(band.start - reach, band.stop + reach), height)).mul_(amplitude)
    rows = (down[:count, : len(rows)] @ rows).index_select(1, _reflected(torch.arange(-beside, width + beside), width))
    out = field.new_empty(count, width)
    for start in range(0, width, BLOCK):
        part = rows[:, start : start + BLOCK + 2 * beside]
        out[:, start : start + BLOCK] = part @ across[: part.shape[1] - 2 * beside, : part.shape[1]].T
    return out


def _reflected(position: torch.Tensor, side: int) -> torch.Tensor:
    """Indices of whole positions, d c b a | a b c d | d c b a."""
    position = position % (2 * side)
    return torch.minimum(position, 2 * side - 1 - position)


def _displaced(image: np.ndarray, dx: np.ndarray, dy: np.ndarray, top: int, places: np.ndarray) -> np.ndarray:
    """uint8 of the values at `places` of a band from row `top` on: bilinear in float64, as `digital.displace`."""
    _, height, width = image.shape
    channel, site = np.divmod(places, dx.size)
    row, column = np.divmod(site, width)
    y, x = top + row + dy.ravel()[site].astype(np.float64), column + dx.ravel()[site].astype(np.float64)
    first, left = np.floor(y), np.floor(x)
    down, across = y - first, x - left
    rows, columns = (
        [_reflected(torch.from_numpy(part).long() + k, side).numpy() for k in (0, 1)] for part, side in ((first, height), (left, width))
    )
    total = np.zeros(len(places))
    for at, v in zip(rows, (1 - down, down), strict=True):
        for beside, h in zip(columns, (1 - across, across), strict=True):
            total += image[channel, at, beside] * (v * h)
    return (np.clip(total.astype(np.float32), 0, 1) * np.float32(255)).astype(np.uint8)
