"""Many scopes that end at their times, by one timer: one for each would cost 5 % of a request."""

from __future__ import annotations

import asyncio
import math


class Deadlines:
    """Ends every scope that is still in it when its time comes, on the second of the loop's clock.

    Scopes are `asyncio.Timeout(None)`, added before they are entered and discarded once left.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._times: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def add(self, scope: asyncio.Timeout, when: float) -> None:
        """Lets it end at that loop time."""
        self._times[scope] = when
        if when < self._next:
            self._set_timer(when)

    def discard(self, scope: asyncio.Timeout) -> None:
        """Forgets it. The timer stays: mostly, the next scope makes use of it."""
        del self._times[scope]

    def end_all(self) -> None:
        """Ends every scope now, and leaves no timer behind."""
        for scope in tuple(self._times):
            end_now(scope, self._loop.time())
        if self._timer is not None:
            self._timer.cancel()

    def _end_due(self) -> None:
        now = self._loop.time()
        self._next = math.inf
        for scope, when in tuple(self._times.items()):
            if when <= now:
                end_now(scope, now)
            else:
                self._next = min(self._next, when)
        if self._next < math.inf:
            self._set_timer(self._next)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = self._loop.call_at(when, self._end_due)


def end_now(scope: asyncio.Timeout, now: float) -> None:
    """Ends a scope, unless it has already ended."""
    if not scope.expired():
        scope.reschedule(now)
