"""Starts `thor-async`. Outside of the package, because its import takes longer than this."""

import os
import signal
from types import FrameType


def main() -> int:
    """Runs the command. Ctrl-C while it is imported ends it without a traceback."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:  # not where it is ignored, as in the background of a shell
        signal.signal(signal.SIGINT, _end)
    from thor_async.cli import main as run  # noqa: PLC0415 - see above

    try:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:  # before the command takes care of it
        return 128 + signal.SIGINT


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
