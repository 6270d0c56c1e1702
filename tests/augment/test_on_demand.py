"""Corruptions on demand: the bytes of `corrupt`, for torchvision's transforms and data loaders."""

import pickle

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from rtalib import corrupt, load_dataset
from rtalib.augment.on_demand import Corrupt, CorruptedDataset
from rtalib.corruptions import CORRUPTIONS


class Pictures:
    """PIL pictures and labels, as torchvision's data sets give them."""

    def __init__(self, count: int = 5):
        self.data = load_dataset("shapes10", "test", limit=count)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int):
        return Image.fromarray(self.data.images[index].permute(1, 2, 0).numpy()), int(self.data.labels[index])


def test_items_are_what_corrupt_makes_of_the_whole_batch():
    pictures = Pictures()
    names = ("gaussian_noise", "glass_blur", "fog", "jpeg_compression")
    items = CorruptedDataset(pictures, names, (1, 4), seed=3, benchmark="cifar10-c")
    assert len(items) == 4 * 2 * 5
    for t, name in enumerate(names):
        for s, severity in enumerate((1, 4)):
            whole = corrupt(pictures.data.images, name, severity, seed=3, benchmark="cifar10-c")
            found = [items[(t * 2 + s) * 5 + i] for i in range(5)]
            assert torch.equal(torch.stack([image for image, _ in found]), whole)
            assert [label for _, label in found] == pictures.data.labels.tolist()
    with pytest.raises(IndexError):
        items[len(items)]


def test_digests_do_not_depend_on_workers_or_on_the_order_of_reading():
    items = CorruptedDataset(Pictures(), ["snow"], (2,))
    first = items.digest("snow", 2)
    assert items.digest("snow", 3) != first and CorruptedDataset(Pictures(), ["fog"]).digest("snow", 2) == first
    assert pickle.loads(pickle.dumps(items)).digest("snow", 2) == first
    loaded = torch.cat([images for images, _ in DataLoader(items, batch_size=2, num_workers=1)])
    assert torch.equal(loaded, corrupt(Pictures().data.images, "snow", 2, benchmark="imagecorruptions"))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_transform_takes_pictures_of_any_size(name):
    torch.manual_seed(0)
    pipeline = v2.Compose([v2.Resize((40, 52)), Corrupt([name], (3,)), v2.ToDtype(torch.float32, scale=True)])
    out = pipeline(Pictures()[0][0])
    assert out.shape == (3, 40, 52) and out.dtype == torch.float32 and 0 <= out.min() and out.max() <= 1


def test_the_transform_draws_from_torch_s_generator():
    picture, transform = Pictures()[0][0], Corrupt(["gaussian_noise", "contrast"])

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return transform(picture)

    assert torch.equal(draw(0), draw(0)) and len({draw(seed).sum().item() for seed in range(8)}) > 4


@pytest.mark.parametrize("make", [lambda name: Corrupt([name]), lambda name: CorruptedDataset(Pictures(), [name])])
def test_unknown_names_are_named_at_once(make):
    with pytest.raises(ValueError, match="unknown corruption 'fgo'. Did you mean 'fog'"):
        make("fgo")


def test_other_images_are_refused():
    with pytest.raises(TypeError, match=r"image: expected a PIL picture or torch.uint8 \(3,H,W\), got torch.float32"):
        Corrupt(["fog"])(torch.rand(3, 32, 32))
    with pytest.raises(ValueError, match="severity: expected 1 to 5, got 6"):
        Corrupt(["fog"], (6,))
