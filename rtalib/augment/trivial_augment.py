"""TrivialAugment (Müller and Hutter 2021) with a draw per image: one operation, one of 31 magnitudes, a random sign."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rtalib import rng
from rtalib.augment import pil_ops
from rtalib.errors import check_images, check_index, check_name, unknown

BINS = 31
# Largest magnitude of each signed operation: the wide space of the paper, and its narrower one (AutoAugment's ranges).
WIDE = {"shear": 0.99, "translate": 32.0, "rotate": 135.0, "enhance": 0.99}
NARROW = {"shear": 0.3, "translate": 10.0, "rotate": 30.0, "enhance": 0.9}
SIGNED = {
    "ShearX": "shear",
    "ShearY": "shear",
    "TranslateX": "translate",
    "TranslateY": "translate",
    "Rotate": "rotate",
    "Brightness": "enhance",
    "Color": "enhance",
    "Contrast": "enhance",
    "Sharpness": "enhance",
}
TRIVIAL_OPERATIONS = ("Identity", *SIGNED, "Posterize", "Solarize", "AutoContrast", "Equalize")


def magnitudes(operation: str, *, wide: bool = True) -> list[float]:
    """The 31 magnitudes of an operation from weakest to strongest; [0.0] if it has none.

    Shear as a slope, translation in pixels, rotation in degrees, enhancement as the factor's distance from 1, bits kept by Posterize
    (8 to 2, narrow: to 4), threshold of Solarize (255 to 0).
    """
    if operation in SIGNED:
        return torch.linspace(0.0, (WIDE if wide else NARROW)[SIGNED[operation]], BINS, dtype=torch.float32).tolist()
    if operation == "Posterize":
        lost = 6 if wide else 4
        return [float(8 - round(k * lost / (BINS - 1))) for k in range(BINS)]
    if operation == "Solarize":
        return torch.linspace(255.0, 0.0, BINS, dtype=torch.float32).tolist()
    if operation in TRIVIAL_OPERATIONS:
        return [0.0]
    raise unknown("operation", operation, TRIVIAL_OPERATIONS)


def apply_trivial(images: Tensor, operation: str, magnitude: float) -> Tensor:
    """One operation at one magnitude on uint8 (N,3,H,W); nearest neighbor, black outside the image.

    torchvision's bytes. Three operations equal Pillow's and are shared with AugMix; the geometric ones, which are bilinear there, and
    AutoContrast, which torchvision rounds otherwise, are not.
    """
    level = torch.tensor([magnitude], dtype=torch.float32, device=images.device)
    if operation == "Identity":
        return images
    if operation == "Posterize":
        return pil_ops.posterize(images, level)
    if operation == "Solarize":
        return pil_ops.solarize(images, level)
    if operation == "Equalize":
        return pil_ops.equalize(images)
    check_name("operation", operation, TRIVIAL_OPERATIONS)
    with _float32(images.device):
        return _by_torchvision(images, operation, magnitude)


@contextmanager
def _float32(device: torch.device) -> Iterator[None]:
    """torchvision's grids follow torch's default dtype and autocast, by which a nearest neighbor may move."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_default_dtype(before)


def _by_torchvision(images: Tensor, operation: str, magnitude: float) -> Tensor:
    import torchvision.transforms.functional as V  # here, because importing it takes seconds

    if operation in ("ShearX", "ShearY"):
        # about the upper left corner, as PIL's affine transform does
        degrees = math.degrees(math.atan(magnitude))
        shear = [degrees, 0.0] if operation == "ShearX" else [0.0, degrees]
        return V.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
    if operation in ("TranslateX", "TranslateY"):
        shift = [int(magnitude), 0] if operation == "TranslateX" else [0, int(magnitude)]
        return V.affine(images, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0])
    if operation == "Rotate":
        return V.rotate(images, magnitude)
    if operation == "AutoContrast":
        return V.autocontrast(images)
    enhance = {
        "Brightness": V.adjust_brightness,
        "Color": V.adjust_saturation,
        "Contrast": V.adjust_contrast,
        "Sharpness": V.adjust_sharpness,
    }
    return enhance[operation](images, 1.0 + magnitude)


def trivial_augment(images: Tensor, *, seed: int, index: Tensor, wide: bool = True) -> Tensor:
    """uint8 (N,3,H,W): one operation per image, operation and magnitude uniform, sign random; drawn from (seed, index of the image).

    index: int64 (N,). wide=True is torchvision's TrivialAugmentWide; a shift by 32 pixels can blank a 32-pixel image, which the narrower
    space cannot.
    """
    images = check_images(images)
    index = check_index(index, len(images))
    draws = [
        rng.integers(seed, index, rng.stream("trivial", what), 1, high)[:, 0]
        for what, high in (("operation", len(TRIVIAL_OPERATIONS)), ("magnitude", BINS), ("sign", 2))
    ]
    operation, level, sign = draws
    levels = [(BINS * magnitudes(name, wide=wide))[:BINS] for name in TRIVIAL_OPERATIONS]  # the same for all, if it has none
    table = torch.tensor(levels, dtype=torch.float64)
    signed = torch.tensor([name in SIGNED for name in TRIVIAL_OPERATIONS])
    magnitude = table[operation, level] * (1 - 2 * sign * signed[operation])
    result = images.clone()
    groups, group = torch.stack([operation.double(), magnitude], dim=1).unique(dim=0, return_inverse=True)
    for number, (name, value) in enumerate(groups.tolist()):
        at = (group == number).nonzero().squeeze(1)
        result[at] = apply_trivial(images[at], TRIVIAL_OPERATIONS[int(name)], value)
    return result
