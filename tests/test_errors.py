"""The checks that many modules share: what they accept, and the words of what they refuse."""

import math

import numpy as np
import pytest
import torch

from rtalib.errors import check_index, check_number


@pytest.mark.parametrize(
    ("value", "options", "error", "words"),
    [
        ("3", {}, TypeError, "x: expected a finite number, got '3'"),
        (True, {}, TypeError, "x: expected a finite number, got True"),
        (2.0, {"integer": True}, TypeError, "x: expected an integer, got 2.0"),
        (math.nan, {}, ValueError, "x: expected a finite number, got nan"),
        (math.inf, {}, ValueError, "x: expected a finite number, got inf"),
        (-1, {}, ValueError, "x: expected at least 0, got -1"),
        (0, {"open_low": True}, ValueError, "x: expected above 0, got 0"),
        (0, {"open_low": True, "high": 1}, ValueError, "x: expected above 0 and at most 1, got 0"),
        (3, {"low": 1, "high": 2, "unit": " pixels"}, ValueError, "x: expected 1 to 2 pixels, got 3"),
    ],
)
def test_bad_numbers_are_named(value, options, error, words):
    with pytest.raises(error) as raised:
        check_number("x", value, **options)
    assert str(raised.value) == words


def test_good_numbers_pass():
    for value, options in ((0, {}), (1, {"low": 1, "high": 1}), (1e-9, {"open_low": True}), (2, {"integer": True})):
        check_number("x", value, **options)


def test_an_index_becomes_int64_and_is_counted_by_default():
    assert torch.equal(check_index(None, 3), torch.arange(3))
    given = check_index(torch.tensor([4, 2], dtype=torch.int32), 2)
    assert given.dtype == torch.int64 and given.tolist() == [4, 2]
    for same in (
        [4, 2],
        np.array([4, 2], np.uint8),
        np.array([4, 2], ">i4"),
        np.array([2, 4])[::-1],
        torch.tensor([4, 2], dtype=torch.uint8),
    ):
        assert torch.equal(check_index(same, 2), given)
    for wrong, error in (
        ("01", TypeError),
        ([0.5, 1], TypeError),
        ([[0], [1, 2]], TypeError),
        (torch.tensor([0.0, 1.0]), TypeError),
        (torch.tensor([True, False]), TypeError),
        (torch.arange(3), ValueError),
    ):
        with pytest.raises(error, match=r"index: expected int64 \(2,\), one per image, got"):
            check_index(wrong, 2)
