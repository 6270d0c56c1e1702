"""Pillow's image operations on batches, uint8 (N,3,H,W) in and out, byte for byte, with one magnitude (N,) per image."""

import torch
from torch import Tensor


def autocontrast(images: Tensor) -> Tensor:
    """Each channel of each image stretched to 0..255; a flat channel stays."""
    low = images.amin((2, 3)).view(-1, 1).double()
    spread = images.amax((2, 3)).view(-1, 1).double() - low
    scale = torch.full_like(spread, 255) / spread  # number / tensor would be number * (1 / tensor), rounded twice
    levels = torch.arange(256, device=images.device)
    stretched = (levels * scale).add_(-low * scale).clamp_(0, 255).long()
    return _look_up(_places(images), torch.where(spread == 0, levels, stretched), images)


def equalize(images: Tensor) -> Tensor:
    """Flat histogram for each channel of each image, by Pillow's integers."""
    n, channels, height, width = images.shape
    places = _places(images)
    counts = places.bincount(minlength=256 * n * channels).view(-1, 256)
    brightest = counts.gather(1, images.amax((2, 3)).view(-1, 1).long())
    step = (height * width - brightest).div_(255, rounding_mode="floor")
    below = counts.cumsum(1) - counts
    table = (below + step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    # the step is 0 if one level, or the brightest one, has nearly all pixels: such a channel stays
    return _look_up(places, torch.where(step == 0, torch.arange(256, device=images.device), table), images)


def _places(images: Tensor) -> Tensor:
    """int32 (3NHW,): where each value finds its entry in tables of 256 levels, one per channel of each image, end to end."""
    start = torch.arange(0, 256 * images.shape[0] * images.shape[1], 256, dtype=torch.int32, device=images.device)
    return (images.flatten(2) + start.view(len(images), -1, 1)).view(-1)


def _look_up(places: Tensor, tables: Tensor, images: Tensor) -> Tensor:
    return tables.to(torch.uint8).view(-1).index_select(0, places).view(images.shape)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The upper `bits` of each value, 1 to 8; the others become 0."""
    return images & (256 - 2 ** (8 - bits.long())).to(torch.uint8).view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Values from `threshold` on, 0 to 256, are inverted."""
    return torch.where(images >= threshold.ceil().short().view(-1, 1, 1, 1), 255 - images, images)


def rotate(images: Tensor, magnitude: Tensor) -> Tensor:
    """Turned by `magnitude` degrees about the center, counter-clockwise when positive."""
    x, y = _pixel_centers(images)
    # rounded to 15 decimals as Pillow does it, and on the CPU, since devices differ in the last bit of a cosine
    angle = torch.deg2rad(magnitude.cpu()).view(-1, 1, 1)
    cosine, sine = (f(angle).mul(1e15).round().div(1e15).to(images.device) for f in (torch.cos, torch.sin))
    center_y, center_x = (side / 2 for side in images.shape[2:])
    columns = cosine * x + -sine * y + (cosine * -center_x + -sine * -center_y + center_x)
    rows = sine * x + cosine * y + (sine * -center_x + cosine * -center_y + center_y)
    return sample(images, columns, rows)


def shear_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Rows shifted by `magnitude` px per row, counted from the upper border."""
    x, y = _pixel_centers(images)
    return sample(images, x + magnitude.view(-1, 1, 1) * y, y)


def shear_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Columns shifted by `magnitude` px per column, counted from the left border."""
    x, y = _pixel_centers(images)
    return sample(images, x, magnitude.view(-1, 1, 1) * x + y)


def translate_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Shifted by `magnitude` px, to the left when positive."""
    x, y = _pixel_centers(images)
    return sample(images, x + magnitude.view(-1, 1, 1), y)


def translate_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Shifted by `magnitude` px, upwards when positive."""
    x, y = _pixel_centers(images)
    return sample(images, x, y + magnitude.view(-1, 1, 1))


def _pixel_centers(images: Tensor) -> tuple[Tensor, Tensor]:
    """(x (1,1,W), y (1,H,1)), float64: 0.5, 1.5, ..."""
    height, width = images.shape[2:]
    x, y = (torch.arange(side, dtype=torch.float64, device=images.device) + 0.5 for side in (width, height))
    return x.view(1, 1, -1), y.view(1, -1, 1)


def sample(images: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """uint8 (N,3,H,W) read at float64 positions in px, of shapes that broadcast to (N,H,W); the first pixel's middle is at 0.5.

    Bilinear, truncated to whole levels; black outside the image; in the outer half of a border pixel that pixel's value.
    Equals Pillow's affine transform at these positions byte for byte.
    """
    height, width = images.shape[2:]
    seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    columns, rows = columns - 0.5, rows - 0.5
    left, top = columns.floor(), rows.floor()
    across, down = (columns - left)[:, None], (rows - top)[:, None]
    # positions that are whole in one direction need no second neighbor there
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
