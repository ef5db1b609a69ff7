"""The pause while Thor seems down: single probes, until it speaks again or the batch gives up."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from .._events import BatchPaused, BatchResumed, Event, describe_cause
from .limiter import Waiters, wake_first


class CircuitBreaker:
    """Notices that Thor seems down, and lets single probes through until it speaks again.

    Down is `LIMIT` outcomes in a row without an answer of Thor's own. Then one request at a time
    goes out, after 1, 2, 4 ... 15 s; the first answer of Thor's own resumes. When `give_up_after`
    seconds of pause have passed, the probe at their end decides whether `give_up` is called;
    None is never, 0 at once. Seconds are the loop's.
    """

    LIMIT = 64
    _FIRST, _LONGEST = 1.0, 15.0

    def __init__(
        self,
        give_up_after: float | None,
        give_up: Callable[[Exception | None], None],
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._give_up_after = give_up_after
        self._give_up = give_up
        self._tell = tell
        self._silent = 0
        self._cause: Exception | None = None
        self._delay = self._FIRST
        self._deadline = math.inf
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._open_turn = False
        self._held: Waiters = deque()
        self._pullers: Waiters = deque()
        self.paused = False

    def heard(self) -> None:
        """Thor spoke: whatever was held goes on."""
        self._silent = 0
        if self.paused:
            self.end()
            self._tell(BatchResumed(self._loop.time() - self._began))

    def silence(self, cause: Exception | None) -> None:
        """A command ended without an answer of Thor's own."""
        self._silent += 1
        self._cause = cause
        if self.paused or self._silent < self.LIMIT:
            return
        if self._give_up_after == 0:
            self._give_up(cause)
            return
        self.paused = True
        self._number += 1
        self._delay = self._FIRST
        self._began = self._loop.time()
        if self._give_up_after is not None:
            self._deadline = self._began + self._give_up_after
        self._open_turn_later()
        self._tell(BatchPaused(describe_cause(cause)))

    def probed(self, number: int, cause: Exception | None) -> None:
        """The probe of the pause with that number, if it still lasts, was not answered."""
        if not self.paused or number != self._number:
            return
        if self._loop.time() >= self._deadline:
            self._give_up(cause)
        else:
            self._delay = min(self._delay * 2, self._LONGEST)
            self._open_turn_later()

    def pass_on(self, number: int) -> None:
        """The next may be the probe at once: the one that had the turn could not use it."""
        if self.paused and number == self._number:
            self._open()

    async def turn(self) -> int:
        """Waits for the end of the pause (0), or for the turn to be its probe (its number)."""
        if self._open_turn:
            self._open_turn = False
            return self._number
        return await self._wait_in(self._held)

    async def pull_turn(self) -> None:
        """Waits until the next command may be pulled: no pause, or nothing to probe with.

        The turn stays open: the first request to come to `turn` takes it.
        """
        while self.paused and not self._open_turn:
            await self._wait_in(self._pullers)

    def end(self) -> None:
        """Ends the pause, if there is one, and wakes all who wait for its end."""
        self.paused = self._open_turn = False
        self._deadline = math.inf
        self._set_timer(math.inf, self._open)
        for queue in (self._held, self._pullers):
            while wake_first(queue, result=0):
                pass

    async def _wait_in(self, queue: Waiters) -> int:
        waiter: asyncio.Future[int] = self._loop.create_future()
        queue.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self.pass_on(waiter.result())
            raise

    def _open_turn_later(self) -> None:
        self._set_timer(min(self._loop.time() + self._delay, self._deadline), self._open)

    def _open(self) -> None:
        """Gives the turn to whoever is held; else a command may be pulled for it."""
        self._open_turn = not wake_first(self._held, result=self._number)
        if self._open_turn:
            wake_first(self._pullers, result=self._number)
            # A live source may have none: then nobody ever comes for the turn.
            self._set_timer(max(self._loop.time() + self._FIRST, self._deadline), self._expire)

    def _expire(self) -> None:
        if self.paused and self._open_turn:
            self._give_up(self._cause)

    def _set_timer(self, when: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when == math.inf else self._loop.call_at(when, callback)
