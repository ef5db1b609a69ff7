"""Decides when a request is tried again, and how long to wait before it."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from ._errors import NotSentError, ServerError, ThorError, TooManyRequests

Sleep = Callable[[float], Awaitable[None]]

# Past this exponent every wait is at max_delay; without it 2.0**n overflows.
_LAST_DOUBLING = 60
_NEVER_LEFT = frozenset({"connect", "dns"})
"""Reasons of a `NotSentError` that may go away by themselves."""


def may_pass(error: NotSentError) -> bool:
    """Whether what kept a request from leaving may go away by itself.

    That is so if a proxy fails (5xx), but not if it forbids the host (403) or the user (407).
    """
    is_proxy_down = error.reason == "proxy" and error.status is not None and error.status >= 500
    return is_proxy_down or error.reason in _NEVER_LEFT


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Retries a 5xx answer, and nothing else unless an option here adds it.

    `max_attempts` counts the first try. Before retry n, from 1, the wait is full jitter:
    `random(0, min(max_delay, initial_delay * 2**(n-1)))` seconds, and at least the answer's
    Retry-After. `retry_not_sent` adds what certainly never left (connection refused, DNS, connect
    timeout, a proxy's 5xx; never TLS, or a proxy that forbids). `retry_throttled` sends again what
    was answered by 429, at the pace that Thor allows, for as long as the call or the batch may
    last; that counts as no attempt.

    `sleep`, `random` and `now`, the wall clock in epoch seconds, are for tests that do not wait.

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

    def should_retry(self, error: ThorError | None) -> bool:
        """Whether a try that ended with `error` is followed by another, given time and budget."""
        match error:
            case ServerError():
                return True
            case NotSentError():
                return self.retry_not_sent and may_pass(error)
        return False

    def should_outlast(self, error: ThorError | None) -> bool:
        """Whether a request that ended with `error`, a 429, is sent again at the pace of Thor."""
        is_throttled = isinstance(error, TooManyRequests) and not error.is_quota
        return is_throttled and self.retry_throttled

    def throttled_delay(self, throttled: int, error: ThorError | None) -> float:
        """Seconds to wait after the 429 number `throttled` in a row: none after the first one.

        Its Retry-After is the least.
        """
        if throttled == 1:
            return (error and error.retry_after) or 0.0
        return self.delay(throttled - 1, error)

    def delay(self, retry: int, error: ThorError | None) -> float:
        """Seconds to wait before retry number `retry`, counted from 1, after `error`."""
        most = min(self.max_delay, self.initial_delay * 2.0 ** min(retry - 1, _LAST_DOUBLING))
        return max(self.random(0, most), (error and error.retry_after) or 0.0)


class RetryBudget:
    """A token bucket for retries: a Thor that is down sees hardly more load, and not three times.

    Capacity 100; a retry costs 1, a clean success gives back 0.2, a success after retries 1. It
    never delays a first try. Counted in fifths of a token, which are exact.
    """

    _CAPACITY, _RETRY, _CLEAN, _RETRIED = 500, 5, 1, 5

    def __init__(self) -> None:
        self._fifths = self._CAPACITY
        self.is_full = True

    @property
    def tokens(self) -> float:
        return self._fifths / 5

    def take(self) -> bool:
        """Pays for one retry; False when there is not enough."""
        if self._fifths < self._RETRY:
            return False
        self._fifths -= self._RETRY
        self.is_full = False
        return True

    def record_success(self, attempts: int) -> None:
        """Gives back for a success after that many `attempts`."""
        earned = self._CLEAN if attempts == 1 else self._RETRIED
        self._fifths = min(self._CAPACITY, self._fifths + earned)
        self.is_full = self._fifths == self._CAPACITY


class RetriedRequest(Protocol):
    """What the retries of one request need of it."""

    @property
    def error(self) -> ThorError | None:
        """The error of the last try."""

    def time_left(self) -> float:
        """Seconds until the end of the call."""

    async def backoff(self, seconds: float) -> None:
        """Waits between two tries."""


def retry_loop(policy: RetryPolicy, budget: RetryBudget, attempts: RetriedRequest) -> AsyncRetrying:
    """Returns tenacity's loop for the tries of one request.

    Its attempt 1 is one that was already made. The result to set for each attempt is whether
    another is to follow. It ends without `RetryError`. Make a new one for each request: two
    requests that share one mix up their results.
    """

    def must_stop(state: RetryCallState) -> bool:
        is_spent = state.attempt_number >= policy.max_attempts
        if is_spent or state.upcoming_sleep >= attempts.time_left():
            return True
        if budget.take():
            return False
        if attempts.error is not None:
            attempts.error.explain("not tried again: the retry budget is spent")
        return True

    return AsyncRetrying(
        sleep=attempts.backoff,
        wait=lambda state: policy.delay(state.attempt_number, attempts.error),
        stop=must_stop,
        retry=retry_if_result(bool),
        retry_error_callback=lambda state: None,
    )
