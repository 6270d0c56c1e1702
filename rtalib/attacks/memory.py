"""How many images an attack takes at once: by the memory that the network keeps for its backward pass, not by their number alone."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from rtalib.attacks.checks import attackable, logits_of

MOST = {"cpu": 128, "cuda": 1024}  # images at a time; on a CPU, larger batches fall out of its cache
BYTES = {"cpu": 4 * 2**30, "cuda": 16 * 2**30}  # for activations, as much again for their gradients, and the attack's own images
OWN = 16  # float images that an attack holds for each image at most: PGDL2, whose random start is drawn in float64
MEASURED = 2  # images by which a network is measured: BatchNorm without statistics refuses one


def images_at_once(model: nn.Module, images: Tensor) -> int:
    """The largest power of two of images like the first of `images` (float (N,C,H,W) in [0,1], on the model's device) that fits.

    Twice the activations that autograd keeps, and OWN images, fit BYTES and half of the memory that is free; at least 1, at most MOST.
    """
    kind = images.device.type
    most, budget = MOST.get(kind, MOST["cuda"]), min(BYTES.get(kind, BYTES["cuda"]), free(images.device) // 2)
    kept = 2 * kept_per_image(model, images[:MEASURED]) + OWN * images[0].numel() * images.element_size()
    fits = max(1, min(most, budget // max(1, kept)))
    return 1 << (int(fits).bit_length() - 1)


def kept_per_image(model: nn.Module, images: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass to the input, per image; parameters do not count."""
    owned = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with attackable(model), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = logits_of(model, images.detach().requires_grad_())  # alive until here, so that no memory is counted twice
    del logits
    return sum(kept.values()) // len(images)


def free(device: torch.device) -> int:
    """Bytes of memory that are free on a device; elsewhere than on Linux, all that a machine has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not on Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
