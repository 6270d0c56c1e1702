"""The report of a run: claims first, then every table and figure, as one page and as REPORT.md."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "notebook": "Notebook",
        "collect": "CLAIMS TITLES VERDICT_COLORS Block Report Section claims write",
    },
)
