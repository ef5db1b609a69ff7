"""Ctrl-C: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_interrupt(first: Callable[[], None], second: Callable[[], object]) -> Iterator[None]:
    """Calls `first` on the loop at the first Ctrl-C within, and `second` at every later one."""
    loop = asyncio.get_running_loop()
    steps: list[Callable[[], object]] = [second, first]

    def handle(number: int, frame: FrameType | None) -> None:
        # Wakes a loop that waits for sockets, which a handler alone does not.
        loop.call_soon_threadsafe(steps.pop() if len(steps) > 1 else second)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
