"""Makes `python -m thor_async.cli` the same as `thor-async`."""

import sys

from . import main

sys.exit(main())
