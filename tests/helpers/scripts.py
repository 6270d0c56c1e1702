"""Scripts run in the process of the test: their imports, seconds of a CPU, are there already."""

import sys
import warnings
from types import ModuleType
from unittest.mock import patch


def run(script: ModuleType, *arguments: object) -> None:
    """What `python script.py argument ...` does; SystemExit if it refuses."""
    with patch.object(sys, "argv", [str(script.__file__), *map(str, arguments)]), warnings.catch_warnings():
        script.main()
