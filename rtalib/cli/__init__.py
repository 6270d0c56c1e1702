"""The command line, `python -m rtalib`, in main."""
