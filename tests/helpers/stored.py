"""What the tests of the store put into it."""


def write(text):
    """Builds an entry of one file."""
    return lambda work: (work / "payload.txt").write_text(text)


def never(work):
    """Builds what must have been there already."""
    raise AssertionError("built again")
