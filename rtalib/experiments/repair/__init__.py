"""The CF-DARTS paper: its protocol step by step, its tables, and the same repair for a network of your own.

run_table computes the tables, repair repairs a network of yours. The seven steps of the protocol, in their order: evaluation_split,
deploy, find_failures, select, refine, retrain, measure.
"""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "images": "Study evaluation_split",
        "protocol": "RULES deploy find_failures select refine retrain",
        "rows": "Trial measure",
        "tables": "METHOD PROTOCOLS TABLES run_table run_trials",
        "chance": "",
        "figures": "",
        "gain_parts": "",
        "together": "",
    },
)
