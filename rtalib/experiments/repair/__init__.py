"""The tables of the CF-DARTS paper, and the same repair for a network of your own."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "runs": "run_table run_cells COMPUTED METHOD METHODS PROTOCOLS TABLES Repaired repair",
    },
)
