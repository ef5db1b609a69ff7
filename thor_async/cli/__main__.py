"""Runs `thor-async` as `python -m thor_async.cli`."""

import sys

from . import main

sys.exit(main())
