"""The fifteen networks that RTA attacks: their cards, how they are trained, and where published weights come from."""

from rtalib import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "cards": "Stage Source SOURCES",
    },
)
