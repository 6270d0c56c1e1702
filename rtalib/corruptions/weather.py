"""Snow, fog and brightness (frost has its own file). uint8 (N,3,H,W) in and out."""

from functools import lru_cache, partial

import numpy as np
import torch

from rtalib.corruptions.constants import Fog, Snow
from rtalib.corruptions.draws import Words, unit, units
from rtalib.corruptions.filters import (
    MAGICK,
    NEAREST,
    UNSURE,
    alone,
    inside,
    line_bytes,
    motion_offsets,
    motion_weights,
    of_two_bytes,
    places,
    truncate,
    unit_floats,
    zoom_taps,
    zoomed,
)
from rtalib.corruptions.large import fog as in_bands
from rtalib.corruptions.large import settled

LUMA = (0.299, 0.587, 0.114)
STEP = 16_000  # words of snow that are drawn at a time
SPARE = 1.5  # pixels of fog's square for one of the picture, from which on the square is computed in bands


@lru_cache(maxsize=4)
def normal_quantiles(device: torch.device) -> torch.Tensor:
    """The 2^16 mid-quantiles of N(0,1), float64: a table, so that every device draws the same flakes."""
    return torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16).to(device)


def draw_snow(words: Words, height: int, width: int, constants: Snow) -> tuple[torch.Tensor, torch.Tensor]:
    """(layer float64 (N,H,W) of N(mean, std), angle (N,) uniform in -135 .. -45 degrees).

    From the lower and then from the upper halves of the words after the first. Rows that the zoom does not show may stay zero.
    """
    area = height * width
    half, shown = (area + 1) // 2, zoom_taps(height, constants.zoom, constants.magick, constants.magick)[0]
    first, last = int(shown[0]) * width, (int(shown[-1]) + 2) * width
    quantiles = normal_quantiles(words.index.device)
    layer = torch.zeros(len(words.index), area, dtype=torch.float64, device=words.index.device)
    for start in range(0, half + 1, STEP):
        drawn = words._replace(start=start)(min(STEP, half + 1 - start))[:, start == 0 :]
        at = max(0, start - 1)
        for place, shift in ((at, 0), (half + at, 16)):
            part = layer[:, place : min(place + drawn.shape[1], (half, area)[shift > 0])]
            if place < last and place + part.shape[1] > first:
                number = (drawn[:, : part.shape[1]] >> shift) & 0xFFFF
                part.copy_(quantiles.index_select(0, number.view(-1)).view(number.shape).mul_(constants.std).add_(constants.mean))
    return layer.view(-1, height, width), unit(words(1)[:, 0]) * 90 - 135


def snow_levels(layer: torch.Tensor, constants: Snow, angle: torch.Tensor) -> torch.Tensor:
    """The falling snow, uint8 (N,H,W): zoomed, thresholded, blurred along `angle`."""
    height, width = layer.shape[1:]
    magick = constants.magick
    flakes = zoomed(layer, constants.zoom, magick, magick)
    flakes = flakes.masked_fill_(flakes < constants.threshold, 0).clamp_(0, 1)[:, None]
    taps = motion_weights(constants.radius, constants.sigma)
    dx, dy = motion_offsets(len(taps), angle)
    weights = torch.from_numpy(taps).to(layer.device).expand(len(layer), -1)
    if magick:
        return line_bytes(truncate(flakes), weights, dx, dy, MAGICK)[:, 0]
    return line_bytes(flakes, weights * inside(dx, dy, *flakes.shape[2:]), dx, dy, NEAREST)[:, 0, :height, :width]


def _grey(image: torch.Tensor) -> torch.Tensor:
    """OpenCV's float32 luma (N,H,W) of float32 RGB; each product is fused into the sum, so float64 steps are cut to float32."""
    red, green, blue = (image[:, c].double() for c in range(3))
    weights = [float(torch.tensor(w, dtype=torch.float32)) for w in LUMA]
    luma = (green * weights[1]).float().double()
    luma = (red.mul_(weights[0]).add_(luma)).float().double()
    return (blue.mul_(weights[2]).add_(luma)).float()


