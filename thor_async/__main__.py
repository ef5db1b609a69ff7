"""Runs the command `thor-async`, also as `python -m thor_async`."""

import signal
import sys


def main() -> int:
    """Runs the command. Ctrl-C while it is imported ends it without a traceback."""
    try:
        from .cli import main as run  # noqa: PLC0415 - it takes long to import

        return run()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
