"""What the machine can do at most, measured in the same run: the ceilings that a roofline is made of."""

import torch
import torch.nn.functional as F

from benchmarks.timing import Run, timed

ROUNDS = 7


def arithmetic(device: str, precision: str, clock: str, side: int | None = None) -> float:
    """FLOP per second, 2 per multiplication and addition, by the clock 'cpu' or 'wall': of square matrix products or of a dense 3x3
    convolution, whichever is faster, for they come from different libraries (on AMD's CPUs the convolutions are twice as fast)."""
    side = side or (2048 if device == "cpu" else 8192)
    kind = getattr(torch, precision)
    a, b = torch.randn(2, side, side, device=device).to(kind).unbind()
    channels = side // 8
    x, weight = torch.randn(8, channels, 32, 32, device=device), torch.randn(channels, channels, 3, 3, device=device)
    x, weight = (part.to(kind, memory_format=torch.channels_last) for part in (x, weight))
    runs = {2 * side**3: lambda: torch.mm(a, b), 2 * x.numel() * channels * 9: lambda: F.conv2d(x, weight, padding=1)}
    for run in runs.values():
        run()
    return max(flop / _fastest(run, device, clock) for flop, run in runs.items())


def copies(device: str, clock: str, size: int | None = None) -> float:
    """Bytes per second, read and written, of a copy of `size` bytes, more than any cache holds."""
    size = size or (2**28 if device == "cpu" else 2**30)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = source.clone()
    return 2 * size / _fastest(lambda: target.copy_(source), device, clock)


def _fastest(run: Run, device: str, clock: str) -> float:
    times = [timed(run, device) for _ in range(ROUNDS)]
    return min(one.wall if clock == "wall" and device == "cpu" else one.seconds for one in times)


def roofline(seconds: float, device: str, clock: str, flop: float = 0.0, traffic: float = 0.0, precision: str = "float32") -> dict:
    """Fields of a row whose seconds are of `clock`: what `flop` operations and `traffic` bytes take at the ceilings, and its share."""
    bounds = {}
    if flop:
        bounds["FLOP"] = flop / arithmetic(device, precision, clock)
    if traffic:
        bounds["bytes"] = traffic / copies(device, clock)
    bound_by = max(bounds, key=bounds.get)
    return {"bound_seconds": bounds[bound_by], "bound_by": bound_by, "roofline_share": bounds[bound_by] / seconds}
