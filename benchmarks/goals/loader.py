"""Goal of the data path: C8, crop and flip of a batch at once beside an image at a time."""

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.timing import alternate, median
from rtalib.training.batches import Batches
from rtalib.training.recipes import Recipe

OFFSETS = 9  # of a crop from an image padded by 4 pixels, in each direction


class Pictures(Dataset):
    """Images as torchvision's CIFAR10 gives them out: from an array, through Pillow."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.pictures = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels.tolist()
        self.transform = transforms.Compose(
            [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pictures[i])), self.labels[i]


def plain_loader(images: torch.Tensor, labels: torch.Tensor, batch: int, workers: int, pinned: bool = False) -> DataLoader:
    options = {"persistent_workers": True} if workers else {}
    return DataLoader(Pictures(images, labels), batch, shuffle=True, num_workers=workers, pin_memory=pinned, **options)


def against(*, images: int, batch: int, rounds: int, device: str) -> dict:
    """How many times as fast an epoch is loaded as by torchvision and a DataLoader with 0 or 2 workers, whichever is faster; wall time."""
    pixels = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(images) % 10
    recipe = Recipe(1, batch)
    ours = Batches(pixels, labels, recipe, torch.device(device))
    peers = {f"{workers} workers": plain_loader(pixels, labels, batch, workers) for workers in (0, 2)}
    runs = {"ours": lambda: _count(ours.epoch(0, 0))} | {name: lambda loader=loader: _count(loader) for name, loader in peers.items()}
    for run in runs.values():
        run()  # also starts the workers
    times, load = alternate(runs, rounds, device, "loaders")
    walls = {name: median(found, "wall") for name, found in times.items()}
    seconds = walls.pop("ours")
    best = min(walls, key=walls.get)
    row = {"value": walls[best] / seconds, "seconds": seconds, "peer_seconds": walls[best], "rounds": rounds, "clock": "wall", "load": load}
    chances = [uniformity(offsets) for offsets in (our_offsets(images), peer_offsets(images))]
    found = (
        f"crops and flips of both fit uniform draws (chi-squared {chances[0]:.0f} and {chances[1]:.0f}, expected 161 +- 18); peer: {best}"
    )
    return row | {"held": max(chances) < 161 + 4 * 18, "found": found}


def _count(batches) -> int:
    return sum(len(x) for x, _ in batches)


def marked(images: int) -> torch.Tensor:
    """Images whose pixels say where they are: row + 1, column + 1, 0; padding is 0."""
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0] = torch.arange(1, 33)[:, None]
    image[1] = torch.arange(1, 33)
    return image.expand(images, -1, -1, -1)


def our_offsets(images: int) -> torch.Tensor:
    batches = Batches(marked(images), torch.zeros(images, dtype=torch.int64), Recipe(1, 500), torch.device("cpu"))
    return torch.cat([offsets(x) for x, _ in batches.epoch(1, 0)])


def peer_offsets(images: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.cat([offsets(x) for x, _ in plain_loader(marked(images), torch.zeros(images, dtype=torch.int64), 500, 0)])


def offsets(x: torch.Tensor) -> torch.Tensor:
    """int64 (N,): which of the 2 x 9 x 9 crops and flips an image of `marked` went through, read from its middle."""
    middle = (x[:, :2, 15, 15] * 255).round().long()  # rows and columns 15 to 24 of the original: never padding
    flipped = (x[:, 1, 15, 16] < x[:, 1, 15, 15]).long()
    column = torch.where(flipped == 1, middle[:, 1] - 13, middle[:, 1] - 12)
    return ((middle[:, 0] - 12) * OFFSETS + column) * 2 + flipped


def uniformity(found: torch.Tensor) -> float:
    """Chi-squared of the counts of all 162 outcomes against equal chances."""
    counts = found.bincount(minlength=2 * OFFSETS**2).double()
    expected = len(found) / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())
