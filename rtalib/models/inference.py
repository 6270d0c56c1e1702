"""Predictions, features and accuracy of a trained network: eval mode, no gradients, on the network's own device."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from rtalib.data.images import LabeledImages, pixels
from rtalib.errors import check_images, check_kind, check_number
from rtalib.models.adapt import logits_in

BATCH = {"cpu": 64, "cuda": 1000}  # images at a time; on a CPU larger batches fall out of its cache, at half the speed


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter."""
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError(f"model: {type(model).__name__} has no parameters, so its device is unknown")
    return parameter.device


def best_device(model: nn.Module) -> torch.device:
    """The device to use for the model: a GPU if there is one and the model is on the CPU, else the model's own."""
    here = device_of(model)
    return torch.device("cuda") if here.type == "cpu" and torch.cuda.is_available() else here


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside. Each module's own flag is restored, so that a partly frozen network stays so, and so are buffers, in which a
    network may count or observe in eval mode, too."""
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module, _ in flags
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    versions = [buffer._version for _, _, buffer, _ in buffers]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
        for (module, name, buffer, before), version in zip(buffers, versions, strict=True):
            module._buffers[name] = buffer
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(before)


def _batched(model: nn.Module, call: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, batch_size: int | None) -> torch.Tensor:
    images, device = check_images(images), device_of(model)
    if not images.numel():
        raise ValueError(f"images: expected at least one image, got {tuple(images.shape)}")
    images = in_its_channels(model, images)
    batch_size = batch_for(device, *images.shape[2:]) if batch_size is None else batch_size
    check_number("batch_size", batch_size, 1, integer=True)
    with evaluating(model), torch.inference_mode():
        parts = [call(pixels(batch.to(device))).float() for batch in images.split(int(batch_size))]
    return torch.cat(parts).cpu()  # joined outside inference mode, so that autograd accepts the result


def in_its_channels(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """RGB images (N,3,H,W) as they are; gray ones, of three equal channels, as (N,1,H,W) if the first layer of `model` takes one channel.

    That is its first convolution or, if it has none, its first linear layer.
    """
    layers = [module for kind in (nn.Conv2d, nn.Linear) for module in model.modules() if isinstance(module, kind)]
    wanted = [getattr(layer, "in_channels", None) or layer.in_features / images[0, 0].numel() for layer in layers[:1]]
    gray = wanted == [1] and bool((images == images[:, :1]).all())
    return images[:, :1].contiguous() if gray else images


def batch_for(device: torch.device, height: int, width: int) -> int:
    """BATCH up to 64x64 pixels, fewer of larger images: as many pixels."""
    return max(1, BATCH.get(device.type, BATCH["cuda"]) * 64**2 // max(64**2, height * width))


def predict(model: nn.Module, images: torch.Tensor, *, batch_size: int | None = None) -> torch.Tensor:
    """Logits float32 (N,K) on the CPU for uint8 `images` (N,3,H,W) on any device, a tensor or an array.

    batch_size: default by the model's device and the size of the images, see batch_for. A tuple, a mapping or a dataclass that the
    model returns is searched for the logits, see models.adapt. ValueError if there are none, or if they contain NaN.
    """
    logits = _batched(model, lambda x: logits_in(model(x), x, argument="model"), images, batch_size)
    if bad := int(logits.isnan().any(dim=1).sum()):
        raise ValueError(f"model: its logits contain NaN for {bad} of {len(logits)} images, so it predicts no class")
    return logits


def extract_features(model: nn.Module, images: torch.Tensor, *, batch_size: int | None = None) -> torch.Tensor:
    """`model.features`: penultimate pooled activations, float32 (N,D) on the CPU, for uint8 `images` (N,3,H,W)."""
    if not callable(getattr(model, "features", None)) or isinstance(model.features, nn.Module):
        advice = "models.adapt(network) finds the input of the last linear layer"
        raise ValueError(f"model: {type(model).__name__} has no method features(x); {advice}")
    return _batched(model, model.features, images, batch_size)


def check_classes(data: LabeledImages, classes: int) -> None:
    """Raise unless the labels fit a model of `classes` classes: hard ones within 0..classes-1, soft ones (N,classes)."""
    if data.labels.ndim == 2:
        if data.labels.shape[1] != classes:
            raise ValueError(f"labels: expected (N,{classes}) soft labels for a model of {classes} classes, got {tuple(data.labels.shape)}")
    elif int(data.labels.max()) >= classes:
        raise ValueError(f"labels: expected 0..{classes - 1} for a model of {classes} classes, got up to {int(data.labels.max())}")


def evaluate(model: nn.Module, data: LabeledImages, *, batch_size: int | None = None) -> float:
    """Top-1 accuracy in [0,1]; a soft label counts as its largest entry."""
    check_kind("data", data, LabeledImages, "LabeledImages")
    logits = predict(model, data.images, batch_size=batch_size)
    check_classes(data, logits.shape[1])
    return int((logits.argmax(dim=1) == data.hard_labels.cpu()).sum()) / len(data)


def scores(models: Mapping[str, nn.Module] | Iterable[nn.Module], data: LabeledImages, *, batch_size: int | None = None) -> list[float]:
    """Top-1 accuracy of each model, in order (values of a mapping, in its order)."""
    if isinstance(models, str) or not isinstance(models, Iterable):
        raise TypeError(f"models: expected several, as a list or a mapping, got {models!r}")
    models = list(models.values()) if isinstance(models, Mapping) else list(models)
    if not models:
        raise ValueError("models: expected at least one model, got none")
    return [evaluate(model, data, batch_size=batch_size) for model in models]


def score(models: Mapping[str, nn.Module] | Iterable[nn.Module], data: LabeledImages, *, batch_size: int | None = None) -> float:
    """RTA's Score: the mean over models of the mean over images of [argmax f(x) = y], in [0,1] and in float64."""
    values = scores(models, data, batch_size=batch_size)
    return sum(values) / len(values)
