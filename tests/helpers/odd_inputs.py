"""Drawn inputs for tests with Hypothesis, the same each time: a default run tries a few, one with the trials fifteen times as many."""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

REFUSALS = (ValueError, TypeError, FileNotFoundError)
few_and_many = pytest.mark.parametrize("trials", ["few", pytest.param("many", marks=pytest.mark.trial)])


def attempt(trials, count, check, *strategies):
    """check(...) for `count` drawn inputs, or fifteen times as many."""
    chosen = settings(
        max_examples=count if trials == "few" else 15 * count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes, and the drawn input is printed in any case
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen(given(*strategies)(check))()


def refused(error: Exception, name: str) -> bool:
    """One line that names the file."""
    return isinstance(error, REFUSALS) and name in str(error) and "\n" not in str(error)


@st.composite
def damage(draw, size):
    """A function of bytes: flipped, cut, doubled, blanked or overwritten somewhere."""
    steps = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))

    def apply(data: bytes) -> bytes:
        for kind, where, value in steps:
            at, some = where % max(1, len(data)), 1 + value % size
            if kind == 0:
                data = data[:at] + bytes([data[at] ^ (value or 1)]) + data[at + 1 :] if data else data
            elif kind == 1:
                data = data[:at]
            elif kind == 2:
                data = data[: at + some] + data[at:]
            elif kind == 3:
                data = data[:at] + bytes(len(data[at : at + some])) + data[at + some :]
            else:
                data = data[:at] + bytes([value]) * 4 + data[at + 4 :]
        return data

    return apply
