"""What a search draws: whole passes and cutout, on the device of the images."""

import torch
from stripes import stripes
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rtalib.darts.batches import cut_out, draw_batches
from rtalib.darts.darts_pt import draw_pass
from rtalib.data.images import LabeledImages


def test_a_pass_meets_every_image_once_in_an_order_of_its_own():
    flat = LabeledImages(
        torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 3, 8, 8) + 1, torch.arange(20) % 2, ("a", "b"), "flat"
    )

    def order(epoch):
        batches = list(draw_pass(flat, 6, seed=1, epoch=epoch, stream="decision"))
        assert [len(labels) for _, labels in batches] == [6, 6, 6, 2]
        shades = torch.cat([(images.amax(dim=(1, 2, 3)) * 255).round().long() - 1 for images, _ in batches])
        assert torch.equal(torch.cat([labels for _, labels in batches]), shades % 2)
        return shades.tolist()

    assert sorted(order(0)) == list(range(20)) and order(0) == order(0) != order(1) and order(0) != sorted(order(0))


def test_cutout_comes_on_top_of_the_same_crops_with_its_probability():
    def drawn(**cutout):
        return next(draw_batches(stripes(400), 400, 1, seed=1, epoch=2, stream="train", **cutout))

    plain, labels = drawn()
    cut, same = drawn(cutout=4, cut=0.25)
    changed = (plain != cut).flatten(1).any(dim=1)
    assert torch.equal(labels, same) and 70 <= int(changed.sum()) <= 130
    everywhere, _ = drawn(cutout=4, cut=1.0)
    holes = (everywhere[:, 0] - 0.4914).abs() < 1e-6
    assert holes.flatten(1).sum(dim=1).min() >= 4 and holes.flatten(1).sum(dim=1).max() == 16  # squares, clipped at the borders
    assert torch.equal(drawn(cutout=4, cut=0.0)[0], plain)
    words = torch.tensor([[2**31, 2**31, 0]])
    assert (cut_out(torch.ones(1, 3, 8, 8), words, 4, 0.5) != 1).nonzero()[:, 2:].unique(dim=0).tolist() == [
        [y, x] for y in (2, 3, 4, 5) for x in (2, 3, 4, 5)
    ]


class Devices(TorchDispatchMode):
    """The devices of all tensors that come up inside: of more than one, some are copied, and a copy waits."""

    def __init__(self) -> None:
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        self.found |= {tensor.device.type for tensor in tree_leaves((arguments, options, out)) if isinstance(tensor, torch.Tensor)}
        return out


def test_batches_are_drawn_where_the_images_are():
    class OnMeta:  # LabeledImages looks at its labels
        images, labels = torch.empty(40, 3, 8, 8, dtype=torch.uint8, device="meta"), torch.empty(40, dtype=torch.int64, device="meta")

        def __len__(self) -> int:
            return 40

    with Devices() as devices:
        batches = [*draw_batches(OnMeta(), 6, 3, seed=1, epoch=2, stream="train"), *draw_pass(OnMeta(), 6, seed=1, epoch=2, stream="val")]
    assert len(batches) == 3 + 7 and devices.found == {"meta"}