def snow(images: torch.Tensor, constants: Snow, layer: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Whitened image plus the flakes plus the flakes turned by 180 degrees."""
    levels = snow_levels(layer, constants, angle)
    turned = levels.flip(1, 2)
    if not alone(images):
        return snowed(images, levels, turned, constants.keep)
    return torch.stack([snow_on_one(*one, constants.keep) for one in zip(images, levels, turned, strict=True)])


def snowed(images: torch.Tensor, flakes: torch.Tensor, turned: torch.Tensor, keep: float) -> torch.Tensor:
    """uint8 (N,3,H,W) images under flakes and turned flakes, uint8 (N,H,W)."""
    image = unit_floats(images).float()
    white = torch.maximum(image, _grey(image).mul_(1.5).add_(0.5)[:, None]).mul_(1 - keep)
    image = image.mul_(keep).add_(white).double()
    return truncate(image.add_(unit_floats(flakes)[:, None]).add_(unit_floats(turned)[:, None]))


def snow_on_one(image: torch.Tensor, flakes: torch.Tensor, turned: torch.Tensor, keep: float) -> torch.Tensor:
    """The same of one larger picture (3,H,W), by float32 levels where they decide."""
    pixels = [part.flatten(-2) for part in (image, flakes, turned)]
    picture, below, above = (part.numpy() for part in pixels)
    luma = [np.float32(1.5 * weight) for weight in LUMA]

    def level(band: slice) -> np.ndarray:
        level = picture[:, band].astype(np.float32)
        red, green, blue = (colour * weight for colour, weight in zip(level, luma, strict=True))
        white = np.maximum(level, red + green + blue + np.float32(127.5))
        level *= np.float32(keep)
        level += white * np.float32(1 - keep)
        level += np.add(below[band], above[band], dtype=np.uint16)
        return level

    def exact(places: np.ndarray) -> np.ndarray:
        channel, site = (torch.from_numpy(part) for part in np.divmod(places, picture.shape[1]))
        colours, below, above = (part[..., site].view(-1, len(site)).T[..., None] for part in pixels)
        changed = snowed(colours[..., None], below, above, keep)
        return changed.view(-1, 3).gather(1, channel[:, None])[:, 0].numpy()

    return torch.from_numpy(settled.in_bands(picture.shape, level, exact, 30)).view(image.shape)


def plasma_side(height: int, width: int) -> int:
    """Side of the fog map: the next power of two."""
    return 1 << (max(height, width) - 1).bit_length()


def draw_fog(words: Words, height: int, width: int, constants: Fog) -> tuple[torch.Tensor | Words]:
    """side^2 - 1 numbers in [0, 1), float64 (N, side^2 - 1), coarsest level first: centres, then the two kinds of edge middles.

    On a CPU, a picture that is much smaller than a large square gets the words instead, and `fog` draws numbers as it needs them.
    """
    side = plasma_side(height, width)
    sparse = words.index.device.type == "cpu" and side**2 > max(in_bands.LEAST // 2, SPARE * height * width)
    return (words if sparse else units(words, side**2 - 1),)


def plasma(noise: torch.Tensor, side: int, constants: Fog) -> torch.Tensor:
    """Diamond-square height map on a torus, (N, side, side) in 0..1, from uniform `noise` (N, side^2 - 1).

    A level's noise is uniform in -w^2 .. w^2, since the published code scales a draw from -w .. w by w again; w is 100 at the coarsest
    level and is divided by the decay at each finer one.
    """
    n, draws = len(noise), noise.cpu().numpy()
    # the first row and column stand again behind the last, which makes the torus plain slices
    field = np.zeros((n, side + 1, side + 1), np.float32 if constants.single else np.float64)
    used, step, wobble = 0, side, 100.0

    def displaced(corners: np.ndarray) -> np.ndarray:
        nonlocal used
        count = corners.shape[1] * corners.shape[2]
        draw = draws[:, used : used + count].reshape(corners.shape) * (2 * wobble)
        used += count
        draw -= wobble
        draw *= wobble
        draw += np.divide(corners, 4)
        return draw

    while step >= 2:
        half = step // 2
        corner = field[:, ::step, ::step]
        pairs = corner[:, :-1] + corner[:, 1:]
        field[:, half::step, half::step] = displaced(pairs[:, :, :-1] + pairs[:, :, 1:])
        centre = field[:, half::step, half::step]
        above = np.concatenate([centre[:, -1:], centre[:, :-1]], 1)
        field[:, :-1:step, half::step] = displaced((centre + above) + (corner[:, :-1, :-1] + corner[:, :-1, 1:]))
        before = np.concatenate([centre[:, :, -1:], centre[:, :, :-1]], 2)
        field[:, half::step, :-1:step] = displaced((centre + before) + (corner[:, :-1, :-1] + corner[:, 1:, :-1]))
        field[:, -1], field[:, :, -1] = field[:, 0], field[:, :, 0]
        step, wobble = half, wobble / constants.decay
    field = torch.from_numpy(field[:, :-1, :-1]).to(noise.device)
    field -= field.amin((1, 2), keepdim=True)
    return field.div_(field.amax((1, 2), keepdim=True))


def plasma_of_words(words: Words, height: int, width: int, constants: Fog) -> torch.Tensor:
    """The part (N, height, width) that a picture shows of the same height map, in memory that follows the picture."""

    def draw(one: Words, start: int, count: int) -> np.ndarray:
        near = start // 4 * 4  # words are drawn from multiples of 4 on
        return units(one._replace(start=near), start - near + count)[0, start - near :].numpy()

    shape = plasma_side(height, width), constants.decay, np.float32 if constants.single else np.float64, height, width
    each = [partial(draw, words._replace(index=index[None])) for index in words.index]
    return torch.from_numpy(np.stack([in_bands.plasma(draw, *shape) for draw in each]))


def fog(images: torch.Tensor, constants: Fog, noise: torch.Tensor | Words) -> torch.Tensor:
    """clip((x + weight * plasma) * m / (m + weight)), m the brightest value of the image."""
    height, width = images.shape[2:]
    if isinstance(noise, Words):
        mist = plasma_of_words(noise, height, width, constants)[:, None]
    else:
        mist = plasma(noise, plasma_side(height, width), constants)[:, None, :height, :width]
    mist.mul_(constants.weight)
    brightest = unit_floats(images.amax((1, 2, 3), keepdim=True))
    if not alone(images):
        return fogged(images, mist, brightest, constants.weight)
    return torch.stack([fog_on_one(*one, constants.weight) for one in zip(images, mist[:, 0], brightest.view(-1), strict=True)])


def fogged(images: torch.Tensor, mist: torch.Tensor, brightest: torch.Tensor, weight: float) -> torch.Tensor:
    """uint8 images under mist, both of any shapes that fit."""
    return truncate(unit_floats(images).add_(mist).mul_(brightest).div_(brightest + weight))


def fog_on_one(image: torch.Tensor, mist: torch.Tensor, brightest: torch.Tensor, weight: float) -> torch.Tensor:
    """The same of one larger picture (3,H,W), by float32 levels where they decide."""
    share, pixels, mist = float(brightest / (brightest + weight)), image.flatten(1), mist.flatten()
    picture, haze = pixels.numpy(), mist.numpy()

    def level(band: slice) -> np.ndarray:
        level = picture[:, band].astype(np.float32)
        level *= np.float32(share)
        level += haze[band].astype(np.float32) * np.float32(255 * share)
        return level

    def exact(places: np.ndarray) -> np.ndarray:
        values, site = pixels.view(-1)[places], torch.from_numpy(places % picture.shape[1])
        return fogged(values, mist[site], brightest, weight).numpy()

    return torch.from_numpy(settled.in_bands(picture.shape, level, exact, 8)).view(image.shape)


@lru_cache(maxsize=16)
def _brightened(offset: float, device: torch.device) -> torch.Tensor:
    """What a channel of value c becomes where the largest is v, at 256 v + c, int16 (2^16); UNSURE within rounding of a whole level.

    A shift of the value scales the other two channels alike: c becomes c (v + offset) / v. Rounding cannot touch the largest, nor zeros.
    """
    level = torch.arange(256, dtype=torch.float64, device=device).div_(255.0)
    value = (level + offset).clamp_(0, 1)
    scaled = value[:, None] * level / level[:, None] * 255
    table = torch.where((scaled - scaled.round()).abs() < 1e-9, UNSURE, scaled.floor()).short()
    table[:, 0] = 0
    table.diagonal().copy_(truncate(value))
    return table.view(-1)


def brightness(images: torch.Tensor, offset: float) -> torch.Tensor:
    """HSV value plus `offset`: from a table, and by the published steps where their rounding decides."""
    largest = images.amax(1, keepdim=True)
    out = of_two_bytes(_brightened(offset, images.device), largest, images).view(-1)
    unsure = places(out, "equal", UNSURE)
    if len(unsure):
        area = images.shape[2] * images.shape[3]
        image, channel, site = unsure // (3 * area), unsure // area % 3, unsure % area
        again = brightness_in_steps(images.reshape(-1, 3, area)[image, :, site].view(-1, 3, 1, 1), offset)
        out[unsure] = again.view(-1, 3).gather(1, channel[:, None])[:, 0].short()
    return out.to(torch.uint8).view(images.shape)


def brightness_in_steps(images: torch.Tensor, offset: float) -> torch.Tensor:
    """HSV value plus `offset`. The textbook conversion there and back, literally: any shortcut moves some bytes by one."""
    red, green, blue = unit_floats(images).unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    grey = spread == 0
    saturation = torch.where(grey, 0.0, spread / value)
    hue = torch.where(red == value, (green - blue) / spread, 0.0)
    hue = torch.where(green == value, (blue - red) / spread + 2.0, hue)
    hue = torch.where(blue == value, (red - green) / spread + 4.0, hue).div_(6.0)
    hue = torch.where(hue < 0, hue + 1.0, hue).masked_fill_(grey, 0.0)
    return truncate(_hsv_to_rgb(hue, saturation, value.add_(offset).clamp_(0, 1)))


def _hsv_to_rgb(hue: torch.Tensor, saturation: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """float64 planes (N,H,W) of hue in 0..1, saturation and value -> RGB (N,3,H,W)."""
    sector = (hue * 6).floor_()
    part = hue * 6 - sector
    p = value * (1 - saturation)
    q = value * (1 - part * saturation)
    t = value * (1 - (1 - part) * saturation)
    choices = torch.stack([value, t, p, q], dim=1)
    pick = torch.tensor([[0, 3, 2, 2, 1, 0, 0], [1, 0, 0, 3, 2, 2, 1], [2, 2, 1, 0, 0, 3, 2]], device=hue.device)
    return choices.gather(1, pick[:, sector.long()].transpose(0, 1))
