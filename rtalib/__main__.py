"""`python -m rtalib`."""

import sys

from rtalib.cli.main import main

sys.exit(main())
