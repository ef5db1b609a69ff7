"""When a stop is tried again: the one rule, its waits, and the budget that bounds a storm."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from ._errors import (
    IndeterminateError,
    NotSentError,
    ServerError,
    ThorError,
    TooManyRequests,
    Verdict,
)

Sleep = Callable[[float], Awaitable[None]]

# Past this exponent every wait is at max_delay; without it 2.0**n overflows.
_LAST_DOUBLING = 60
_NEVER_LEFT = {"connect", "dns"}


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A 5xx answer is retried, nothing else is, unless it is asked for here.

    `max_attempts` counts the first try. Before retry n, from 1, the wait is full jitter:
    `random(0, min(max_delay, initial_delay * 2**(n-1)))` seconds, and at least the answer's
    Retry-After. `retry_not_sent` adds what certainly never left (connection refused, DNS, connect
    timeout; never TLS), `retry_throttled` adds 429. `sleep`, `random` and `now`, the wall clock in
    epoch seconds, are for tests that do not wait.

    Raises ValueError for numbers that make no policy.
    """

    max_attempts: int = 3
    initial_delay: float = 0.5
    max_delay: float = 8.0
    retry_not_sent: bool = False
    retry_throttled: bool = False
    sleep: Sleep = asyncio.sleep
    random: Callable[[float, float], float] = random.uniform
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            raise ValueError(
                f"max_attempts must be an int of at least 1, not {self.max_attempts!r}: "
                "it counts the first try"
            )
        for name in ("initial_delay", "max_delay"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= sys.float_info.max:
                raise ValueError(f"{name} must be seconds, 0 or more, not {value!r}")

    def retries(self, error: ThorError | None) -> bool:
        """Whether a try that ended so is followed by another, if time and budget allow."""
        match error:
            case ServerError():
                return True
            case TooManyRequests():
                return self.retry_throttled
            case NotSentError():
                return self.retry_not_sent and error.reason in _NEVER_LEFT
        return False

    def wait(self, retry: int, error: ThorError | None) -> float:
        """Seconds before retry number `retry`, counted from 1, after that error."""
        most = min(self.max_delay, self.initial_delay * 2.0 ** min(retry - 1, _LAST_DOUBLING))
        return max(self.random(0, most), (error and error.retry_after) or 0.0)


class RetryBudget:
    """A token bucket for retries, so that a Thor that is down sees hardly more load, not thrice.

    Capacity 100; a retry costs 1, a clean success gives back 0.2, a success after retries 1. It
    never delays a first try. Counted in fifths of a token, which are exact.
    """

    _CAPACITY, _RETRY, _CLEAN, _RETRIED = 500, 5, 1, 5

    def __init__(self) -> None:
        self._fifths = self._CAPACITY

    @property
    def tokens(self) -> float:
        return self._fifths / 5

    def take(self) -> bool:
        """Pays for one retry, if there is enough."""
        if self._fifths < self._RETRY:
            return False
        self._fifths -= self._RETRY
        return True

    def give_back(self, attempts: int) -> None:
        """After a success that took so many attempts."""
        if self._fifths < self._CAPACITY:
            earned = self._CLEAN if attempts == 1 else self._RETRIED
            self._fifths = min(self._CAPACITY, self._fifths + earned)


class RetryLoop(msgspec.Struct, eq=False):
    """One call's tries: what the last one said, and what is true of all of them together.

    `attempts` counts the tries begun: `attempt` adds to it. After `run`, `error` is None for a
    success, and `maybe_applied` says whether an earlier or the last try may have worked unseen.
    """

    # A struct, and no closures: one is made for every request, and the collector counts them.

    policy: RetryPolicy
    budget: RetryBudget
    attempts: int = 0
    error: ThorError | None = None
    maybe_applied: bool = False

    def __repr__(self) -> str:
        """Never what it holds: an id_tag is in a request."""
        return f"{type(self).__name__}(attempts={self.attempts})"

    def attempt(self) -> Awaitable[ThorError | None]:
        """Makes one try."""
        raise NotImplementedError

    async def rest(self, seconds: float) -> None:
        """Waits for so long between two tries."""
        raise NotImplementedError

    def left(self) -> float:
        """The seconds that the call still has."""
        raise NotImplementedError

    async def run(self) -> None:
        """Tries until the policy, the budget or the time ends it.

        The first try is made bare; tenacity takes over at the first error that is to be retried.
        """
        self._note(await self.attempt())
        if self.error is not None and self.policy.retries(self.error):
            await self._retry()
        if self.error is None:
            self.budget.give_back(self.attempts)
        else:
            self._tell()

    async def _retry(self) -> None:
        made = True  # the bare try is tenacity's attempt 1

        async def next_try() -> bool:
            nonlocal made
            if made:
                made = False
                return True
            return self._note(await self.attempt()) and self.policy.retries(self.error)

        # One of its own for each call: a shared one mixes up the results of two.
        retrying = AsyncRetrying(
            sleep=self.rest,
            wait=lambda state: self.policy.wait(state.attempt_number, self.error),
            stop=self._must_stop,
            retry=retry_if_result(bool),
            retry_error_callback=lambda state: None,
        )
        await retrying(next_try)

    def _must_stop(self, state: RetryCallState) -> bool:
        spent = state.attempt_number >= self.policy.max_attempts
        return spent or state.upcoming_sleep >= self.left() or not self.budget.take()

    def break_off(self, refusal: NotSentError) -> None:
        """Ends it in the middle: with the refusal if no try was begun, else nobody knows."""
        self._note(IndeterminateError("broken off") if self.attempts else refusal)
        self._tell()

    def _tell(self) -> None:
        """Lets the error say what is true of all tries together."""
        if self.error is not None:
            self.error.attempts = self.attempts
            self.error.maybe_applied = self.maybe_applied

    def _note(self, error: ThorError | None) -> bool:
        """Takes in how a try ended; False when it was never sent and the error before it stands."""
        if isinstance(error, NotSentError) and self.error is not None:
            alike = isinstance(self.error, NotSentError) and error.reason in _NEVER_LEFT
            if not alike:
                return False
        self.error = error
        if error is not None and error.verdict is Verdict.INDETERMINATE:
            self.maybe_applied = True
        return True
