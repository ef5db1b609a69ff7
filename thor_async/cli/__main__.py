"""Runs `thor-async` as `python -m thor_async.cli`."""

import sys

from ..__main__ import main

sys.exit(main())
