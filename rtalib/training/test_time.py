"""Adaptation to images without labels: BatchNorm statistics estimated again (Schneider et al. 2020), and TENT (Wang et al. 2021).

Both return an adapted copy whose statistics are fixed, so that its result for an image does not depend on the images around it.
"""

import copy

import torch
from torch import nn

from rtalib import rng
from rtalib.data.images import pixels
from rtalib.errors import check_images, check_number
from rtalib.models.inference import best_device

BATCH = 200  # images, TENT's for CIFAR-10
LR = 1e-3  # of Adam, TENT's for CIFAR-10
PRIOR = 16.0  # images that the source's statistics count for


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The BatchNorm layers with running statistics; ValueError if there is none."""
    found = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    found = [module for module in found if module.running_mean is not None]
    if not found:
        raise ValueError("network: it has no BatchNorm layer with running statistics")
    return found


def reestimate_statistics(network: nn.Module, images: torch.Tensor, *, prior: float = PRIOR, batch_size: int = BATCH) -> nn.Module:
    """A copy whose BatchNorm means and variances are those of `images` (N,3,H,W) uint8, mixed with its own (Schneider et al. 2020, Eq. 2).

    prior: for how many images the source's statistics count, 0 drops them: new = (prior * source + N * target) / (prior + N). A batch is
    normalized by its own statistics while later layers are estimated. ValueError without BatchNorm, or for fewer than two images.
    """
    check_number("prior", prior, 0)
    adapted, layers = _prepared(network, images)
    source = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over batches
    with torch.no_grad():
        for batch in _batches(images, torch.arange(len(images)), batch_size):
            adapted(pixels(batch.to(layers[0].running_mean.device)))
    share = prior / (prior + len(images))
    originals = batch_norms(network)
    for layer, original, (mean, variance) in zip(layers, originals, source, strict=True):
        layer.running_mean.lerp_(mean, share)
        layer.running_var.lerp_(variance, share)
        layer.momentum = original.momentum
    return adapted.eval()


def minimize_entropy(
    network: nn.Module,
    images: torch.Tensor,
    *,
    epochs: int = 1,
    lr: float = LR,
    prior: float = PRIOR,
    batch_size: int = BATCH,
    seed: int = 0,
) -> nn.Module:
    """TENT: a copy whose BatchNorm scales and shifts minimize the mean entropy of its predictions on `images` (N,3,H,W) uint8.

    Adam, with the statistics of each batch, as published; then the statistics are estimated once more, as in `reestimate_statistics`.
    seed: of the order of the images. Errors as there; ValueError if no BatchNorm layer has a scale and a shift.
    """
    check_number("epochs", epochs, 1, integer=True)
    check_number("lr", lr, 0, open_low=True)
    adapted, layers = _prepared(network, images)
    device = layers[0].running_mean.device
    weights = [value for layer in layers for value in (layer.weight, layer.bias) if value is not None]
    if not weights:
        raise ValueError(f"network: no BatchNorm layer of {type(network).__name__} has a scale and a shift")
    source = {name: value.clone() for name, value in adapted.state_dict().items() if "running" in name}
    adapted.requires_grad_(False)
    for value in weights:
        value.requires_grad_(True)
    optimizer = torch.optim.Adam(weights, lr)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(rng.word(seed, epoch, rng.stream("tent"))))
        for batch in _batches(images, order, batch_size):
            logits = adapted(pixels(batch.to(device))).float()
            loss = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    adapted.load_state_dict(adapted.state_dict() | source)
    for ours, given in zip(adapted.parameters(), network.parameters(), strict=True):
        ours.requires_grad_(given.requires_grad)
    return reestimate_statistics(adapted, images, prior=prior, batch_size=batch_size)


def _prepared(network: nn.Module, images: torch.Tensor) -> tuple[nn.Module, list[nn.modules.batchnorm._BatchNorm]]:
    """A copy in eval mode whose BatchNorm layers alone are in train mode, and these layers: dropout stays off."""
    batch_norms(network)
    images = check_images(images)
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2 to estimate statistics from, got {len(images)}")
    adapted = copy.deepcopy(network).eval().to(best_device(network))
    layers = batch_norms(adapted)
    for layer in layers:
        layer.train()
    return adapted, layers


def _batches(images: torch.Tensor, order: torch.Tensor, batch_size: int) -> list[torch.Tensor]:
    """Equal parts, so that each counts alike in the mean over batches."""
    parts = order.tensor_split(max(1, round(len(order) / batch_size)))
    return [images[part] for part in parts]
