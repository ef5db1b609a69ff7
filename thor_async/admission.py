"""When a request may go on the wire: permits, the end of a batch, and the pause of an outage."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from .errors import AccountError, NotSentError, ThorError

T = TypeVar("T")
Cause = Exception | None
Request = Callable[[asyncio.Timeout], Awaitable[ThorError | None]]

_REFUSALS = {
    "timeout": "out of time before it could be sent",
    "closed": "closed before it could be sent",
    "gave_up": "the batch gave up",
}
_TRIED = {"connect", "dns", "tls"}


class Permits:
    """At most `limit` requests on the wire, across everything that one client does.

    Urgent waiters go before the others; within each kind the first to come is the first to go.
    """

    def __init__(self, limit: int) -> None:
        self._limit = self._free = limit
        self._urgent: deque[asyncio.Future[bool]] = deque()
        self._others: deque[asyncio.Future[bool]] = deque()
        self._idlers: deque[asyncio.Future[bool]] = deque()

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
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others).append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # handed over in the same moment
                self.release()
            raise

    def release(self) -> None:
        """Hands a permit to whoever waits first."""
        for queue in (self._urgent, self._others):
            if _wake_first(queue, result=True):
                return
        self._free += 1
        if self._free == self._limit:
            while _wake_first(self._idlers, result=True):
                pass

    async def idle(self) -> None:
        """Waits until nothing is on the wire."""
        if self._free < self._limit:
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._idlers.append(waiter)
            await waiter


class Outage:
    """Notices that Thor seems down, and lets single probes through until it speaks again.

    Down is `LIMIT` outcomes in a row without an answer of Thor's own. Then one request at a time
    goes out, after 1, 2, 4 ... 15 s; the first answer of Thor's own resumes. When `give_up_after`
    seconds of pause have passed, the probe at their end decides whether `give_up` is called;
    None is never, 0 at once. Seconds are the loop's.
    """

    LIMIT = 64
    _FIRST, _LONGEST = 1.0, 15.0

    def __init__(self, give_up_after: float | None, give_up: Callable[[Cause], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._give_up_after = give_up_after
        self._give_up = give_up
        self._silent = 0
        self._delay = self._FIRST
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._open_turn = False
        self._held: deque[asyncio.Future[bool]] = deque()
        self._pullers: deque[asyncio.Future[bool]] = deque()
        self.paused = False

    def heard(self) -> None:
        """Thor spoke: whatever was held goes on."""
        self._silent = 0
        if self.paused:
            self.end()

    def silence(self, cause: Cause) -> None:
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

    def probed(self, cause: Cause) -> None:
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
            self._open_turn = not _wake_first(self._held, result=True)
            if self._open_turn:
                _wake_first(self._pullers, result=True)

    async def turn(self) -> bool:
        """Waits until there is no pause any more (False), or for the turn to be its probe (True)."""
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

    async def _wait_in(self, queue: deque[asyncio.Future[bool]]) -> bool:
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
            while _wake_first(queue, result=False):
                pass


class Lane:
    """The way to the wire of the calls that belong together: all single ones, or one batch.

    Ends once, by `halt`: then nothing more of it is sent, and no wait of it goes on.
    """

    def __init__(
        self,
        permits: Permits,
        *,
        is_batch: bool = False,
        give_up_after: float | None = None,
        until: float = math.inf,
    ) -> None:
        """`until` is the loop time at which a batch ends."""
        self._permits = permits
        self.is_batch = is_batch
        self._loop = asyncio.get_running_loop()
        self._end_timer = (
            None if until == math.inf else self._loop.call_at(until, self.halt, "timeout")
        )
        self._outage = Outage(give_up_after, self._give_up)
        self._waits: set[asyncio.Timeout] = set()
        self._on_wire: set[asyncio.Timeout] = set()
        self.cause: Cause = None
        self.until = until
        self.halted: str | None = None
        self.is_cut = False
        self.resting = 0
        self.on_rest: Callable[[], None] = lambda: None

    def halt(self, reason: str, cause: Cause = None) -> None:
        """Nothing more is sent, for that reason of a `NotSentError`; what is on the wire goes on."""
        if self.halted is None:
            self.halted, self.cause = reason, cause
            self._outage.end()
            self._end(self._waits)

    def cut(self) -> None:
        """Halts, and ends at once what is on the wire."""
        self.halt("closed")
        self.is_cut = True
        self._end(self._on_wire)

    def close(self) -> None:
        """Leaves nothing behind on the loop."""
        self.cut()
        if self._end_timer:
            self._end_timer.cancel()

    async def rest(self, sleep: Awaitable[object], until: float) -> None:
        """Sleeps between two tries, without a permit, so that another command can go meanwhile."""
        self.resting += 1
        self.on_rest()
        try:
            await self.wait(sleep, until)
        finally:
            self.resting -= 1

    def refusal(self) -> NotSentError:
        """Why a command of this lane may not be sent any more."""
        reason = self.halted or "timeout"
        why = f": {getattr(self.cause, 'message', self.cause)}" if self.cause else ""
        error = NotSentError(f"{_REFUSALS[reason]}{why}", reason=reason)
        error.__cause__ = self.cause
        return error

    async def wait(self, awaitable: Awaitable[T], until: float | None = None) -> T | None:
        """Its result, or None: loop time `until` came, or the lane was halted, before it."""
        scope = asyncio.timeout_at(until)
        try:
            async with scope:
                self._waits.add(scope)
                if self.halted:
                    self._end([scope])
                try:
                    return await awaitable
                finally:
                    self._waits.discard(scope)
        except TimeoutError:
            if not scope.expired():
                raise
        return None

    async def pull_turn(self) -> bool:
        """Waits while an outage lets no further command be pulled; False when none ever may."""
        if self._outage.paused:
            await self.wait(self._outage.pull_turn())
        return self.halted is None

    async def send(self, request: Request, until: float, at_most: float) -> ThorError | None:
        """Makes the request as soon as it may go; a `NotSentError` when it may not before `until`.

        The request is given at most so many seconds, as an `asyncio.Timeout` for it to enter.
        """
        is_probe = await self._enter(until)
        if is_probe is None:
            return self.refusal()
        scope = asyncio.timeout_at(min(until, self._loop.time() + at_most))
        self._on_wire.add(scope)
        error: ThorError | None = NotSentError(reason="closed")
        try:
            error = await request(scope)
        finally:
            self._on_wire.discard(scope)
            # Before the permit is returned: whoever gets it must see what was learnt.
            self._learn(error, is_probe=is_probe)
            self._permits.release()
        return error

    async def _enter(self, until: float) -> bool | None:
        """Takes a permit: True as an outage's probe, else False. None when there is none to have."""
        is_probe = False
        while self.halted is None and self._loop.time() < until:
            if self._outage.paused and not is_probe:
                is_probe = bool(await self.wait(self._outage.turn(), until))
            elif self._permits.take() or await self.wait(
                self._permits.wait(urgent=not self.is_batch), until
            ):
                if self.halted is None and (is_probe or not self._outage.paused):
                    return is_probe
                self._permits.release()
        if is_probe:
            self._outage.pass_on()
        return None

    def _learn(self, error: ThorError | None, *, is_probe: bool) -> None:
        """What one request tells of Thor, and of the account."""
        if error is None or error.answered:
            self._outage.heard()
        elif is_probe and isinstance(error, NotSentError) and error.reason not in _TRIED:
            self._outage.pass_on()
        elif is_probe:
            self._outage.probed(error)
        if self.is_batch and isinstance(error, AccountError):
            self._give_up(error)

    def ended(self, error: ThorError | None, attempts: int) -> None:
        """What a command's outcome tells of Thor, if it was tried at all."""
        if attempts and error is not None and not error.answered:
            self._outage.silence(error)

    def fail(self, failure: Exception) -> NotSentError:
        """Something on our own side stands in the way of this request, and of all of a batch."""
        if self.is_batch:
            self._give_up(failure)
        return self.refusal()

    def _give_up(self, cause: Cause) -> None:
        self.halt("gave_up", cause)

    def _end(self, scopes: Iterable[asyncio.Timeout]) -> None:
        for scope in tuple(scopes):
            if not scope.expired():
                scope.reschedule(self._loop.time())


def _wake_first(queue: deque[asyncio.Future[bool]], *, result: bool) -> bool:
    """Whether there was anyone in the queue who still waits; the first of them now goes on."""
    while queue:
        waiter = queue.popleft()
        if not waiter.done():
            waiter.set_result(result)
            return True
    return False
