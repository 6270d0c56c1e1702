"""Choosing a few failures that stand for all: k-center greedy (Sener and Savarese, ICLR 2018) and what it is compared with."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "selection": "k_center_greedy balanced_greedy farthest random_selection covering_radius covering_radii",
    },
)
