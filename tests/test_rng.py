"""Philox against the published known answers, and what callers rely on."""

import binascii

import pytest
import torch

from rtalib import rng

# kat_vectors of Random123 (Salmon et al., SC 2011), philox4x32 with 10 rounds: counter, key, answer
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def parse(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("counter, key, answer", KNOWN)
def test_known_answers(counter, key, answer):
    words = rng.philox4x32(tuple(torch.tensor([c]) for c in parse(counter)), tuple(parse(key)))
    assert [int(w) for w in words] == parse(answer)


def test_words_are_the_blocks_of_the_documented_counter():
    index, seed, stream = 2**33 + 5, 2**40 + 7, rng.stream("fog", 3)
    words = rng.words(seed, torch.tensor([index]), stream, 10)[0]
    for block in range(3):
        counter = [torch.tensor([c]) for c in (block, index & rng.MASK, index >> 32, stream)]
        answer = torch.cat(rng.philox4x32(tuple(counter), (seed & rng.MASK, seed >> 32)))
        assert torch.equal(words[4 * block : 4 * block + 4], answer[: len(words) - 4 * block])


def test_words_depend_on_the_image_not_on_the_batch():
    index = torch.tensor([7, 0, 123456789])
    together = rng.words(1, index, 2, 37)
    alone = torch.cat([rng.words(1, index[i : i + 1], 2, 37) for i in range(3)])
    assert torch.equal(together, alone)
    assert torch.equal(rng.words(1, index, 2, 50)[:, :37], together)
    for other in (rng.words(2, index, 2, 37), rng.words(1, index, 3, 37), rng.words(1, index + 1, 2, 37)):
        assert (other == together).float().mean() < 0.05


def test_streams_have_distinct_stable_names():
    assert rng.stream("fog", 3) == rng.stream("fog", 3) == binascii.crc32(b"fog/3")
    assert len({rng.stream(name, level) for name in "abcdefgh" for level in range(1, 6)}) == 40


def test_distributions_fit():
    stats = pytest.importorskip("scipy.stats")
    index = torch.arange(50)
    assert stats.kstest(rng.uniform(0, index, 1, 1000).flatten().numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(rng.normal(0, index, 2, 1000).flatten().numpy(), "norm").pvalue > 1e-3
    counts = rng.integers(0, index, 3, 1000, 7).flatten().bincount(minlength=7)
    assert len(counts) == 7 and stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_a_word_is_the_first_of_its_index():
    assert rng.word(5, 9, rng.stream("x")) == int(rng.words(5, torch.tensor([9]), rng.stream("x"), 3)[0, 0])


def test_global_seed_is_followed_inside_and_forgotten_outside():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with rng.global_seed(7):
        drawn = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(7)))
    with pytest.raises(RuntimeError, match="inside"), rng.global_seed(7):
        torch.rand(3)
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)


def test_global_generators_follow_the_seed_inside_and_are_restored_outside():
    def drawn(seed):
        with rng.global_seed(seed):
            return torch.rand(3)

    before = torch.get_rng_state()
    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert torch.equal(before, torch.get_rng_state())
