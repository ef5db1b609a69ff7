"""Limits how many requests are in flight, and decides which one is next."""

from __future__ import annotations

import asyncio
from collections import deque

Waiters = deque[asyncio.Future[int]]


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
    """

    def __init__(self, limit: int) -> None:
        self._limit = self.free = limit
        self._urgent: Waiters = deque()
        self._others: Waiters = deque()

    @property
    def in_flight(self) -> int:
        return self._limit - self.free

    def try_acquire(self) -> bool:
        """Takes a permit if one is free. A free permit means that no request waits for one."""
        if not self.free:
            return False
        self.free -= 1
        return True

    async def acquire(self, *, urgent: bool) -> bool:
        """Waits for a permit, and returns True. A cancelled wait loses no permit."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others).append(waiter)
        try:
            return bool(await waiter)
        except asyncio.CancelledError:
            if not waiter.cancelled():  # it was given a permit at the same time
                self.release()
            raise

    def release(self) -> None:
        """Gives a permit back: to the first that waits, if there is one."""
        if self._urgent and wake_first(self._urgent, result=True):
            return
        if self._others and wake_first(self._others, result=True):
            return
        self.free += 1
