"""Attack batches follow the memory that a network keeps for its backward pass."""

import torch
from attacked_nets import net
from torch import nn

from rtalib import attacks
from rtalib.attacks import memory


def test_what_autograd_keeps_is_counted_per_image():
    """A ReLU keeps its output; a convolution keeps its input, which is the output of the ReLU before or the image."""
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4 * 4, 10)).eval()
    expected = 4 * (3 * 8 * 8 + 5 * 6 * 6 + 2 * 4 * 4 + 10)  # the check that logits are finite keeps them
    for count in (1, 2, 5):
        assert memory.kept_per_image(model, torch.rand(count, 3, 8, 8)) == expected


def test_a_batch_is_a_power_of_two_that_fits(monkeypatch):
    model, images = net(dtype=torch.float32), torch.rand(2, 3, 8, 8)
    kept = memory.kept_per_image(model, images) + memory.OWN * 4 * 3 * 8 * 8 // 2
    for budget, expected in ((1, 1), (2 * kept, 1), (11 * kept, 4), (2**40, 128)):
        monkeypatch.setitem(memory.BYTES, "cpu", budget)
        monkeypatch.setattr(memory, "free", lambda device, most=2 * budget: most)
        assert memory.images_at_once(model, images) == expected
    monkeypatch.setattr(memory, "free", lambda device: 11 * 2 * kept)
    assert memory.images_at_once(model, images) == 4, "half of what is free, if that is less"


def test_another_batch_changes_no_byte(monkeypatch):
    data = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model, labels, sizes = net(dtype=torch.float32), torch.arange(9), []
    expected = attacks.attack(attacks.PGD(), model, data, labels).images
    monkeypatch.setitem(memory.BYTES, "cpu", 2 * (2 * memory.kept_per_image(model, torch.rand(2, 3, 8, 8)) + memory.OWN * 4 * 3 * 8 * 8))
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    assert torch.equal(attacks.attack(attacks.PGD(), model, data, labels).images, expected)
    assert max(sizes[:-1]) == 2, "all but the last call, which predicts"
