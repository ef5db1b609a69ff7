"""Polls the list of running charges for all commands that need it, with one request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from .._errors import ThorError
from .._protocol.lists import RunningCharge
from .._protocol.notifications import StopNotification
from .programming_errors import ProgrammingError, log_programming_error
from .snapshot import Snapshot
from .tracker import ChargeTracker

# Seconds for which a list is recent enough to show what runs before a stop.
_FRESH = 3.0
_SHORTEST, _LONGEST, _GROWTH, _JITTER = 2.0, 10.0, 1.5, 1.2
_LONGEST_BACKOFF, _BACKOFF_GROWTH = 60.0, 2.0
# One wrong header must not end all confirmations for years.
_LONGEST_RETRY_AFTER = 3600.0
_BEFORE_STOP, _AFTER_END = 2.0, 1.0
_CHUNK = 500

T = TypeVar("T")

Result = Snapshot | ThorError | ProgrammingError
Look = Callable[[], Awaitable[list[RunningCharge] | ThorError]]


class _TrackerSignals:
    """`settled` is set as soon as a tracker has its proof, or a fault; `changed` by each fact."""

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        self.changed = asyncio.Event()
        self.fault: ProgrammingError | None = None


class RunningChargePoller:
    """Asks for the list of running charges (a look) while a command needs it.

    Looks begin at least 2 s after one another. While a charge is tracked, the interval grows from 2
    to 10 s, jittered, and is 2 s again when another charge is tracked. After each failed look it
    doubles, up to 60 s, and is at least the answer's `Retry-After`; only a list that arrives makes
    it short again. Until the next look, a caller that needs a list gets the last failure at once.

    A programming error in a look is logged, and raised to the callers that wait for that look; one
    in a tracker is raised to the command of that tracker. The poll goes on.
    """

    def __init__(
        self,
        look: Look,
        jitter: Callable[[float, float], float] = random.uniform,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._look = look
        self._jitter = jitter
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._epoch_of_loop_time_0 = now() - self._loop.time()
        self._waiters: dict[ChargeTracker, _TrackerSignals] = {}
        self._users = 0
        self._poll: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._is_looking = False
        self._last_begin = self._not_before = self._due = -math.inf
        self._interval = _SHORTEST
        self._due_changed = asyncio.Event()
        self._lists = 0
        self._latest: Result | None = None
        self._latest_begin = -math.inf
        self._arrived = asyncio.Event()

    @contextlib.asynccontextmanager
    async def track(self, tracker: ChargeTracker) -> AsyncIterator[None]:
        """Hands all lists and notifications to the tracker while the block lasts."""
        self._waiters[tracker] = _TrackerSignals()
        if not self._is_failing():
            self._interval = _SHORTEST
        if isinstance(self._latest, Snapshot) and self._latest_begin >= self._loop.time() - _FRESH:
            self._hand_over(tracker, tracker.observe, self._latest)
        self._poll_by(self._last_begin + _SHORTEST)
        try:
            async with self._polling():
                yield
        finally:
            del self._waiters[tracker]

    async def wait_closed(self) -> None:
        """Waits until no poll runs on that has ended."""
        if self._ending:
            await asyncio.wait(self._ending)

    def notify(self, notification: StopNotification) -> None:
        """Hands a notification to the trackers of its connector."""
        for tracker in self._waiters:
            if tracker.place == (notification.chargebox, notification.connector):
                self._hand_over(tracker, tracker.notify, notification)

    async def latest_showing(
        self, chargebox: str, connector: int, since: float
    ) -> Snapshot | ThorError:
        """Returns a list of the last 3 s that shows a charge there, else one begun since `since`.

        Returns the error of a failed look; raises the programming error of one.
        """
        latest = await self._wait_for_list(self._loop.time() - _FRESH)
        if isinstance(latest, Snapshot) and not latest.charges_at(chargebox, connector):
            latest = await self._wait_for_list(since)
        if isinstance(latest, ProgrammingError):
            latest.throw()
        return latest

    async def wait_before_stop(self, chargebox: str, connector: int, since: float) -> None:
        """Waits as `latest_showing` does, but at most 2 s from the begin of a look.

        The stop matters more: it is sent in any case, so nothing is raised here.
        """
        latest = await self._wait_briefly(self._loop.time() - _FRESH)
        if isinstance(latest, Snapshot) and not latest.charges_at(chargebox, connector):
            await self._wait_briefly(since)

    async def wait_until_settled(self, tracker: ChargeTracker, until: float) -> None:
        """Returns when the tracker has its proof, else soon after the last look, at `until`.

        Raises a programming error in this tracker; and at the end one in the last look, so that it
        is not taken for a list that did not come.
        """
        waiter = self._waiters[tracker]
        if tracker.state is not None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await waiter.settled.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until + _AFTER_END):
                if not waiter.settled.is_set():
                    await self._wait_for_list(until - _SHORTEST)
        if waiter.fault is not None:
            waiter.fault.throw()
        if tracker.state is None and isinstance(self._latest, ProgrammingError):
            self._latest.throw()

    async def wait_for_change(self, tracker: ChargeTracker, until: float) -> None:
        """Returns when the tracker gets the next list or notification, at `until` at the latest.

        Raises a programming error in this tracker.
        """
        waiter = self._waiters[tracker]
        waiter.changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await waiter.changed.wait()
        if waiter.fault is not None:
            waiter.fault.throw()

    async def _wait_for_list(self, since: float) -> Result:
        """Returns the result of a look that began at `since` or later.

        While the list fails and may not be asked for yet, returns its last failure at once.
        """
        async with self._polling():
            while self._latest is None or self._latest_begin < since:
                if self._latest is not None and self._is_backing_off():
                    break
                self._poll_by(max(self._loop.time(), since))
                await self._arrived.wait()
            return self._latest

    async def _wait_briefly(self, since: float) -> Result | None:
        begin = self._last_begin if self._is_looking else max(self._loop.time(), self._not_before)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(begin + _BEFORE_STOP):
                return await self._wait_for_list(since)
        return None

    def _is_failing(self) -> bool:
        return self._latest is not None and not isinstance(self._latest, Snapshot)

    def _is_backing_off(self) -> bool:
        is_early = not self._is_looking and self._loop.time() < self._not_before
        return is_early and self._is_failing()

    def _poll_by(self, due: float) -> None:
        due = max(due, self._not_before)
        if due < self._due:
            self._due = due
            self._due_changed.set()

    @contextlib.asynccontextmanager
    async def _polling(self) -> AsyncIterator[None]:
        """Runs the poll while at least one such block lasts."""
        self._users += 1
        if self._poll is None:
            self._poll = asyncio.Task(self._run(), loop=self._loop)
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                poll, self._poll = self._poll, None
                self._is_looking = False
                # Not awaited here: a cancellation of that wait would lose the caller's result.
                poll.cancel()
                self._ending.add(poll)
                poll.add_done_callback(self._ending.discard)

    async def _run(self) -> None:
        while True:
            await self._wait_until_due()
            begin = self._last_begin = self._loop.time()
            # Holds also when this look is broken off.
            pause = self._interval if self._is_failing() else _SHORTEST
            self._due = self._not_before = begin + pause
            self._is_looking = True
            stretch, result = await self._poll_once(begin)
            self._is_looking = False
            self._schedule(begin, stretch, result)
            self._publish(begin, result)

    async def _wait_until_due(self) -> None:
        while self._loop.time() < self._due:
            self._due_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._due):
                    await self._due_changed.wait()

    async def _poll_once(self, begin: float) -> tuple[float, Result]:
        """Returns the jitter of the next interval, and the result of one look."""
        stretch = 1.0
        try:
            stretch = float(self._jitter(1.0, _JITTER))
            wall_time = self._wall_time()
            charges = await self._look()
            if isinstance(charges, ThorError):
                return stretch, charges
            self._lists += 1
            snapshot = Snapshot(begin, wall_time=wall_time, number=self._lists)
            return stretch, await _fill(snapshot, charges)
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Else the look was cancelled from inside, and its callers would wait for ever.
            error = RuntimeError("a look at the running charges was cancelled")
            return stretch, log_programming_error(error.with_traceback(cancelled.__traceback__))
        except Exception as fault:
            return stretch, log_programming_error(fault)

    def _wall_time(self) -> float:
        """Returns epoch seconds, so that a clock set back makes no charge begin in the future.

        The loop's clock alone would not do: it may stand still while the machine is suspended.
        """
        return max(self._now(), self._epoch_of_loop_time_0 + self._loop.time())

    def _schedule(self, begin: float, stretch: float, result: Result) -> None:
        """Decides when the next look is due, and before which time none may begin."""
        if isinstance(result, Snapshot):
            if self._is_failing():
                self._interval = _SHORTEST
            self._not_before = begin + _SHORTEST
            self._due = max(self._not_before, begin + self._interval * stretch)
            self._interval = min(self._interval * _GROWTH, _LONGEST)
            return
        self._interval = min(self._interval * _BACKOFF_GROWTH, _LONGEST_BACKOFF)
        asked = (result.retry_after or 0.0) if isinstance(result, ThorError) else 0.0
        wait = max(self._interval, self._interval * stretch, min(asked, _LONGEST_RETRY_AFTER))
        # From the end of the look: a list that takes long to fail gives no shorter pause.
        self._due = self._not_before = self._loop.time() + wait

    def _publish(self, begin: float, result: Result) -> None:
        self._latest, self._latest_begin = result, begin
        if isinstance(result, Snapshot):
            for tracker in self._waiters:
                self._hand_over(tracker, tracker.observe, result)
        self._arrived.set()
        self._arrived = asyncio.Event()

    def _hand_over(self, tracker: ChargeTracker, method: Callable[[T], None], fact: T) -> None:
        """Calls a method of the tracker, unless the tracker has had a fault."""
        waiter = self._waiters[tracker]
        if waiter.fault is None:
            try:
                method(fact)
            except Exception as fault:
                waiter.fault = log_programming_error(fault)
        waiter.changed.set()
        if tracker.state is not None or waiter.fault is not None:
            waiter.settled.set()


async def _fill(snapshot: Snapshot, charges: list[RunningCharge]) -> Snapshot:
    """Fills a snapshot in chunks, and empties the list: 100,000 charges take long to free, too."""
    while charges:
        snapshot.add(charges[-_CHUNK:])
        del charges[-_CHUNK:]
        if charges:
            await asyncio.sleep(0)
    return snapshot
