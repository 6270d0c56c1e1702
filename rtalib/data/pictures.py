"""Encoded pictures as 8-bit RGB, upright. The only place that opens picture files, and FORMATS is all that may decode.

Pillow recognizes a file by its content, and some of its 40 formats run other programs (EPS starts Ghostscript): so formats are named.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.ExifTags import Base
from PIL.Image import Transpose

from rtalib.data.bounds import one_line

AVIF = ("AVIF",) if features.check("avif") else ()  # most builds of Pillow have it since 11.3
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF", *AVIF)
SUFFIXES = {".jpeg", ".jpg", ".jfif", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".gif"}
SUFFIXES |= {".avif"} if AVIF else set()
OTHER_PICTURES = {".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".ico", ".tga", ".psd", ".eps", ".pcx", ".dng", ".cr2", ".nef", ".arw"}
OTHER_PICTURES -= SUFFIXES
MAX_PIXELS = 2**26  # of one picture, refused by its header alone; Pillow only warns below 2.7 times as many
TURNS = {  # EXIF's orientation -> what turns the picture upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
SHOWN = 20  # broken pictures after which no more are looked for
Source = Path | bytes
Like = tuple[str, tuple[int, int]]  # what to call a picture in an error, and its width and height


def read(label: str, source: Source, like: Like | None = None) -> Image.Image:
    """The picture in mode RGB, turned upright by its EXIF orientation. Of an animation or a stack, the first frame.

    Grey levels of 16 bits keep their upper 8 (black 0, white 65535), as Pillow does for color; so do 12-bit TIFFs. Transparent pixels are
    composed over white, as on a page. Palettes, CMYK and single channels become RGB. ValueError names the picture by `label` if it cannot
    be decoded, if its format is none of FORMATS, or if it holds integers or floats of 32 bits, for which no file states what is white.
    like: another picture; ValueError if this one has another size, by its header if that tells.
    """
    with opened(label, source) as image:
        may_fit = like is None or sorted(image.size) == sorted(like[1])  # the header's size is that before the turn
        picture = _upright_rgb(image, source) if may_fit else image
    if like is not None and picture.size != like[1]:
        sizes = f"{label} is {picture.width}x{picture.height} pixels, but {like[0]} is {like[1][0]}x{like[1][1]}"
        raise ValueError(f"{sizes}; all images must share one size, which side= gives them")
    return picture


def square(label: str, source: Source, side: int) -> Image.Image:
    """The picture, side x side pixels large; see `read` and `fitted`."""
    return fitted(read(label, source), side)


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """side x side pixels: the longer side cropped around the middle, each pixel the mean of those under it."""
    return ImageOps.fit(picture, (side, side), Image.Resampling.BOX)


def size(label: str, source: Source) -> tuple[int, int]:
    """(width, height) as the header states them, before any turn. ValueError as in `read`, as far as the header tells."""
    with opened(label, source) as image:
        return image.size


@contextmanager
def opened(label: str, source: Source) -> Iterator[Image.Image]:
    """The picture as Pillow opens it, decoded on demand. What fails in the block is a ValueError that names the picture, too."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"its header says {image.width}x{image.height} pixels, more than {MAX_PIXELS:,} in all")
            yield image
    except UnidentifiedImageError as error:
        raise ValueError(f"{label} cannot be decoded as an image: it is no {', '.join(FORMATS)}, or is damaged") from error
    except Exception as error:  # a damaged picture can raise nearly anything
        raise ValueError(f"{label} cannot be decoded as an image: {one_line(error)}") from error


def all_errors(errors: Sequence[tuple[str, str]]) -> ValueError:
    """One error for all (label, message) that were found, to be raised by the caller: the first in full, of the others the labels."""
    (_, first), *others = errors
    if not others:
        return ValueError(first)
    names = ", ".join(label for label, _ in others[: SHOWN - 1])
    return ValueError(f"{first} (and {len(others)}{' or more' if len(errors) >= SHOWN else ''} other pictures cannot be used: {names})")


def _upright_rgb(image: Image.Image, source: Source) -> Image.Image:
    deep = image.format == "PNG" and image.tile[0].args == "RGB;16B"  # Pillow keeps the upper bytes; afterwards nothing tells it
    image.load()  # first: a PNG may hold its EXIF behind the pixels, and a TIFF turns itself while it loads
    turn = _turn(image)
    picture = _without_key(image, source) if deep and "transparency" in image.info else _rgb(image)
    return picture if turn is None else picture.transpose(turn)


def _turn(image: Image.Image) -> Transpose | None:
    try:
        return TURNS.get(image.getexif().get(Base.Orientation))
    except Exception:  # damaged EXIF, which can raise nearly anything, says nothing: the picture lies as it is stored, as in any viewer
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_deep_grey(image)
    if image.mode in ("I", "F"):
        kind = "integers of 16 signed or 32 bits" if image.mode == "I" else "floats"
        raise ValueError(f"it holds {kind}, and no file states which of them is white; convert it to 8 bits")
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Levels of 16 bits (12 in some TIFFs) to 8 bits; Pillow's own conversion clips them at 255, which turns all but black white."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    bits = tags.get(258, (16,))[0]
    levels = np.asarray(image)
    grey = (levels >> (bits - 8)).astype(np.uint8)
    if tags.get(262) == 0:  # WhiteIsZero
        grey = 255 - grey
    if "transparency" in image.info:
        grey[levels == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _without_key(image: Image.Image, source: Source) -> Image.Image:
    """A PNG of 16-bit color, white where all 16 bits are those of its transparent color."""
    import torch
    from torchvision.io import ImageReadMode, decode_png  # here, because importing it takes seconds

    data = np.frombuffer(source if isinstance(source, bytes) else source.read_bytes(), np.uint8)
    levels = decode_png(torch.from_numpy(data.copy()), ImageReadMode.RGB).numpy().transpose(1, 2, 0)
    shown = (levels != np.array(image.info["transparency"])).any(axis=2, keepdims=True)
    return Image.fromarray(np.where(shown, np.asarray(image), np.uint8(255)))


def _on_white(image: Image.Image) -> Image.Image:
    shown = image.convert("RGBA")
    if shown.getchannel("A").getextrema()[0] == 255:
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
