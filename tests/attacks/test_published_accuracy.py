"""Our PGD on a network that nobody here trained: near the published accuracy under attack, and above the verified bound."""

import pytest
from published_networks import copies, published_network

from rtalib import attacks

# ResNet-4B, percent: PGD accuracy, and verified accuracy by CROWN, below which no attack can come (VNN-COMP 2021, cifar10_resnet).
PUBLISHED = {1: (69.75, 23.28), 2: (61.41, 0.24)}


@pytest.mark.slow
@pytest.mark.parametrize("radius", PUBLISHED)
def test_accuracy_of_resnet4b_under_pgd_is_the_published_one(radius):
    """On 1,000 images of the JPEG copy, whose loss does not touch an adversarially trained network."""
    network, data = published_network("resnet4b"), copies(1000)
    recipe = attacks.with_eps(attacks.PGD(steps=20, stop_on_success=True), radius / 255)
    left = 100 * (1 - recipe.record(network, data.images / 255, data.labels).success_rate)
    attacked, verified = PUBLISHED[radius]
    assert left == pytest.approx(attacked, abs=1.5) and left > verified
