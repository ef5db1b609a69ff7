"""Deadlines of many requests with one timer: a timer for each would cost 5 % of a request."""

from __future__ import annotations

import asyncio
import math


class Deadlines:
    """Ends each request at its deadline, or all of them at once.

    `start` gives an `asyncio.Timeout` to enter; `finish` must be called once it has been left.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._times: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def start(self, seconds: float) -> asyncio.Timeout:
        """Returns a timeout that ends after `seconds`."""
        timeout = asyncio.Timeout(None)
        when = self._loop.time() + seconds
        self._times[timeout] = when
        if when < self._next:
            self._set_timer(when)
        return timeout

    def finish(self, timeout: asyncio.Timeout) -> None:
        """Forgets a timeout. The timer stays, because the next request mostly needs it."""
        del self._times[timeout]

    def abort_all(self) -> None:
        """Ends every request now, and leaves no timer behind."""
        for timeout in tuple(self._times):
            expire(timeout, self._loop.time())
        if self._timer is not None:
            self._timer.cancel()
        self._next = math.inf

    def _end_due(self) -> None:
        now = self._loop.time()
        self._next = math.inf
        for timeout, when in tuple(self._times.items()):
            if when <= now:
                expire(timeout, now)
            else:
                self._next = min(self._next, when)
        if self._next < math.inf:
            self._set_timer(self._next)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = self._loop.call_at(when, self._end_due)


def expire(timeout: asyncio.Timeout, now: float) -> None:
    """Ends a timeout, unless it has already ended."""
    if not timeout.expired():
        timeout.reschedule(now)
