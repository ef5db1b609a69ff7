"""Limits how many requests are in flight, and decides which one is next."""

from __future__ import annotations

import asyncio
from collections import deque

Waiters = deque[asyncio.Future[int]]

_MANY = 16
"""From this number of permits on, one is little to spare."""


def wake_first(waiters: Waiters, *, result: int) -> bool:
    """Gives `result` to the first that still waits; False when none does."""
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(result)
            return True
    return False


class PriorityLimiter:
    """Allows `limit` requests in flight, over all calls of a client.

    Urgent requests go before the others. Within each kind the first to wait is the first to go.
    A request that `spares` leaves the last permit to an urgent one, if there are many permits.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.free: int = limit
        self._spared = 1 if limit >= _MANY else 0
        self._urgent: Waiters = deque()
        self._others: deque[tuple[asyncio.Future[int], int]] = deque()

    @property
    def in_flight(self) -> int:
        return self._limit - self.free

    def try_acquire(self, *, urgent: bool, spares: bool = False) -> bool:
        """Takes a permit if one is free, and no request of its kind waits for one."""
        if self.free <= spares * self._spared or (self._others and not urgent):
            return False
        self.free -= 1
        return True

    async def acquire(self, *, urgent: bool, spares: bool = False) -> bool:
        """Waits for a permit, and returns True. A cancelled wait loses no permit."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if urgent:
            self._urgent.append(waiter)
        else:
            self._others.append((waiter, spares * self._spared))
        try:
            return bool(await waiter)
        except asyncio.CancelledError:
            if not waiter.cancelled():  # it was given a permit at the same time
                self.release()
            raise

    def release(self) -> None:
        """Gives a permit back: to the first that waits, if there is one."""
        self.free += 1
        if self._urgent and wake_first(self._urgent, result=True):
            self.free -= 1
        while self._others and self.free > self._others[0][1]:
            waiter, _ = self._others.popleft()
            if not waiter.done():
                self.free -= 1
                waiter.set_result(True)
