"""`python -m rtalib`."""

import sys

from rtalib.cli import main

sys.exit(main())
