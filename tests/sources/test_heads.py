import pytest
import torch

from rtalib import models
from rtalib.sources.heads import CenterHead, CosineHead, max_mahalanobis_centers, with_head


@pytest.mark.parametrize(("classes", "size"), [(2, 1), (10, 9), (10, 256), (100, 256)])
def test_centers_are_equally_long_and_as_far_apart_as_can_be(classes: int, size: int) -> None:
    centers = max_mahalanobis_centers(classes, size, radius=10.0).double()
    cosines = centers @ centers.T / 100
    assert torch.allclose(cosines, torch.full_like(cosines, -1 / (classes - 1)).fill_diagonal_(1.0), atol=1e-5)
    assert torch.allclose(centers.sum(0), torch.zeros(size).double(), atol=1e-4)


def test_more_centers_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 to 9 centers in 8 dimensions, got 10"):
        max_mahalanobis_centers(10, 8)


def test_center_logits_are_negative_squared_distances() -> None:
    head, features = CenterHead(6, 3, size=4, radius=2.0).eval(), torch.randn(5, 6)
    z = head.embed(features)
    for k, logits in enumerate(head(features).T):
        assert torch.allclose(logits, -((z - head.centres[k]) ** 2).sum(1), atol=1e-5)
    assert not any(name.endswith("centres") for name, _ in head.named_parameters())


def test_cosine_logits_do_not_depend_on_lengths() -> None:
    head, features = CosineHead(6, 3, scale=10.0), torch.randn(5, 6)
    logits = head(features)
    assert torch.allclose(logits[2, 1], 10 * torch.cosine_similarity(features[2], head.weight[1], dim=0), atol=1e-5)
    with torch.no_grad():
        head.weight *= 3
    assert torch.allclose(head(7 * features), logits, atol=1e-5) and logits.abs().max() <= 10


@pytest.mark.parametrize("kind", ["cosine", "centres"])
def test_a_head_fits_any_network(kind: str) -> None:
    model = with_head(models.build("tiny"), kind, 7)
    assert model(torch.rand(4, 3, 16, 16)).shape == (4, 7)
    assert model.features(torch.rand(4, 3, 16, 16)).shape[1] == model.classifier.in_features


def test_an_unknown_head_is_named() -> None:
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        with_head(models.build("tiny"), "cosin", 10)
