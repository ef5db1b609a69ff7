"""The pause while Thor seems down: single probes, until it speaks again or the batch gives up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .permits import Waiters, wake_first


class Outage:
    """Notices that Thor seems down, and lets single probes through until it speaks again.

    Down is `LIMIT` outcomes in a row without an answer of Thor's own. Then one request at a time
    goes out, after 1, 2, 4 ... 15 s; the first answer of Thor's own resumes. When `give_up_after`
    seconds of pause have passed, the probe at their end decides whether `give_up` is called;
    None is never, 0 at once. Seconds are the loop's.
    """

    LIMIT = 64
    _FIRST, _LONGEST = 1.0, 15.0

    def __init__(self, give_up_after: float | None, give_up: Callable[[Exception], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._give_up_after = give_up_after
        self._give_up = give_up
        self._silent = 0
        self._delay = self._FIRST
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._open_turn = False
        self._held: Waiters = deque()
        self._pullers: Waiters = deque()
        self.paused = False

    def heard(self) -> None:
        """Thor spoke: whatever was held goes on."""
        self._silent = 0
        if self.paused:
            self.end()

    def silence(self, cause: Exception) -> None:
        """A command ended without an answer of Thor's own."""
        self._silent += 1
        if self.paused or self._silent < self.LIMIT:
            return
        if self._give_up_after == 0:
            self._give_up(cause)
            return
        self.paused = True
        self._delay = self._FIRST
        if self._give_up_after is not None:
            self._deadline = self._loop.time() + self._give_up_after
        self._schedule()

    def probed(self, cause: Exception) -> None:
        """The probe has ended; had it been answered, there would be no pause any more."""
        if not self.paused:
            return
        if self._deadline is not None and self._loop.time() >= self._deadline:
            self._give_up(cause)
        else:
            self._delay = min(self._delay * 2, self._LONGEST)
            self._schedule()

    def pass_on(self) -> None:
        """The next may be the probe at once: the one that had the turn could not use it."""
        if self.paused:
            self._open_turn = not wake_first(self._held, result=True)
            if self._open_turn:
                wake_first(self._pullers, result=True)

    async def turn(self) -> bool:
        """Waits for the end of the pause (False), or for the turn to be its probe (True)."""
        if self._open_turn:
            self._open_turn = False
            return True
        return await self._wait_in(self._held)

    async def pull_turn(self) -> None:
        """Waits until the next command may be pulled: there is no pause, or nothing to probe with.

        The turn stays open: the first request to come to `turn` takes it.
        """
        while self.paused and not self._open_turn:
            await self._wait_in(self._pullers)

    async def _wait_in(self, queue: Waiters) -> bool:
        waiter: asyncio.Future[bool] = self._loop.create_future()
        queue.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.result():
                self.pass_on()
            raise

    def _schedule(self) -> None:
        when = self._loop.time() + self._delay
        if self._deadline is not None:
            when = min(when, self._deadline)
        self._timer = self._loop.call_at(when, self.pass_on)

    def end(self) -> None:
        """Ends the pause, if there is one, and wakes all who wait for its end."""
        self.paused = self._open_turn = False
        self._deadline = None
        if self._timer:
            self._timer.cancel()
        for queue in (self._held, self._pullers):
            while wake_first(queue, result=False):
                pass
