"""Style transfer without a network: the Haar wavelet bands of an image get the moments of another image's bands.

An approximation of WCT2 (Yoo et al., ICCV 2019), which DeepRepair uses. WCT2 whitens and colors the features of a VGG encoder, whose
pooling is the Haar transform. Here the transform works on the pixels: in each color channel the coarse band gets the mean and the standard
deviation of the reference's, each band of differences its mean square. This needs no weights, keeps structure in place, and transfers the
effect of a corruption on a picture's energy in each scale and direction (noise adds fine detail, blur removes it, fog flattens the coarse
band).
"""

import torch
from torch import Tensor

LEVELS = 2  # of the transform, while the sides are even; with more, blocks of 8 pixels become visible
FLAT = 0.5  # gray levels: a band that varies less keeps its size, because stretching it would enlarge rounding errors


def restyle(images: Tensor, references: Tensor) -> Tensor:
    """uint8 (N,3,H,W): each image in the style of its reference, uint8 (N,3,H,W) too; an image in its own style is itself.

    Raises ValueError if the shapes differ.
    """
    if images.shape != references.shape:
        raise ValueError(f"references: expected {tuple(images.shape)}, one for each image, got {tuple(references.shape)}")
    return restyled(images.float(), references.float()).round_().clamp_(0, 255).to(torch.uint8)


def restyled(x: Tensor, reference: Tensor, levels: int = LEVELS) -> Tensor:
    """float32 (N,3,H,W) before rounding: every band of the result has the moments of the reference's band, except flat ones of `x`."""
    if levels == 0 or x.shape[2] % 2 or x.shape[3] % 2:
        mean, aim = (band.mean((2, 3), keepdim=True) for band in (x, reference))
        return scaled(x - mean, reference - aim) + aim
    (coarse, *details), (aim, *aims) = haar(x), haar(reference)
    return inverse_haar(restyled(coarse, aim, levels - 1), *map(scaled, details, aims))


def scaled(x: Tensor, reference: Tensor) -> Tensor:
    """x with the mean square of `reference` in each channel of each image; a flat channel stays."""
    size, aim = (band.square().mean((2, 3), keepdim=True).sqrt() for band in (x, reference))
    return x * torch.where(size < FLAT, 1.0, aim / size.clamp(min=FLAT))


def haar(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The orthonormal transform of one level, (N,C,H/2,W/2) each: coarse, differences across, down, and across both."""
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2


def inverse_haar(coarse: Tensor, across: Tensor, down: Tensor, both: Tensor) -> Tensor:
    """The image (N,C,H,W) whose `haar` bands these are."""
    upper = torch.stack([coarse + across + down + both, coarse - across + down - both], -1).flatten(-2)
    lower = torch.stack([coarse + across - down - both, coarse - across - down + both], -1).flatten(-2)
    return torch.stack([upper, lower], -2).flatten(-3, -2) / 2
