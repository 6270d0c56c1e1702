"""The evaluation network of a genotype (Liu et al., ICLR 2019, section 3.2 and appendix A.2)."""

import torch
import torch.nn.functional as F
from torch import nn

from rtalib.darts.genotype import Genotype
from rtalib.darts.operations import NOISE, STEMS, Normalize, noise, parametric, pool, preprocessing, reduction_positions, stem_layers
from rtalib.errors import check_name, check_number


def drop_path(x: torch.Tensor, probability: float) -> torch.Tensor:
    """Zero whole samples of (N,C,H,W) with `probability` and scale the others by 1/keep; returns a new tensor."""
    keep = 1.0 - probability
    mask = torch.empty(len(x), 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(keep)
    return x * (mask / keep)


class Cell(nn.Module):
    """Two feature maps -> the concatenation of the cell's output nodes; each node is the sum of two operations on earlier nodes."""

    def __init__(self, genotype: Genotype, before: int, previous: int, channels: int, reduction: bool, halve_before: bool):
        super().__init__()
        cell = "reduce" if reduction else "normal"
        self.edges, self.concat = getattr(genotype, cell), getattr(genotype, f"{cell}_concat")
        self.strides = [2 if reduction and source < 2 else 1 for _, source in self.edges]
        self.preprocess0 = preprocessing(before, channels, halve_before, affine=True)
        self.preprocess1 = preprocessing(previous, channels, False, affine=True)
        modules = [parametric(name, channels, stride, affine=True) for (name, _), stride in zip(self.edges, self.strides, strict=True)]
        self.operations = nn.ModuleDict({str(edge): module for edge, module in enumerate(modules) if module is not None})

    def branch(self, edge: int, x: torch.Tensor, rectified: torch.Tensor | None, drop: float) -> torch.Tensor:
        """One input of a node, from a source x and, for operations with parameters, relu(x). A plain identity is never dropped."""
        name, _ = self.edges[edge]
        if str(edge) in self.operations:
            out = self.operations[str(edge)](rectified)
        elif name == "skip_connect":
            return x
        elif name == NOISE:
            out = noise(x, self.strides[edge])
        else:
            out = pool(name, x, self.strides[edge])
        return drop_path(out, drop) if drop > 0 else out

    def forward(self, s0: torch.Tensor, s1: torch.Tensor, drop: float = 0.0) -> torch.Tensor:
        """s0, s1: the outputs of the two cells before, rectified (every use of them starts with a ReLU)."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        rectified: dict[int, torch.Tensor] = {}
        for node in range(2, 2 + len(self.edges) // 2):
            branches = []
            for edge in (2 * node - 4, 2 * node - 3):
                source = self.edges[edge][1]
                if str(edge) in self.operations and source not in rectified:
                    rectified[source] = F.relu(states[source])
                branches.append(self.branch(edge, states[source], rectified.get(source), drop))
            states.append(branches[0] + branches[1])
        return torch.cat([states[node] for node in self.concat], dim=1)


class AuxiliaryHead(nn.Module):
    """A second classifier on the rectified features after the second reduction cell: (N,C,8,8) -> (N,K), for ImageNet (N,C,7,7).

    Larger maps leave several positions after the last convolution, which are averaged; at these sizes there is exactly one. The published
    networks for ImageNet (`imagenet`) pool with stride 2 and do not normalize after the last convolution.
    """

    def __init__(self, channels: int, num_classes: int, imagenet: bool = False):
        super().__init__()
        self.smallest, self.stride = (7, 2) if imagenet else (8, 3)
        self.reduce = nn.Sequential(nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        self.widen = nn.Sequential(nn.Conv2d(128, 768, 2, bias=False), nn.Identity() if imagenet else nn.BatchNorm2d(768), nn.ReLU())
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if min(x.shape[-2:]) < self.smallest:
            wanted = f"a feature map of at least {self.smallest}x{self.smallest}"
            raise ValueError(f"auxiliary head: expected {wanted} (a quarter of the first cell's), got {tuple(x.shape[-2:])}")
        x = F.avg_pool2d(x, 5, stride=self.stride, count_include_pad=False)
        return self.classifier(self.widen(self.reduce(x)).mean(dim=(2, 3)))


class Network(nn.Module):
    """float32 NCHW in [0,1] -> logits (N,K); normalizes inside itself.

    `genotype` is a Genotype or what Genotype.of reads, such as a name in GENOTYPES; `channels` is the width C of the first cells, `layers`
    the number of cells (the paper's CIFAR-10 network: 36 and 20). With `auxiliary`, the call returns (logits, auxiliary logits) in train
    mode.
    `stem`: 'cifar', 'tiny-imagenet' (64x64 images, halved first) or 'imagenet' (224x224; 48 channels and 14 layers there), see `stems`.
    `drop_path_prob` in [0,1) is an attribute, 0 at first, to be raised by the training schedule; it acts in train mode only.
    """

    def __init__(
        self,
        genotype: Genotype | str,
        channels: int = 36,
        layers: int = 20,
        num_classes: int = 10,
        auxiliary: bool = False,
        *,
        stem: str = "cifar",
    ):
        super().__init__()
        genotype = Genotype.of(genotype)
        for name, value, least in (("channels", channels, 1), ("num_classes", num_classes, 2)):
            check_number(name, value, least, integer=True)
        check_name("stem", stem, STEMS)
        self.genotype, self.channels, self.stem_name, self.drop_path_prob = genotype, channels, stem, 0.0
        self.normalize = Normalize()
        before = previous = channels if stem == "imagenet" else 3 * channels
        convolutions, norm, self.second_stem = stem_layers(stem, before, tracked=True)
        self.stem = nn.Sequential(convolutions, norm)
        self.cells = nn.ModuleList()
        reductions = reduction_positions(layers)
        halve_before = self.second_stem is not None
        for layer in range(layers):
            reduction = layer in reductions
            channels *= 2 if reduction else 1
            cell = Cell(genotype, before, previous, channels, reduction, halve_before)
            self.cells.append(cell)
            before, previous, halve_before = previous, channels * len(cell.concat), reduction
            if layer == reductions[1]:
                self.auxiliary_after, auxiliary_channels = layer, previous
        self.auxiliary = AuxiliaryHead(auxiliary_channels, num_classes, stem == "imagenet") if auxiliary else None
        self.classifier = nn.Linear(previous, num_classes)

    def _maps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last feature map, and the rectified one that feeds the auxiliary head."""
        s0 = s1 = side = F.relu(self.stem(self.normalize(x)))
        if self.second_stem is not None:
            s1 = F.relu(self.second_stem(s0))
        drop = self.drop_path_prob if self.training else 0.0
        for layer, cell in enumerate(self.cells):
            last = cell(s0, s1, drop)
            s0, s1 = s1, F.relu(last)
            if layer == self.auxiliary_after:
                side = s1
        return last, side

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled features before the classifier, (N, D) with D = 4 concatenated nodes x the last width (576 at C=36)."""
        return self._maps(x)[0].mean(dim=(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        last, side = self._maps(x)
        logits = self.classifier(last.mean(dim=(2, 3)))
        return (logits, self.auxiliary(side)) if self.training and self.auxiliary is not None else logits
