"""What the machine can do at most, measured in the same run: the ceilings that a roofline is made of."""

import statistics

import torch

from benchmarks.timing import timed

ROUNDS = 7


def products(device: str, precision: str, side: int | None = None) -> float:
    """FLOP per second of square matrix products, 2 per multiplication and addition."""
    side = side or (2048 if device == "cpu" else 8192)
    a, b = torch.randn(2, side, side, device=device).to(getattr(torch, precision)).unbind()
    torch.mm(a, b)
    return 2 * side**3 / statistics.median(timed(lambda: torch.mm(a, b), device).wall for _ in range(ROUNDS))


def copies(device: str, size: int | None = None) -> float:
    """Bytes per second, read and written, of a copy of `size` bytes, more than any cache holds."""
    size = size or (2**28 if device == "cpu" else 2**30)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = source.clone()
    return 2 * size / statistics.median(timed(lambda: target.copy_(source), device).wall for _ in range(ROUNDS))


def roofline(seconds: float, device: str, flop: float = 0.0, traffic: float = 0.0, precision: str = "float32") -> dict:
    """Fields of a row: the seconds that `flop` operations and `traffic` bytes take at the ceilings, and their share of ours."""
    bounds = {}
    if flop:
        bounds["FLOP"] = flop / products(device, precision)
    if traffic:
        bounds["bytes"] = traffic / copies(device)
    bound_by = max(bounds, key=bounds.get)
    return {"bound_seconds": bounds[bound_by], "bound_by": bound_by, "roofline_share": bounds[bound_by] / seconds}
