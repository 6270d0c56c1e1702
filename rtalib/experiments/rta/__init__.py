"""The tables of the RTA paper."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "tables": (
            "run_table training_set sources originals augmented train_target drawn_operations rows_of run_inputs "
            "TABLES TABLE1 TABLE2 TABLE3 PROTOCOLS OURS BASELINE CLEAN_SOURCE"
        ),
        "figures": "",
        "overlap": "",
        "score": "",
        "search": "",
        "severity_budget": "",
        "source_study": "source_network",
    },
)
