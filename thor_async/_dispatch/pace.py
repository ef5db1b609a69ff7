"""Decides when the next request of an account may begin, and which one it is."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from .._errors import ThorError, TooManyRequests
from .._events import Event, PaceLowered, PaceRestored
from .limiter import Waiters, wake_first
from .rate_estimator import RateEstimator

_LONGEST_HOLD = 60.0
_LATE = 0.02
"""Seconds by which a busy loop may be late, without a slot of a learnt rate being lost."""

_TIMER = 0.002
"""Seconds by which a timer of the loop may be late."""

_IDLE = 1.0
_TOLD = 0.75
"""A new limit is told when one of the two is below this share of the other."""


class Pace:
    """Spaces the requests of one account: to `max_rate` in a second, and to what Thor allows.

    While no limit is known everything may begin at once: `is_limited` is False. Else a request
    takes its turn, gets a permit, and calls `begin` if its slot `is_due`; who cannot begin calls
    `release_turn`. Of the urgent requests one has the turn, and of the others one: it may wait long
    for its permit. Urgent requests go first.

    `emit` gets the events. `throttled` counts the answers 429.
    """

    def __init__(
        self,
        max_rate: float | None = None,
        *,
        emit: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._max_rate = math.inf if max_rate is None else max_rate
        self._estimator = RateEstimator()
        self._accepted_at = self._estimator.accepted_at
        self._is_calm = True
        self._emit = emit
        self._told: float | None = None
        self._next = -math.inf
        self._throttled_in_a_row = 0
        self._waiters: dict[bool, Waiters] = {True: deque(), False: deque()}
        self._taken = {True: False, False: False}
        self._timer: asyncio.TimerHandle | None = None
        self.is_limited: bool = max_rate is not None
        self.throttled: int = 0

    @property
    def rate(self) -> float:
        """Requests that may begin in a second."""
        rate = self._estimator.rate
        return self._max_rate if rate is None else min(rate, self._max_rate)

    @property
    def is_due(self) -> bool:
        """Whether a request may begin now."""
        return not self.is_limited or self._time() >= self._next

    def try_turn(self, *, urgent: bool) -> bool:
        """Takes the turn if it is due and no request waits for it."""
        if self.is_due and not self._taken[urgent] and not self._waiters[urgent]:
            self._taken[urgent] = True
            return True
        return False

    async def acquire_turn(self, *, urgent: bool) -> bool:
        """Waits for the turn, and returns True. A cancelled wait loses no turn."""
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._waiters[urgent].append(waiter)
        self._schedule()
        try:
            return bool(await waiter)
        except asyncio.CancelledError:
            if waiter.cancelled():
                if waiter in self._waiters[urgent]:  # not passed over since
                    self._waiters[urgent].remove(waiter)
                self._schedule()
            else:  # it was given the turn at the same time
                self.release_turn(urgent=urgent)
            raise

    def begin(self, *, urgent: bool) -> None:
        """The request that has the turn begins: the next one is due a slot later."""
        now, slot = self._time(), 1 / self.rate
        late = now - self._next
        if self._estimator.rate is not None and late > _IDLE:
            self._estimator.skip(late)
        # A given rate is kept to the second.
        allowed = max(slot, _TIMER if self.rate == self._max_rate else _LATE)
        self._next = slot + (self._next if late <= allowed else now)
        self.release_turn(urgent=urgent)

    def release_turn(self, *, urgent: bool) -> None:
        """Gives the turn to the first that waits, as soon as it is due."""
        self._taken[urgent] = False
        self._schedule()

    def record(self, error: ThorError | None, begun: float, subject: str) -> None:
        """Takes in the answer to a request about the chargebox `subject` that began at `begun`."""
        if error is None and self._is_calm:
            self._accepted_at.append(self._time())  # on the way of every stop of most users
        elif error is None or (error.status is not None and not isinstance(error, TooManyRequests)):
            self._throttled_in_a_row = 0
            estimator = self._estimator
            estimator.record_accepted(self._time(), subject)
            self._update()
        elif isinstance(error, TooManyRequests):
            self._record_throttled(error, begun, subject)

    def is_self_limited(self, subject: str) -> bool:
        """Whether this chargebox is throttled by a limit of its own."""
        return self._estimator.is_self_limited(subject)

    def _record_throttled(self, error: TooManyRequests, begun: float, subject: str) -> None:
        now, was_limited = self._time(), self._estimator.rate is not None
        self.throttled += 1
        self._throttled_in_a_row += 1
        self._estimator.record_throttled(now, begun, subject)
        self._update()
        if self._estimator.rate is None:
            return
        if not was_limited:
            # The answers to what is in flight come first: they tell more, and Thor recovers.
            self._hold(now + (now - begun))
        if self._throttled_in_a_row >= RateEstimator.MANY and error.retry_after:
            self._hold(now + min(error.retry_after, _LONGEST_HOLD))

    def _hold(self, until: float) -> None:
        self._next = max(self._next, until)

    def _update(self) -> None:
        if not self.is_limited:
            self._next = max(self._next, self._time())
        self._is_calm = self._estimator.is_calm
        self.is_limited = self.rate < math.inf
        if not self.is_limited:
            for waiters in self._waiters.values():
                while wake_first(waiters, result=True):
                    pass
        self._tell(self._estimator.limit)

    def _tell(self, limit: float | None) -> None:
        """Emits an event when the limit is another than the one that was told last."""
        told = self._told
        if limit is not None and (told is None or limit < told * _TOLD):
            self._emit(PaceLowered(rate=min(limit, self._max_rate)))
        elif told is not None and (limit is None or limit * _TOLD > told):
            self._emit(PaceRestored(rate=limit and min(limit, self._max_rate)))
        else:
            return
        self._told = limit

    def _schedule(self) -> None:
        """Gives the turn when it is due, if any request waits for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        kinds = [kind for kind in (True, False) if self._waiters[kind] and not self._taken[kind]]
        if not kinds:
            return
        if self._time() < self._next:
            self._timer = self._loop.call_at(self._next, self._schedule)
        else:
            self._taken[kinds[0]] = wake_first(self._waiters[kinds[0]], result=True)
