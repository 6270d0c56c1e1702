"""What a search draws: whole passes, cutout, and generators that follow the epoch."""

import torch
from stripes import stripes

from rtalib.darts.draws import cut_out, draw_batch, draw_pass, seeded_epoch
from rtalib.data import LabeledImages


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
    data, place = stripes(400), {"seed": 1, "epoch": 2, "step": 0, "stream": "train"}
    plain, labels = draw_batch(data, 400, **place)
    cut, same = draw_batch(data, 400, **place, cutout=4, cut=0.25)
    changed = (plain != cut).flatten(1).any(dim=1)
    assert torch.equal(labels, same) and 70 <= int(changed.sum()) <= 130
    everywhere, _ = draw_batch(data, 400, **place, cutout=4, cut=1.0)
    holes = (everywhere[:, 0] - 0.4914).abs() < 1e-6
    assert holes.flatten(1).sum(dim=1).min() >= 4 and holes.flatten(1).sum(dim=1).max() == 16  # squares, clipped at the borders
    assert torch.equal(draw_batch(data, 400, **place, cutout=4, cut=0.0)[0], plain)
    words = torch.tensor([[2**31, 2**31, 0]])
    assert (cut_out(torch.ones(1, 3, 8, 8), words, 4, 0.5) != 1).nonzero()[:, 2:].unique(dim=0).tolist() == [
        [y, x] for y in (2, 3, 4, 5) for x in (2, 3, 4, 5)
    ]


def test_generators_follow_seed_and_epoch_and_are_given_back():
    def drawn(seed, epoch):
        with seeded_epoch(seed, epoch, torch.device("cpu")):
            return torch.rand(3)

    before = torch.get_rng_state()
    assert torch.equal(drawn(1, 2), drawn(1, 2)) and not torch.equal(drawn(1, 2), drawn(1, 3)) and not torch.equal(drawn(1, 2), drawn(2, 2))
    assert torch.equal(before, torch.get_rng_state())
