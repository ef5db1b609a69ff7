"""The clock of the emulator: the time of the event loop, and timers."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Runs timers between `start` and `stop`. Outside of them, `later` does nothing."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._epoch = 0.0
        self._ids = itertools.count()
        # Keyed by id: timers for the same time have the same hash, and there may be thousands.
        self._timers: dict[int, asyncio.Handle] = {}

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoch = time.time() - self._loop.time()

    def stop(self) -> None:
        """Cancels all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._loop = None

    def now(self) -> float:
        """Returns the loop's time, or -inf while the clock does not run."""
        return self._loop.time() if self._loop else -math.inf

    def epoch_ms(self) -> int:
        """Returns milliseconds since 1970. They advance with the loop's time."""
        seconds = self._epoch + self._loop.time() if self._loop else time.time()
        return int(seconds * 1000)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Calls `callback` after `seconds`."""
        loop = self._loop
        if loop is None:
            return
        timer_id = next(self._ids)

        def run() -> None:
            del self._timers[timer_id]
            callback()

        # `call_later(0)` does not keep the order of timers for the same time; `call_soon` does.
        self._timers[timer_id] = loop.call_later(seconds, run) if seconds else loop.call_soon(run)
