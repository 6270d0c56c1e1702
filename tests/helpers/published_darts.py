"""Networks whose tensors bear the names of the published DARTS checkpoints, and that compute as Liu et al. (ICLR 2019) describe."""

import torch
from torch import nn


class Named(nn.Module):
    """Layers in a sequence under `op`, as the published operations hold them."""

    def __init__(self, *layers):
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x):
        return self.op(x)


class Halved(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv_1, self.conv_2 = (nn.Conv2d(before, after // 2, 1, stride=2, bias=False) for _ in range(2))
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x):
        x = torch.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


def depthwise(width, kernel, stride, dilation=1):
    padding = dilation * (kernel // 2)
    return nn.Conv2d(width, width, kernel, stride, padding, dilation, groups=width, bias=False), nn.Conv2d(width, width, 1, bias=False)


def projected(before, after):
    return Named(nn.ReLU(), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))


def operation(name, width, stride):
    kernel = int(name[-1]) if name[-1].isdigit() else 0
    match name.split("_")[0]:
        case "sep":
            first, second = depthwise(width, kernel, stride), depthwise(width, kernel, 1)
            return Named(nn.ReLU(), *first, nn.BatchNorm2d(width), nn.ReLU(), *second, nn.BatchNorm2d(width))
        case "dil":
            return Named(nn.ReLU(), *depthwise(width, kernel, stride, 2), nn.BatchNorm2d(width))
        case "skip":
            return nn.Identity() if stride == 1 else Halved(width, width)
        case "max":
            return nn.MaxPool2d(3, stride, 1)
        case "avg":
            return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        case "conv":
            pair = (
                nn.Conv2d(width, width, (1, 7), (1, stride), (0, 3), bias=False),
                nn.Conv2d(width, width, (7, 1), (stride, 1), (3, 0), bias=False),
            )
            return nn.Sequential(nn.ReLU(), *pair, nn.BatchNorm2d(width))


class Cell(nn.Module):
    def __init__(self, edges, concat, before, previous, width, reduction, halve):
        super().__init__()
        self.edges, self.concat = edges, concat
        self.preprocess0 = Halved(before, width) if halve else projected(before, width)
        self.preprocess1 = projected(previous, width)
        self._ops = nn.ModuleList(operation(name, width, 2 if reduction and source < 2 else 1) for name, source in edges)

    def forward(self, x, y):
        nodes = [self.preprocess0(x), self.preprocess1(y)]
        for at in range(0, len(self.edges), 2):
            nodes.append(sum(self._ops[at + i](nodes[self.edges[at + i][1]]) for i in (0, 1)))
        return torch.cat([nodes[i] for i in self.concat], 1)


class Published(nn.Module):
    """Returns (logits, auxiliary logits or None), as the published networks do; takes images that are normalized."""

    def __init__(self, genotype, width, layers, classes, imagenet=False, auxiliary=False):
        super().__init__()
        conv = lambda a, b, stride: nn.Conv2d(a, b, 3, stride, 1, bias=False)  # noqa: E731
        self.imagenet, self.layers, start = imagenet, layers, width if imagenet else 3 * width
        if imagenet:
            half = width // 2
            self.stem0 = nn.Sequential(conv(3, half, 2), nn.BatchNorm2d(half), nn.ReLU(), conv(half, width, 2), nn.BatchNorm2d(width))
            self.stem1 = nn.Sequential(nn.ReLU(), conv(width, width, 2), nn.BatchNorm2d(width))
        else:
            self.stem = nn.Sequential(conv(3, start, 1), nn.BatchNorm2d(start))
        self.cells, before, previous, halve = nn.ModuleList(), start, start, imagenet
        for layer in range(layers):
            reduction = layer in (layers // 3, 2 * layers // 3)
            width *= 1 + reduction
            kind = "reduce" if reduction else "normal"
            edges, concat = getattr(genotype, kind), getattr(genotype, f"{kind}_concat")
            self.cells.append(Cell(edges, concat, before, previous, width, reduction, halve))
            before, previous, halve = previous, width * len(concat), reduction
            if layer == 2 * layers // 3 and auxiliary:
                self.auxiliary_head = nn.Module()
                tail = [] if imagenet else [nn.BatchNorm2d(768)]
                pool = nn.AvgPool2d(5, 2 if imagenet else 3, count_include_pad=False)
                features = nn.ReLU(), pool, nn.Conv2d(previous, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()
                self.auxiliary_head.features = nn.Sequential(*features, nn.Conv2d(128, 768, 2, bias=False), *tail, nn.ReLU())
                self.auxiliary_head.classifier = nn.Linear(768, classes)
        self.classifier = nn.Linear(previous, classes)

    def forward(self, x):
        x = y = self.stem0(x) if self.imagenet else self.stem(x)
        y = self.stem1(x) if self.imagenet else y
        side = None
        for layer, cell in enumerate(self.cells):
            x, y = y, cell(x, y)
            if layer == 2 * self.layers // 3 and hasattr(self, "auxiliary_head"):
                side = self.auxiliary_head.classifier(self.auxiliary_head.features(y).mean((2, 3)))
        return self.classifier(y.mean((2, 3))), side
