"""Pictures through Pillow, which encodes, decodes and reduces one larger picture faster than torch does."""

import io

import numpy as np
import torch
from PIL import Image


def to_pillow(image: torch.Tensor) -> Image.Image:
    """RGB picture of uint8 (3,H,W) on the CPU."""
    return Image.merge("RGB", [Image.fromarray(plane) for plane in image.contiguous().numpy()])


def to_tensor(pictures: list[Image.Image]) -> torch.Tensor:
    """uint8 (N,3,H,W) of RGB pictures of one size."""
    width, height = pictures[0].size
    out = np.empty((len(pictures), 3, height, width), dtype=np.uint8)
    for image, picture in zip(out, pictures, strict=True):
        for plane, band in zip(image, "RGB", strict=True):
            plane[:] = np.frombuffer(picture.tobytes("raw", band), np.uint8).reshape(height, width)
    return torch.from_numpy(out)


def through_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """Encoded with Pillow's defaults at `quality`, and decoded."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return Image.open(data, formats=("JPEG",))
