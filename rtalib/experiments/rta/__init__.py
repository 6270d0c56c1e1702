"""The tables of the RTA paper."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "tables": (
            "SourceCell SetCell TargetCell run_table run_sources rows_of run_inputs source_cell training_set set_cell "
            "target_cell TABLES TABLE1 TABLE2 TABLE3 PROTOCOLS OURS BASELINE CLEAN_SOURCE"
        ),
    },
)
