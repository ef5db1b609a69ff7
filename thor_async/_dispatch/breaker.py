"""The circuit breaker: pauses while Thor seems down or refuses the account, and sends probes."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from .._errors import AccountError, NotSentError, ThorError, TooManyRequests
from .limiter import Waiters, wake_first

_CONTACTED = {"connect", "dns", "tls", "proxy"}
"""Reasons of a `NotSentError` that say something about Thor: it was tried and not reached."""


class BreakerState(Enum):
    """What may be sent."""

    CLOSED = auto()
    """Everything."""

    OPEN = auto()
    """Nothing, until the next probe is due."""

    PROBE_READY = auto()
    """The next request, as the probe."""

    PROBING = auto()
    """Nothing, while the probe is in flight."""


class PauseStatus(NamedTuple):
    """A pause while Thor seems down. All times are loop times.

    `failing_since`: the first of the outcomes in a row without an answer. `probe_at`: the next
    probe, or None while one is in flight. `gives_up_at`: from then on, a probe that fails ends it;
    math.inf: never.
    """

    cause: ThorError | None
    failing_since: float
    probe_at: float | None
    gives_up_at: float


class CircuitBreaker:
    """Pauses after `LIMIT` outcomes in a row without an answer of Thor; its own answer ends that.

    While it is open, one request at a time goes out as a probe, after 1, 2, 4 ... 15 s. The first
    200 or code that Thor documents closes it. Serves batches and the worker, with two differences:

    - `give_up_after`: seconds open after which the probe that fails calls `on_give_up`; None is
      never, 0 is at once instead of opening.
    - `pauses_when_refused`: an account error opens it, and only a probe closes it again. Otherwise
      an account error calls `on_give_up`.

    `on_open` gets the cause, `on_close` the seconds that it was open. All durations are loop time.
    """

    LIMIT = 64
    _FIRST_DELAY, _MAX_DELAY = 1.0, 15.0

    def __init__(
        self,
        *,
        give_up_after: float | None = None,
        pauses_when_refused: bool = False,
        on_open: Callable[[ThorError], None] = lambda cause: None,
        on_close: Callable[[float], None] = lambda seconds: None,
        on_give_up: Callable[[ThorError | None], None] = lambda cause: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._give_up_after = give_up_after
        self._pauses_when_refused = pauses_when_refused
        self._on_open, self._on_close, self._on_give_up = on_open, on_close, on_give_up
        self._state = BreakerState.CLOSED
        self._is_disabled = False
        self._cause: ThorError | None = None
        self._delay = self._FIRST_DELAY
        self._failing_since = self._opened_at = 0.0
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._pause = 0
        self._probe_waiters: Waiters = deque()
        self._pull_waiters: Waiters = deque()
        self.is_open = False
        self.is_refused = False
        self.failures = 0

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def pause_status(self) -> PauseStatus | None:
        """What is known of the pause, or None while the breaker is closed."""
        if not self.is_open:
            return None
        is_due = self._state is BreakerState.OPEN
        probe_at = self._timer.when() if self._timer is not None and is_due else None
        return PauseStatus(self._cause, self._failing_since, probe_at, self._deadline)

    def record_result(self, error: ThorError | None, probe: int = 0) -> None:
        """Takes in how one request ended. `probe` is what `acquire_probe` returned for it."""
        if isinstance(error, AccountError):
            self._record_refusal(error, probe)
        elif error is None or error.answered:
            self.record_success(probe)
        elif _was_not_tried(error):
            self.release_probe(probe)
        else:
            if isinstance(error, TooManyRequests):
                # A gateway's limit is no outage: nobody gives up because of it.
                self._deadline = max(self._deadline, self._loop.time() + self._MAX_DELAY)
            self._record_probe_failure(error, probe)

    def record_success(self, probe: int = 0) -> None:
        """Thor answered. Closes the breaker, and lets all go on that wait for it."""
        self.failures = 0
        # A request that was in flight when the account was refused says nothing about it now.
        if self.is_open and (probe == self._pause or not self.is_refused):
            self._close()
            self._on_close(self._loop.time() - self._opened_at)

    def record_failure(self, error: ThorError) -> None:
        """A command ended without an answer of Thor. Opens the breaker at the limit.

        A refused account or a rate limit is no outage, and does not count.
        """
        if isinstance(error, AccountError | TooManyRequests):
            return
        if not self.failures:
            self._failing_since = self._loop.time()
        self.failures += 1
        self._cause = error
        if self.is_open or self.failures < self.LIMIT:
            return
        if self._give_up_after == 0:
            self._on_give_up(error)
        else:
            self._open(error)

    def record_command(self, error: ThorError | None, attempts: int, probe: int) -> None:
        """Takes in how a command ended whose requests were not recorded one by one."""
        self.record_result(error, probe)
        if error is not None and attempts and not error.answered and not _was_not_tried(error):
            self.record_failure(error)

    def release_probe(self, probe: int) -> None:
        """Releases an unused probe, so that the next waiter can probe immediately."""
        if self.is_open and probe == self._pause:
            self._offer_probe()

    async def acquire_probe(self) -> int:
        """Waits until the breaker is closed (0), or the caller may send a probe (its number)."""
        probe = 0
        while self.is_open and not probe:
            if self._state is BreakerState.PROBE_READY:
                self._state = BreakerState.PROBING
                return self._pause
            probe = await self._wait_in(self._probe_waiters)
        return probe

    async def wait_until_pull_allowed(self) -> None:
        """Waits until a command is needed: the breaker is closed, or has nothing to probe with.

        It stays ready for a probe: the first call of `acquire_probe` takes it.
        """
        while self.is_open and self._state is not BreakerState.PROBE_READY:
            await self._wait_in(self._pull_waiters)

    def disable(self) -> None:
        """Lets everything pass from now on, and wakes all that wait."""
        self._is_disabled = True
        self._close()

    def _record_refusal(self, error: AccountError, probe: int) -> None:
        self.failures = 0
        if not self._pauses_when_refused:
            self._on_give_up(error)
            return
        self.is_refused = True
        self._cause = error
        if self.is_open:
            self._record_probe_failure(error, probe)
        else:
            self._open(error)

    def _record_probe_failure(self, error: ThorError, probe: int) -> None:
        if not self.is_open or probe != self._pause:
            return
        if self._loop.time() >= self._deadline:
            self._on_give_up(error)
            return
        self._delay = min(self._delay * 2, self._MAX_DELAY)
        self._schedule_probe()

    def _open(self, cause: ThorError) -> None:
        if self._is_disabled:
            return
        self.is_open = True
        self._pause += 1
        self._delay = self._FIRST_DELAY
        self._opened_at = self._loop.time()
        if self._give_up_after is not None:
            self._deadline = self._opened_at + self._give_up_after
        self._schedule_probe()
        self._on_open(cause)

    def _close(self) -> None:
        self._state = BreakerState.CLOSED
        self.is_open = self.is_refused = False
        self._deadline = math.inf
        self._set_timer(math.inf, self._offer_probe)
        for waiters in (self._probe_waiters, self._pull_waiters):
            while wake_first(waiters, result=0):
                pass

    async def _wait_in(self, waiters: Waiters) -> int:
        waiter: asyncio.Future[int] = self._loop.create_future()
        waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # it was given the probe at the same time
                self.release_probe(waiter.result())
            raise

    def _schedule_probe(self) -> None:
        self._state = BreakerState.OPEN
        self._set_timer(min(self._loop.time() + self._delay, self._deadline), self._offer_probe)

    def _offer_probe(self) -> None:
        """Gives the probe to the first that waits; without one, asks for a command to be pulled."""
        if wake_first(self._probe_waiters, result=self._pause):
            self._state = BreakerState.PROBING
            return
        self._state = BreakerState.PROBE_READY
        wake_first(self._pull_waiters, result=self._pause)
        # A live source may have no command: then nothing ever takes the probe.
        self._set_timer(max(self._loop.time() + self._FIRST_DELAY, self._deadline), self._expire)

    def _expire(self) -> None:
        if self._state is BreakerState.PROBE_READY:
            self._on_give_up(self._cause)

    def _set_timer(self, when: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when == math.inf else self._loop.call_at(when, callback)


def _was_not_tried(error: ThorError) -> bool:
    """Whether nothing was sent for a reason that says nothing about Thor."""
    return isinstance(error, NotSentError) and error.reason not in _CONTACTED
