"""The way to the wire of calls that belong together, and the end of all their waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from .._errors import AccountError, NotSentError, ThorError
from .._events import BatchAbandoned, Event, describe_cause
from .._transport.deadlines import Deadlines, end_now
from .breaker import CircuitBreaker
from .limiter import PriorityLimiter

T = TypeVar("T")
Request = Callable[[asyncio.Timeout, float], Awaitable[ThorError | None]]

_REFUSALS = {
    "timeout": "out of time before it could be sent",
    "closed": "closed before it could be sent",
    "gave_up": "the batch gave up",
}
_TRIED = {"connect", "dns", "tls"}


class Dispatcher:
    """The way to the wire of the calls that belong together: all single ones, or one batch.

    Ends once, by `halt`: then nothing more of it is sent, and no wait of it goes on.
    """

    def __init__(
        self,
        permits: PriorityLimiter,
        *,
        is_batch: bool = False,
        give_up_after: float | None = None,
        tell: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._permits = permits
        self._tell = tell
        self.is_batch = is_batch
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._end_timer: asyncio.TimerHandle | None = None
        self._outage = CircuitBreaker(give_up_after, self._give_up, tell)
        self._waits: set[asyncio.Timeout] = set()
        self._on_wire = Deadlines(self._loop)
        self.cause: Exception | None = None
        self.until = math.inf
        self.halted: str | None = None
        self.is_cut = False
        self.resting = 0
        self.on_rest: Callable[[], None] = lambda: None

    def end_in(self, seconds: float) -> None:
        """Halts by itself then, with everything of it that still goes on."""
        self.until = self._loop.time() + seconds
        self._end_timer = self._loop.call_at(self.until, self.halt, "timeout")

    def halt(self, reason: str, cause: Exception | None = None) -> None:
        """Nothing more is sent, for that reason of a `NotSentError`; what is on the wire ends."""
        if self.halted is None:
            self.halted, self.cause = reason, cause
            self._outage.end()
            self._end(self._waits)

    def cut(self) -> None:
        """Halts, and ends at once what is on the wire."""
        self.halt("closed")
        self.is_cut = True
        self._on_wire.end_all()

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

    async def stay(self, work: Callable[[], Awaitable[object]]) -> None:
        """Waits for it without a permit, also once the lane is halted: only a cut ends that."""
        if self.is_cut:
            return
        scope = asyncio.Timeout(None)
        self.resting += 1
        self.on_rest()
        try:
            self._on_wire.add(scope, math.inf)
            async with scope:
                await work()
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._on_wire.discard(scope)
            self.resting -= 1

    def refusal(self) -> NotSentError:
        """Why a command of this lane may not be sent any more."""
        reason = self.halted or "timeout"
        why = f": {describe_cause(self.cause)}" if self.cause is not None else ""
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

    @property
    def is_paused(self) -> bool:
        """Whether an outage lets no further command be pulled for now."""
        return self._outage.paused

    async def pull_turn(self) -> bool:
        """Waits while an outage lets no further command be pulled; False when none ever may."""
        if self._outage.paused:
            await self.wait(self._outage.pull_turn())
        return self.halted is None

    async def send(self, request: Request, until: float, at_most: float) -> ThorError | None:
        """Makes the request as soon as it may go; a `NotSentError` when it may not before `until`.

        The request is given an `asyncio.Timeout` to enter, and the seconds after which that ends.
        """
        probe, now = 0, self.time()
        # Nearly always there is nothing to wait for.
        if self.halted or self._outage.paused or now >= until or not self._permits.take():
            entered = await self._enter(until)
            if entered is None:
                return self.refusal()
            probe, now = entered, self.time()
        scope = asyncio.Timeout(None)
        end = now + at_most if now + at_most < until else max(now, until)
        try:
            self._on_wire.add(scope, end)
            error = await request(scope, end - now)
            # Before the permit is returned: whoever gets it must see what was learnt.
            if error is None:
                self._outage.heard()
            else:
                self._learn(error, probe)
        except BaseException:
            self._outage.pass_on(probe)
            raise
        finally:
            self._on_wire.discard(scope)
            self._permits.release()
        return error

    async def _enter(self, until: float) -> int | None:
        """Takes a permit: as the probe of the pause with that number, or 0. None: it may not go."""
        probe = 0
        try:
            while self.halted is None and self._loop.time() < until:
                if self._outage.paused and not probe:
                    turn = await self.wait(self._outage.turn(), until)
                    if turn is None:
                        break
                    probe = turn
                elif not self._permits.take() and not await self.wait(
                    self._permits.wait(urgent=not self.is_batch), until
                ):
                    break
                elif self.halted is None and (probe or not self._outage.paused):
                    return probe
                else:
                    self._permits.release()
        except BaseException:
            self._outage.pass_on(probe)
            raise
        self._outage.pass_on(probe)
        return None

    def _learn(self, error: ThorError, probe: int) -> None:
        """What one request that failed tells of Thor, and of the account."""
        if error.answered:
            self._outage.heard()
        elif isinstance(error, NotSentError) and error.reason not in _TRIED:
            self._outage.pass_on(probe)
        else:
            self._outage.probed(probe, error)
        if self.is_batch and isinstance(error, AccountError):
            self._give_up(error)

    def ended(self, error: ThorError, attempts: int) -> None:
        """What the error that a command ended with tells of Thor, if it was tried at all."""
        if self.is_batch and self.halted is None and attempts and not error.answered:
            self._outage.silence(error)

    def fail(self, failure: BaseException) -> NotSentError:
        """Something on our own side stands in the way of this request, and of all of a batch."""
        if not self.is_batch:
            return NotSentError(f"broken off by {type(failure).__name__}", reason="closed")
        if isinstance(failure, Exception):
            self._give_up(failure)
        else:
            self.halt("closed")
        return self.refusal()

    def _give_up(self, cause: Exception | None) -> None:
        if self.halted is None:
            self.halt("gave_up", cause)
            self._tell(BatchAbandoned(describe_cause(cause)))

    def _end(self, scopes: Iterable[asyncio.Timeout]) -> None:
        for scope in tuple(scopes):
            end_now(scope, self._loop.time())
