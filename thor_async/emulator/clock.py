"""The loop's time, and all that is due later."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Runs from `start` to `stop`. Before and after it nothing is due, and nothing is put off."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._epoch = 0.0
        self._numbers = itertools.count()
        # By number: handles for the same moment have the same hash, and thousands may be.
        self._due: dict[int, asyncio.Handle] = {}

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoch = time.time() - self._loop.time()

    def stop(self) -> None:
        """Drops all that is due."""
        for handle in self._due.values():
            handle.cancel()
        self._due.clear()
        self._loop = None

    def now(self) -> float:
        """The loop's time; -inf while it does not run: that was before everything."""
        return self._loop.time() if self._loop else -math.inf

    def epoch_ms(self) -> int:
        """Milliseconds since 1970, advancing with the loop's time."""
        seconds = self._epoch + self._loop.time() if self._loop else time.time()
        return int(seconds * 1000)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            return
        number = next(self._numbers)

        def run() -> None:
            del self._due[number]
            act()

        # Timers of the same moment do not keep their order; what is due at once does.
        self._due[number] = loop.call_later(seconds, run) if seconds else loop.call_soon(run)
