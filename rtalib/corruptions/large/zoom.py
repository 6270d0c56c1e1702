"""Zoom blur of larger pictures: float32 enlargements by sparse products, and the published ones where they do not decide."""

from typing import Any

import numpy as np

from rtalib.corruptions.large.settled import again, cut, margin


def zoomed_mean(planes: np.ndarray, matrices: list[tuple[Any, Any]], plan: tuple[np.ndarray, ...]) -> np.ndarray:
    """uint8 (M,H,W), the mean of uint8 planes and their enlargements, to the byte as `blur.zoom_blur` does it in float64.

    matrices: what enlarges rows and columns by each factor; plan: `blur.zoom_plan`.
    """
    out, count = np.empty_like(planes), len(matrices) + 1
    values = np.arange(256)
    flat_bytes = _bytes(np.broadcast_to(_units(values), (count, 256)))
    for plane, result in zip(planes, out, strict=True):
        pixels = plane.astype(np.float32)
        total = np.zeros(plane.shape[::-1], np.float32)
        for down, across in matrices:
            total += across @ np.ascontiguousarray((down @ pixels).T)
        pixels += total.T
        pixels *= np.float32(1 / count)
        found = result.reshape(-1)
        unsure = cut(pixels.reshape(-1), found, margin(8))
        if len(unsure):
            flat = _flat(plane, plan, unsure)
            found[unsure[flat]] = flat_bytes[plane.ravel()[unsure[flat]]]
            again(found, unsure[~flat], lambda places, plane=plane: _bytes(_samples(plane, plan, places)))
    return out


def _units(values: np.ndarray) -> np.ndarray:
    """float32 of bytes on the 0-1 scale."""
    return (values / 255.0).astype(np.float32)


def _bytes(samples: np.ndarray) -> np.ndarray:
    """uint8 (n,) of float32 (1 + factors, n): the pixel, then its enlargements, which are added one after another."""
    total = np.zeros_like(samples[0])
    for sample in samples[1:]:
        total += sample
    return (np.clip((samples[0] + total) / np.float32(len(samples)), 0, 1) * np.float32(255)).astype(np.uint8)


def _samples(plane: np.ndarray, plan: tuple[np.ndarray, ...], places: np.ndarray) -> np.ndarray:
    """float32 (1 + factors, n) of the pixels at `places` and of what lies there in the enlargements."""
    y, x = np.divmod(places, plane.shape[1])
    upper, under, down = (part[:, y] for part in plan[:3])
    left, right, across = (part[:, x] for part in plan[3:])
    columns = [(1 - down) * _units(plane[upper, at]) + down * _units(plane[under, at]) for at in (left, right)]
    return np.concatenate([_units(plane[y, x])[None], ((1 - across) * columns[0] + across * columns[1]).astype(np.float32)])


def _flat(plane: np.ndarray, plan: tuple[np.ndarray, ...], places: np.ndarray) -> np.ndarray:
    """bool (n,): whether all that the enlargements show at the places lies in one even area, the pixel itself included."""
    edges = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1), np.int32)  # of how many pixels up to here a neighbor differs
    edges[2:, 1:] = plane[1:] != plane[:-1]
    edges[1:, 2:] |= plane[:, 1:] != plane[:, :-1]
    np.cumsum(edges, 0, out=edges)
    np.cumsum(edges, 1, out=edges)
    bounds = []
    for site, lower, upper in zip(np.divmod(places, plane.shape[1]), plan[::3], plan[1::3], strict=True):
        bounds.append((np.minimum(lower.min(0)[site], site), np.maximum(upper.max(0)[site], site) + 1))
    (top, bottom), (left, right) = bounds
    return edges[bottom, right] - edges[top, right] - edges[bottom, left] + edges[top, left] == 0
