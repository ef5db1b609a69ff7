"""Deadlines of many requests with one timer: a timer for each would cost 5 % of a request."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self


class Deadline:
    """Ends the task within its `with` block, as `asyncio.timeout` does; made by `Deadlines`.

    A coroutine for each end of the block, as `asyncio.Timeout` has, would cost 4 % of a request.
    """

    __slots__ = ("_cancelling", "_handle", "_loop", "_task", "_times", "is_expired")

    def __init__(self, loop: asyncio.AbstractEventLoop, times: dict[Deadline, float]) -> None:
        self._loop = loop
        self._times = times
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._handle: asyncio.Handle | None = None
        self.is_expired: bool = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is used inside a task")
        self._task, self._cancelling = task, task.cancelling()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._times[self]
        if self._handle is not None:
            self._handle.cancel()
        if self.is_expired and self._task is not None:
            # More cancellations than ours are for the caller.
            is_ours = self._task.uncancel() <= self._cancelling
            if is_ours and exc_type is asyncio.CancelledError:
                raise TimeoutError from exc

    def expire(self) -> None:
        """Cancels the task in the next round of the loop, unless the block is left before."""
        if self._handle is None:
            self._handle = self._loop.call_soon(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self.is_expired = True
            self._task.cancel()


class Deadlines:
    """Ends each request at its deadline, or all of them at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._times: dict[Deadline, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def limit(self, seconds: float) -> Deadline:
        """Returns a deadline to enter at once: the block raises TimeoutError after `seconds`."""
        deadline = Deadline(self._loop, self._times)
        when = self._loop.time() + seconds
        self._times[deadline] = when
        if when < self._next:
            self._set_timer(when)
        return deadline

    def abort_all(self) -> None:
        """Ends every request now, and leaves no timer behind."""
        for deadline in tuple(self._times):
            deadline.expire()
        if self._timer is not None:
            self._timer.cancel()
        self._next = math.inf

    def _end_due(self) -> None:
        now = self._loop.time()
        self._next = math.inf
        for deadline, when in tuple(self._times.items()):
            if when <= now:
                deadline.expire()
            else:
                self._next = min(self._next, when)
        if self._next < math.inf:
            self._set_timer(self._next)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = self._loop.call_at(when, self._end_due)
