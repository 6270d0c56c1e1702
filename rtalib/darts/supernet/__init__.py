"""The supernet of a search: the plain one, the fused one that computes the same in fewer calls, and partial channels."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "plain": "Supernet",
        "fused": "FusedSupernet",
    },
)
