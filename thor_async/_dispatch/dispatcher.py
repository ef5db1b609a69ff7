"""Decides when each request of a group may be sent, and ends all requests of the group together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

from .._errors import NotSentError, NotSentReason, ThorError, TooManyRequests
from .._events import (
    BatchAbandoned,
    BatchPaused,
    BatchResumed,
    Event,
    describe_cause,
    describe_failure,
)
from .._transport.deadlines import Deadlines
from .breaker import CircuitBreaker, PauseStatus
from .limiter import PriorityLimiter
from .pace import Pace

T = TypeVar("T")

_SOON = 0.02
"""Seconds in which commands are pulled ahead of the pace."""

_REFUSALS = {
    "timeout": "out of time before it could be sent",
    "closed": "closed before it could be sent",
    "gave_up": "the batch gave up",
}


class Permit(NamedTuple):
    """Allows one request, which is for the breaker the probe of that number, or 0.

    It waited `paced` seconds for the pace.
    """

    probe: int
    paced: float


class Dispatcher:
    """Dispatches requests that share a limiter, a pace, a breaker and an end.

    A client has one for its single calls and one for each batch. A request takes a permit by
    `try_acquire` or `acquire`, and gives it back by `release` or `release_unused`. After `stop`
    no permit is given, and no wait goes on.
    """

    def __init__(
        self,
        limiter: PriorityLimiter,
        pace: Pace | None = None,
        *,
        is_batch: bool = False,
        give_up_after: float | None = None,
        emit: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._limiter = limiter
        self.pace: Pace = Pace() if pace is None else pace
        self._emit = emit
        self.is_batch = is_batch
        self._loop = asyncio.get_running_loop()
        self.time: Callable[[], float] = self._loop.time
        self._breaker = CircuitBreaker(
            give_up_after=give_up_after,
            on_open=lambda cause: emit(BatchPaused(describe_cause(cause))),
            on_close=lambda seconds: emit(BatchResumed(seconds)),
            on_give_up=self._give_up if is_batch else lambda cause: None,
        )
        self._end_timer: asyncio.TimerHandle | None = None
        self._waits: set[asyncio.Timeout] = set()
        self.deadlines: Deadlines = Deadlines(self._loop)
        self.until: float = math.inf
        self.stop_reason: NotSentReason | None = None
        self.cause: Exception | None = None
        self._why: str | None = None
        self.is_aborted: bool = False
        self.in_flight: int = 0
        self._idle_waiters: list[asyncio.Future[None]] = []
        self.unpermitted: int = 0
        self.watched: int = 0
        self.on_room: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None

    def stop_after(self, seconds: float) -> None:
        """Stops after `seconds`, with everything that still goes on."""
        self.until = self._loop.time() + seconds
        self._end_timer = self._loop.call_at(self.until, self.stop, "timeout")

    def stop(
        self, reason: NotSentReason, cause: Exception | None = None, why: str | None = None
    ) -> None:
        """Sends nothing more, for this `reason` of a `NotSentError`. What is in flight finishes.

        `why` describes the `cause`, where more is known of it than it tells itself.
        """
        if self.stop_reason is None:
            self.stop_reason, self.cause = reason, cause
            self._why = why or describe_cause(cause)
            self._breaker.disable()
            self._expire(self._waits)
            self.on_stop()

    def abort(self) -> None:
        """Stops, and ends at once what is in flight."""
        self.stop("closed")
        self.is_aborted = True
        self.deadlines.abort_all()

    def close(self) -> None:
        """Aborts, and leaves nothing behind on the loop."""
        self.abort()
        if self._end_timer is not None:
            self._end_timer.cancel()

    def refusal(self) -> NotSentError:
        """Returns why a command may not be sent any more."""
        reason = self.stop_reason or "timeout"
        why = f": {self._why}" if self._why is not None else ""
        cause = self.cause if isinstance(self.cause, ThorError) else None
        error = NotSentError(f"{_REFUSALS[reason]}{why}", reason=reason, cause=cause)
        error.__cause__ = self.cause
        return error

    def try_acquire(self, until: float) -> bool:
        """Takes a permit, if there is nothing to wait for; nearly always there is not."""
        if (
            self.stop_reason is not None
            or self._breaker.is_open
            or self.pace.is_limited
            or self._loop.time() >= until
            or not self._limiter.try_acquire(urgent=not self.is_batch)
        ):
            return False
        self.in_flight += 1
        return True

    @property
    def free(self) -> float:
        """Requests that can begin soon, as far as permits and the pace are concerned."""
        free = self._limiter.free
        return min(free, self.pace.rate * _SOON) if self.pace.is_limited else free

    async def acquire(self, until: float) -> Permit | None:
        """Waits for a permit until loop time `until`. None: the request may not be sent.

        In a batch the time in which it waits for the pace does not count.
        """
        probe, paced, has_turn = 0, 0.0, False
        try:
            while self.stop_reason is None and self._loop.time() < until + paced:
                if self._breaker.is_open and not probe:
                    if has_turn:
                        # The probe needs it, and so do single calls.
                        self.pace.release_turn(urgent=not self.is_batch)
                        has_turn = False
                    acquired = await self.wait(self._breaker.acquire_probe(), until + paced)
                    if acquired is None:
                        break
                    probe = acquired
                elif self.pace.is_limited and not has_turn:
                    began = self._loop.time()
                    has_turn = await self._acquire_turn(until)
                    paced += self._loop.time() - began if self.is_batch else 0.0
                elif not await self._acquire_limited(until + paced, spares=has_turn):
                    break
                elif self._may_begin(probe, has_turn=has_turn):
                    if has_turn:
                        self.pace.begin(urgent=not self.is_batch)
                    self.in_flight += 1
                    self.on_room()
                    return Permit(probe, paced)
                else:
                    self._limiter.release()
                    if has_turn and not self.pace.is_due:
                        # An urgent request has begun meanwhile.
                        self.pace.release_turn(urgent=not self.is_batch)
                        has_turn = False
        except BaseException:
            self._give_back(probe, has_turn=has_turn)
            raise
        self._give_back(probe, has_turn=has_turn)
        return None

    async def _acquire_turn(self, until: float) -> bool:
        """Waits until the pace lets this request begin."""
        urgent = not self.is_batch
        if self.pace.try_turn(urgent=urgent):
            return True
        end = until if urgent else self.until
        return bool(await self.wait(self.pace.acquire_turn(urgent=urgent), end))

    async def _acquire_limited(self, until: float, *, spares: bool) -> bool:
        """Waits for a permit of the limiter. A paced batch `spares` one for a single call."""
        urgent = not self.is_batch
        if self._limiter.try_acquire(urgent=urgent, spares=spares and not urgent):
            return True
        waiting = self._limiter.acquire(urgent=urgent, spares=spares and not urgent)
        return bool(await self.wait(waiting, until))

    def _may_begin(self, probe: int, *, has_turn: bool) -> bool:
        """Whether a request that has a permit may use it: things changed while it waited."""
        is_paced = self.pace.is_due if has_turn else not self.pace.is_limited
        return self.stop_reason is None and is_paced and bool(probe or not self._breaker.is_open)

    def _give_back(self, probe: int, *, has_turn: bool) -> None:
        self._breaker.release_probe(probe)
        if has_turn:
            self.pace.release_turn(urgent=not self.is_batch)

    def release(
        self, error: ThorError | None, probe: int, begun: float = 0.0, subject: str = ""
    ) -> None:
        """Takes in how a request ended, and gives its permit back.

        It was about the chargebox `subject`, and began at loop time `begun`.
        """
        # In this order: who gets the permit must see what was learnt.
        self.pace.record(error, begun, subject)
        if isinstance(error, TooManyRequests) and error.is_quota and self.is_batch:
            self._give_up(error)
        if error is not None or self._breaker.is_open:
            self._breaker.record_result(error, probe)
        else:
            self._breaker.failures = 0
        self._release()

    def release_unused(self, probe: int) -> None:
        """Gives back the permit of a request that was cancelled, or that could not be made."""
        self._breaker.release_probe(probe)
        self._release()

    async def wait_idle(self) -> None:
        """Waits until no request of it is in flight."""
        if self.in_flight:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._idle_waiters.append(waiter)
            await waiter

    def _release(self) -> None:
        self._limiter.release()
        self.in_flight -= 1
        if self._idle_waiters and not self.in_flight:
            for waiter in self._idle_waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle_waiters.clear()

    def record_final(self, error: ThorError, attempts: int) -> None:
        """Takes in the error with which a command ended, after so many `attempts`."""
        if self.is_batch and self.stop_reason is None and attempts and not error.answered:
            self._breaker.record_failure(error)

    def record_local_failure(self, failure: BaseException, what: str | None = None) -> NotSentError:
        """Takes in a failure on our own side, and returns the error of the request that met it.

        `what` is the user's function that failed, where it is known. A batch gives up, because the
        rest of it would fail alike.
        """
        if not self.is_batch:
            by = "by" if what is None else "because"
            return NotSentError(
                f"broken off {by} {describe_failure(failure, what)}", reason="closed"
            )
        if isinstance(failure, Exception):
            self._give_up(failure, describe_failure(failure, what))
        else:
            self.stop("closed")
        return self.refusal()

    async def wait(self, awaitable: Awaitable[T], until: float | None = None) -> T | None:
        """Returns its result; None if loop time `until` came first, or the dispatcher stopped."""
        timeout = asyncio.timeout_at(until)
        try:
            async with timeout:
                self._waits.add(timeout)
                if self.stop_reason is not None:
                    self._expire([timeout])
                try:
                    return await awaitable
                finally:
                    self._waits.discard(timeout)
        except TimeoutError:
            if not timeout.expired():
                raise
        return None

    async def wait_unpermitted(self, awaitable: Awaitable[T], until: float) -> T | None:
        """Waits as `wait` does, without a permit; meanwhile another command can be sent."""
        self.unpermitted += 1
        try:
            self.on_room()
            return await self.wait(awaitable, until)
        finally:
            self.unpermitted -= 1

    async def run_unpermitted(self, work: Callable[[], Awaitable[object]]) -> None:
        """Waits for `work` without a permit. It goes on after `stop`; only `abort` ends it."""
        if self.is_aborted:
            return
        deadline = self.deadlines.limit(math.inf)
        self.unpermitted += 1
        self.watched += 1
        try:
            with deadline:
                self.on_room()
                await work()
        except TimeoutError:
            if not deadline.is_expired:
                raise
        finally:
            self.unpermitted -= 1
            self.watched -= 1

    @property
    def pause_status(self) -> PauseStatus | None:
        """What is known of a pause while Thor seems down; None without one."""
        return self._breaker.pause_status

    @property
    def is_paused(self) -> bool:
        """Whether the breaker allows no further command to be pulled for now."""
        return self._breaker.is_open

    async def wait_until_pull_allowed(self) -> bool:
        """Waits while no further command may be pulled; False when none ever may."""
        if self._breaker.is_open:
            await self.wait(self._breaker.wait_until_pull_allowed())
        return self.stop_reason is None

    def _give_up(self, cause: Exception | None, why: str | None = None) -> None:
        if self.stop_reason is None:
            self.stop("gave_up", cause, why)
            self._emit(BatchAbandoned(self._why))

    def _expire(self, timeouts: Iterable[asyncio.Timeout]) -> None:
        for timeout in tuple(timeouts):
            if not timeout.expired():
                timeout.reschedule(self._loop.time())
