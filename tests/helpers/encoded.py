"""Pictures of odd formats, and the three readers of the library through which a picture can come."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from rtalib.corruptions.on_disk.inputs import find
from rtalib.data.loading import load_dataset
from rtalib.yours.your_images import _picture

ORIENTATION = 0x0112
POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 16 16
%%EndComments
1 0 0 setrgbcolor 0 0 16 16 rectfill showpage
"""


def encode(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, format, **options)
    return stream.getvalue()


def oriented(pixels: np.ndarray, format: str, orientation: int, **options) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(pixels, format, exif=exif, **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int) -> bytes:
    """A PNG of some bytes whose header promises an image of that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def grey_tiff(levels: np.ndarray, bits: int, white_is_zero: bool = False, signed: bool = False) -> bytes:
    """A TIFF of one channel (H,W), 12 or 16 bits deep, as instruments write them."""
    height, width = levels.shape
    flat = levels.astype("<u2").ravel()
    if bits == 12:
        pairs = flat.reshape(-1, 2).astype(np.uint32)
        data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
    else:
        data = flat.tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 0, 277: 1, 278: height, 279: len(data)}
    tags |= {339: 2} if signed else {}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def three_ways(folder: Path, name: str, data: bytes) -> dict[str, np.ndarray | Exception]:
    """uint8 (3,H,W), or the error, of one picture as load_dataset, `rtalib corrupt` and `rtalib rta` (at 16 px) read it."""
    for split, content in (("train", data), ("test", encode(np.zeros((16, 16, 3), np.uint8), "PNG"))):
        (folder / split / "a").mkdir(parents=True, exist_ok=True)
        (folder / split / "a" / (name if split == "train" else "test.png")).write_bytes(content)
    ways = {
        "load_dataset": lambda: load_dataset(folder, "train").images[0].numpy(),
        "corrupt": lambda: next(iter(find(str(folder), "train", None, None, None)[0].batches(2**20)))[1][0].numpy(),
        "rta": lambda: _picture(folder / "train" / "a" / name, 16).transpose(2, 0, 1),
    }
    found = {}
    for way, read in ways.items():
        try:
            found[way] = read()
        except (ValueError, OSError) as error:
            found[way] = error
    return found
