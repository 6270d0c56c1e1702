"""Style transfer in Haar bands: the transform against matrices, moments that are reached, and what stays."""

import pytest
import torch
from pictures import make_images

from rtalib.augment.style_transfer import haar, inverse_haar, restyle, restyled, scaled
from rtalib.corruptions import corrupt


def test_haar_is_the_orthonormal_transform_and_invertible() -> None:
    x = torch.randn(3, 2, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def matrix(side: int) -> torch.Tensor:
        low, high = (torch.kron(torch.eye(side // 2), torch.tensor([[1.0, sign]])) / 2**0.5 for sign in (1, -1))
        return torch.cat([low, high]).double()

    whole = matrix(8) @ x @ matrix(6).T
    expected = whole[..., :4, :3], whole[..., :4, 3:], whole[..., 4:, :3], whole[..., 4:, 3:]
    for band, wanted in zip(haar(x), expected, strict=True):
        assert torch.allclose(band, wanted)
    assert torch.allclose(inverse_haar(*haar(x)), x)


def test_every_band_has_the_moments_of_the_reference() -> None:
    generator = torch.Generator().manual_seed(1)
    x, reference = (255 * torch.rand(6, 3, 32, 32, generator=generator).double() for _ in range(2))
    reference = reference / 3 + 20
    found = restyled(x, reference)
    for _ in range(2):
        (found, *details), (reference, *aims) = haar(found), haar(reference)
        for band, aim in zip(details, aims, strict=True):
            assert torch.allclose(band.square().mean((2, 3)), aim.square().mean((2, 3)))
    for moment in (torch.mean, torch.var):
        assert torch.allclose(moment(found, (2, 3)), moment(reference, (2, 3)))


@pytest.mark.parametrize("size", [(32, 32), (12, 20), (9, 7)])
def test_an_image_in_its_own_style_is_itself(size: tuple[int, int]) -> None:
    images = make_images(12, *size, seed=3)
    images[0] = 17  # flat
    before = images.clone()
    assert torch.equal(restyle(images, images), images) and torch.equal(images, before)


def test_flat_bands_are_not_stretched() -> None:
    x, reference = torch.full((1, 3, 8, 8), 0.1), torch.full((1, 3, 8, 8), 30.0)
    assert torch.equal(scaled(x, reference), x) and torch.allclose(scaled(10 * x, reference), reference)
    assert torch.allclose(restyled(x, reference), reference)  # but they are moved


@pytest.mark.parametrize("corruption, more", [("gaussian_noise", True), ("glass_blur", False), ("fog", False)])
def test_a_corruption_s_fine_detail_is_carried_over(corruption: str, more: bool) -> None:
    images = make_images(24, 32, 32, seed=5)
    images = (images.float() * 0.5 + 60).byte()  # room for detail on either side
    others = images.roll(1, 0)
    fine = [haar(picture.float())[3].std() for picture in (restyle(images, corrupt(others, corruption, 5)), restyle(images, others))]
    assert (fine[0] > fine[1]) == more


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"references: expected \(4, 3, 8, 8\), one for each image, got \(3, 3, 8, 8\)"):
        restyle(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 3, 8, 8, dtype=torch.uint8))
