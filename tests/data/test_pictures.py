"""Every pixel format is scaled rightly or refused by name, pictures are upright, and no format decodes but the named ones."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from encoded import ORIENTATION, POSTSCRIPT, chunk, encode, grey_tiff, oriented, png_of, three_ways
from image_files import pictures as random_pictures
from PIL import Image, ImageOps

import rtalib
from rtalib.data import pictures
from rtalib.data.loading import load_dataset
from rtalib.report.files import figures

RAMP = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
TALL, WIDE = (64, 48), (48, 64)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTALIB_CACHE", str(tmp_path / "cache"))


def read(data: bytes) -> np.ndarray:
    return np.asarray(pictures.read("x", data))


# ------------------------------------------------------------------------------------------------------- levels and channels


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.png", encode(RAMP, "PNG")),
        ("x.tif", encode(RAMP, "TIFF")),
        ("x.tiff", encode(Image.frombytes("I;16B", (32, 32), RAMP.astype(">u2").tobytes()), "TIFF")),
        ("x.pgm", encode(RAMP.astype(np.int32), "PPM")),
        ("twelve.tif", grey_tiff(RAMP >> 4, 12)),
    ],
)
def test_16_and_12_bits_become_8_everywhere(tmp_path, name, data):
    found = three_ways(tmp_path, name, data)
    for way in ("load_dataset", "corrupt"):
        assert np.array_equal(found[way], np.stack([RAMP >> 8] * 3)), way
        assert found[way].mean() == 127.5 and (found[way] == 255).mean() == 1 / 256
    means = ImageOps.fit(Image.fromarray((RAMP >> 8).astype(np.uint8)).convert("RGB"), (16, 16), Image.Resampling.BOX)
    assert np.array_equal(found["rta"], np.asarray(means).transpose(2, 0, 1))


def test_deep_grey_agrees_with_deep_color_and_with_white_is_zero():
    color = b"P6 32 32 65535\n" + np.stack([RAMP] * 3, axis=-1).astype(">u2").tobytes()  # Pillow scales this one itself
    assert np.abs(read(color).astype(int) - (RAMP >> 8)[..., None]).max() <= 1
    assert np.array_equal(read(grey_tiff(RAMP, 16, white_is_zero=True))[..., 0], 255 - (RAMP >> 8))


@pytest.mark.filterwarnings("ignore:.*TorchVision are deprecated")
def test_deep_color_is_transparent_where_all_its_bits_are_the_key_s(tmp_path):
    levels = np.random.default_rng(0).integers(0, 65536, (16, 20, 3)).astype(">u2")
    key = (0x1234, 0x5678, 0x00FF)
    levels[0, 0], levels[0, 1], levels[1, 0] = key, (0x12FF, 0x5678, 0x00FF), 0xFF12
    scanlines = b"".join(b"\0" + line.tobytes() for line in levels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 16, 16, 2, 0, 0, 0))
    for colors in (key, (255, 255, 255)):
        body = chunk(b"tRNS", struct.pack(">HHH", *colors)) + chunk(b"IDAT", zlib.compress(scanlines)) + chunk(b"IEND", b"")
        expected = np.where((levels == colors).all(axis=2, keepdims=True), 255, levels >> 8)
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
        assert np.array_equal(np.asarray(pictures.read("x", tmp_path / "x.png")), expected)
        assert np.array_equal(read((tmp_path / "x.png").read_bytes()), expected)


@pytest.mark.skipif(not pictures.AVIF, reason="this build of Pillow reads no AVIF")
def test_avif_is_read_as_pillow_reads_it(tmp_path):
    data = encode(random_pictures(1, 24)[0], "AVIF")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(read(data), expected)
    assert np.array_equal(three_ways(tmp_path, "x.avif", data)["load_dataset"], expected.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encode(RAMP.astype(np.int32), "TIFF"), "integers of 16 signed or 32 bits"),
        (encode((RAMP / 65535).astype(np.float32), "TIFF"), "floats"),
        (grey_tiff(RAMP, 16, signed=True), "integers of 16 signed or 32 bits"),
    ],
)
def test_levels_without_a_scale_are_refused_by_file_name(tmp_path, data, words):
    for way, error in three_ways(tmp_path, "deep.tif", data).items():
        assert isinstance(error, (ValueError, OSError)), way
        assert re.search(f"deep.tif cannot be decoded as an image: it holds {words}, and no file states", str(error)), way


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA", "RGBA"])
def test_what_every_viewer_agrees_on_is_as_pillow_converts_it(tmp_path, mode):
    image = Image.fromarray(random_pictures(1, 16)[0]).convert(mode)
    name, data = ("x.jpg", encode(image, "JPEG")) if mode == "CMYK" else ("x.png", encode(image, "PNG"))
    with Image.open(tmp_path / name if (tmp_path / name).write_bytes(data) else name) as stored:
        expected = np.asarray(stored.convert("RGB")).transpose(2, 0, 1)
    for way, pixels in three_ways(tmp_path / "set", name, data).items():
        assert np.array_equal(pixels, expected), way


def test_transparent_pixels_are_composed_over_white(tmp_path):
    half = np.zeros((16, 16, 4), np.uint8)
    half[..., 0], half[:, 4:, 3], half[:, 8:, 3] = 200, 128, 255
    for pixels in three_ways(tmp_path / "rgba", "x.png", encode(half, "PNG")).values():
        assert pixels[:, 0, 0].tolist() == [255, 255, 255] and pixels[:, 0, 15].tolist() == [200, 0, 0]
        assert np.abs(pixels[:, 0, 5] - np.array([227, 127, 127])).max() <= 1
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.paste(0, (8, 0, 16, 16))
    for name, format in (("x.gif", "GIF"), ("x.png", "PNG")):
        for pixels in three_ways(tmp_path / format, name, encode(palette, format, transparency=1)).values():
            assert pixels[:, 0, 0].tolist() == [255, 255, 255] and pixels[:, 0, 15].tolist() == [200, 0, 0]
    grey = encode(Image.fromarray(RAMP), "PNG", transparency=int(RAMP[3, 3]))
    assert read(grey)[3, 3].tolist() == [255] * 3 and np.delete(read(grey), 3, 0).max(initial=0) == 255
    assert np.array_equal(np.delete(read(grey)[..., 0].ravel(), 99), np.delete((RAMP >> 8).ravel(), 99))


# ------------------------------------------------------------------------------------------------------- orientation


def lying() -> np.ndarray:
    """48x64 pixels whose eight turns all differ, and survive JPEG."""
    corner = np.zeros((*WIDE, 3), np.uint8)
    corner[:16, :16], corner[:16, 40:] = (255, 0, 0), (0, 255, 0)
    return corner


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "format", "options"),
    [
        ("x.jpg", "JPEG", {"quality": 95, "subsampling": 0}),
        ("x.png", "PNG", {}),
        ("x.webp", "WEBP", {"lossless": True}),
        ("x.tif", "TIFF", {}),
        ("y.tif", "TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_pictures_are_upright_for_all_readers(tmp_path, orientation, name, format, options):
    data = oriented(lying(), format, orientation, **options)
    upright = np.asarray(turned_by_hand(lying(), orientation)).transpose(2, 0, 1)
    found = three_ways(tmp_path, name, data)
    for way in ("load_dataset", "corrupt"):
        assert found[way].shape == upright.shape and np.abs(found[way].astype(int) - upright).mean() < 2, way
    square = ImageOps.fit(Image.fromarray(upright.transpose(1, 2, 0)), (16, 16), Image.Resampling.BOX)
    assert np.abs(found["rta"].astype(int) - np.asarray(square).transpose(2, 0, 1)).mean() < 2


def turned_by_hand(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF 2.3 says of its tag: which side of the scene the first row and the first column are."""
    turned = pixels if orientation <= 4 else pixels.transpose(1, 0, 2)
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[orientation]
    return turned[::rows, ::columns]


