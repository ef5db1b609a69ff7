"""How many requests are on the wire at once, and who goes next."""

from __future__ import annotations

import asyncio
from collections import deque

Waiters = deque[asyncio.Future[int]]


def wake_first(waiters: Waiters, *, result: int) -> bool:
    """Whether there was anyone who still waits; the first of them now goes on."""
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(result)
            return True
    return False


class PriorityLimiter:
    """At most `limit` requests on the wire, across everything that one client does.

    Urgent waiters go before the others; within each kind the first to come is the first to go.
    """

    def __init__(self, limit: int) -> None:
        self._limit = self._free = limit
        self._urgent: Waiters = deque()
        self._others: Waiters = deque()
        self._idlers: Waiters = deque()

    @property
    def in_flight(self) -> int:
        return self._limit - self._free

    def take(self) -> bool:
        """Takes a permit if one is free; then nobody is waiting, as a release hands its own on."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self, *, urgent: bool) -> bool:
        """Waits for a permit. Cancelled or not, none is lost."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others).append(waiter)
        try:
            return bool(await waiter)
        except asyncio.CancelledError:
            if not waiter.cancelled():  # handed over in the same moment
                self.release()
            raise

    def release(self) -> None:
        """Hands a permit to whoever waits first."""
        if self._urgent and wake_first(self._urgent, result=True):
            return
        if self._others and wake_first(self._others, result=True):
            return
        self._free += 1
        if self._free == self._limit:
            while wake_first(self._idlers, result=True):
                pass

    async def idle(self) -> None:
        """Waits until nothing is on the wire."""
        if self._free < self._limit:
            waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._idlers.append(waiter)
            await waiter
