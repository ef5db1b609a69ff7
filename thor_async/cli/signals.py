"""Handles Ctrl-C, SIGTERM and SIGHUP: the first ends a batch in order, others end it at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def on_interrupt(first: Callable[[int], object], later: Callable[[], object]) -> Iterator[None]:
    """Calls `first` at the first signal in this context, and `later` at each one after it.

    The signals are SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal was closed); `first` gets the
    number. Both run on the event loop. A SIGHUP that the process ignores stays ignored, as under
    nohup.
    """
    loop = asyncio.get_running_loop()
    is_first = True

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal is_first
        # A signal handler alone does not wake a loop that waits for sockets.
        if is_first:
            loop.call_soon_threadsafe(first, number)
        else:
            loop.call_soon_threadsafe(later)
        is_first = False

    previous = {}
    for number in _SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            previous[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def exit_status(number: int) -> int:
    """Returns the exit status for the end by a signal: 130 for Ctrl-C."""
    return 128 + number