def test_orientation_behind_the_pixels_of_a_png_and_in_xmp_counts(tmp_path):
    whole = oriented(lying(), "PNG", 6)
    at, length = whole.index(b"eXIf") - 4, int.from_bytes(whole[whole.index(b"eXIf") - 4 : whole.index(b"eXIf")], "big")
    exif, rest = whole[at : at + 12 + length], whole[:at] + whole[at + 12 + length :]
    behind = rest[:-12] + exif + rest[-12:]
    assert read(behind).shape[:2] == read(whole).shape[:2] == TALL
    found = three_ways(tmp_path, "x.png", behind)
    assert found["corrupt"].shape == found["load_dataset"].shape == (3, *TALL)
    words = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    assert read(rest[:33] + chunk(b"iTXt", words) + rest[33:]).shape[:2] == TALL


TIFF_HEADS = (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", bytes(30), b"MM\0*\0\0\0\x08\0\1" + b"\1\x12" * 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0" + head for head in TIFF_HEADS])
def test_damaged_exif_says_nothing(exif):
    assert read(encode(lying(), "JPEG", exif=exif)).shape[:2] == WIDE
    assert read(oriented(lying(), "JPEG", 9)).shape[:2] == WIDE


def test_a_lying_and_an_upright_photo_of_one_size_load_together(tmp_path):
    for k, (pixels, orientation) in enumerate([(lying(), 6), (np.zeros((*TALL, 3), np.uint8), 1), (lying(), 8)]):
        (tmp_path / "train" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "a" / f"{k}.jpg").write_bytes(oriented(pixels, "JPEG", orientation))
    assert load_dataset(tmp_path, "train").images.shape == (3, 3, *TALL)
    (tmp_path / "train" / "a" / "3.jpg").write_bytes(oriented(lying(), "JPEG", 1))
    with pytest.raises(ValueError, match=r"3.jpg is 64x48 pixels, but .*0.jpg is 48x64; all images must share one size"):
        load_dataset(tmp_path, "train")


