"""Classifiers other than a linear layer, for source models whose defence lies in the head: features float (N,D) -> logits (N,K)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtalib.errors import check_name
from rtalib.models.base import Classifier


class CosineHead(nn.Module):
    """scale * cos(feature, class weight): features and weights normalized, no bias (hypersphere embedding, Pang et al., NeurIPS 2020)."""

    def __init__(self, in_features: int, num_classes: int, scale: float = 10.0):
        super().__init__()
        self.in_features, self.scale = in_features, scale
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features), F.normalize(self.weight))


def max_mahalanobis_centers(classes: int, size: int, radius: float = 1.0) -> Tensor:
    """float32 (K,size): K centers of norm `radius`, every two at the widest common angle, cos = -1/(K-1) (Pang et al. 2018, algorithm 1).

    ValueError unless 2 <= K <= size + 1, the most points that can be equally far from one another.
    """
    if not 2 <= classes <= size + 1:
        raise ValueError(f"classes: expected 2 to {size + 1} centers in {size} dimensions, got {classes}")
    centers = torch.zeros(classes, size, dtype=torch.float64)
    for i in range(classes):
        for j in range(i):
            centers[i, j] = -(1 / (classes - 1) + centers[i] @ centers[j]) / centers[j, j]
        if i < classes - 1:  # the last center is determined by the others
            centers[i, i] = (1 - centers[i] @ centers[i]).sqrt()
    return (radius * centers).float()


class CenterHead(nn.Module):
    """-|z - mu_k|^2 for z a linear map of the features and mu_k the fixed max-Mahalanobis centers (MMC, Pang et al., ICLR 2020).

    The map gives z every sign, which pooled activations lack; BatchNorm before it, because squares of this size learn from features with
    a large mean very slowly. The logits are never positive.
    """

    def __init__(self, in_features: int, num_classes: int, size: int = 256, radius: float = 10.0):
        super().__init__()
        self.in_features = in_features
        self.embed = nn.Sequential(nn.BatchNorm1d(in_features), nn.Linear(in_features, size))
        self.register_buffer("centres", max_mahalanobis_centers(num_classes, size, radius))

    def forward(self, features: Tensor) -> Tensor:
        z = self.embed(features).float()  # squares of differences need more than autocast's precision
        return -(z[:, None] - self.centres).square().sum(2)


HEADS = {"cosine": CosineHead, "centres": CenterHead}  # names in keys of stored networks, as is the buffer's


def with_head(model: Classifier, kind: str, num_classes: int) -> Classifier:
    """Replace the linear classifier of `model` by a fresh one of that kind, a name of HEADS; returns `model`."""
    check_name("head", kind, HEADS)
    model.classifier = HEADS[kind](model.classifier.in_features, num_classes)
    return model
