"""Handles Ctrl-C: the first one ends a batch in order, later ones end it at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_interrupt(first: Callable[[], None], later: Callable[[], object]) -> Iterator[None]:
    """Calls `first` at the first Ctrl-C in this context, and `later` at each one after it.

    Both run on the event loop.
    """
    loop = asyncio.get_running_loop()
    callbacks: list[Callable[[], object]] = [later, first]

    def handle(number: int, frame: FrameType | None) -> None:
        callback = callbacks.pop() if len(callbacks) > 1 else later
        # A signal handler alone does not wake a loop that waits for sockets.
        loop.call_soon_threadsafe(callback)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