# ------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["1.png", "1.tif", "1.jpg"])
def test_a_postscript_program_is_not_run(tmp_path, name):
    for way, error in three_ways(tmp_path, name, POSTSCRIPT).items():
        assert isinstance(error, ValueError) and f"{name} cannot be decoded as an image: it is no PNG, JPEG," in str(error), way


def test_a_postscript_program_among_a_run_s_figures_is_not_run(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(POSTSCRIPT)
    left_out = []
    assert figures(tmp_path, left_out) == [] and len(left_out) == 1 and "a.png" in left_out[0]


def test_pictures_are_opened_in_one_place():
    """All of Pillow's formats would be tried elsewhere. A corruption decodes the bytes that it has just encoded, as JPEG alone."""
    files = [file for file in Path(rtalib.__file__).parent.rglob("*.py") if "Image.open(" in file.read_text()]
    assert sorted(file.name for file in files) == ["by_pillow.py", "pictures.py"]
    assert all("formats=" in line for file in files for line in file.read_text().splitlines() if "Image.open(" in line)
    assert set(pictures.FORMATS) <= set(Image.registered_extensions().values()) | {"PPM"}
    assert not {"EPS", "PDF", "WMF", "FPX", "MPEG"} & set(pictures.FORMATS)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF"])
def test_each_format_is_read_whatever_its_suffix(tmp_path, format):
    image = random_pictures(1, 16)[0]
    data = encode(image, format, **({"lossless": True} if format == "WEBP" else {}))
    exact = format not in ("JPEG", "GIF")
    assert not exact or np.array_equal(read(data), image)
    (tmp_path / "x.png").write_bytes(data)
    assert np.array_equal(np.asarray(pictures.read("x", tmp_path / "x.png")), read(data))


def test_a_phone_s_jpeg_with_several_pictures_is_its_first():
    frames = [Image.fromarray(lying()), Image.fromarray(255 - lying())]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95)
    assert np.abs(read(data).astype(int) - lying()).mean() < 3


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [int(pictures.MAX_PIXELS**0.5) + 1, 12_000, 60_000])
def test_headers_are_not_believed_by_any_reader(tmp_path, side):
    for way, error in three_ways(tmp_path, "huge.png", png_of(side, side)).items():
        assert isinstance(error, ValueError) and re.search("huge.png cannot be decoded as an image: .*pixels", str(error)), way


def test_an_odd_size_is_told_by_its_header(tmp_path, monkeypatch):
    for k, data in enumerate((encode(random_pictures(1, 16)[0], "PNG"), png_of(8000, 8000))):  # whose pixels are missing
        (tmp_path / "train" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "a" / f"{k}.png").write_bytes(data)
    with pytest.raises(ValueError, match="1.png is 8000x8000 pixels, but .*0.png is 16x16"):
        load_dataset(tmp_path, "train")


def test_orientation_is_exif_s_tag():
    assert ORIENTATION == 274 and torch.equal(torch.tensor(sorted(pictures.TURNS)), torch.arange(2, 9))
