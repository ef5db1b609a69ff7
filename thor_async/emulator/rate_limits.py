"""Rate limits: token buckets for an account and for its chargeboxes, and a quota."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Literal

import msgspec

from .answers import JSON, REFUSALS, ScriptedAnswer

if TYPE_CHECKING:
    from .clock import Clock

_SLOWEST = 1e-6
_MOST_TOKENS = 10**9
# Tokens. Without it, rounding errors would throttle a client that waits exactly for the next token.
_TOLERANCE = 1e-6


class RateLimits(msgspec.Struct, frozen=True):
    """The rate limits of an account; by default it has none.

    `rate` and `burst` make a token bucket: it holds at most `burst` tokens, starts full and gains
    `rate` tokens per second. Every request of the account takes a token when it is received, stops,
    starts and GETs alike. Without a token, it is answered 429 `TooManyRequests` and has no effect.
    `chargebox_rate` and `chargebox_burst` make such a bucket for the stops of each chargebox, or of
    the `limited_chargeboxes` only. A stop that this throttles has taken a token of the account
    before. The default of each burst is the tokens of one second, at least 1.

    `retry_after` is the `Retry-After` of these answers: None for none, a whole number of seconds,
    or `next-token` for the truth: the seconds until the bucket has its next token, rounded up.

    After `quota` requests that were not throttled, every request is answered 429 `Limit Exceeded`,
    without a `Retry-After`, and takes no token.

    All this is the emulator's choice, as Thor's limits are not documented; the quota is that of
    AWS's API Gateway. Raises ValueError for bad values.
    """

    rate: float | None = None
    burst: int | None = None
    chargebox_rate: float | None = None
    chargebox_burst: int | None = None
    limited_chargeboxes: AbstractSet[str] | None = None
    retry_after: int | Literal["next-token"] | None = None
    quota: int | None = None

    def __post_init__(self) -> None:
        _check_bucket("rate", self.rate, "burst", self.burst)
        _check_bucket(
            "chargebox_rate", self.chargebox_rate, "chargebox_burst", self.chargebox_burst
        )
        if self.limited_chargeboxes is not None:
            if self.chargebox_rate is None:
                raise ValueError("limited_chargeboxes needs chargebox_rate")
            if isinstance(self.limited_chargeboxes, str):
                raise ValueError(f"limited_chargeboxes {self.limited_chargeboxes!r}: give a set")
        if self.retry_after not in (None, "next-token") and not _is_count(self.retry_after, 0):
            raise ValueError(
                f"retry_after {self.retry_after!r}: give whole seconds, 0 or more, or 'next-token'"
            )
        if self.quota is not None and not _is_count(self.quota, 0):
            raise ValueError(f"quota {self.quota} is no number of requests: give 0 or more")


def _check_bucket(rate_name: str, rate: float | None, burst_name: str, burst: float | None) -> None:
    if rate is not None and not _SLOWEST <= rate < math.inf:
        raise ValueError(
            f"{rate_name} {rate} is no rate: give requests per second, at least {_SLOWEST:f}"
        )
    if burst is None:
        return
    if rate is None:
        raise ValueError(f"{burst_name} needs {rate_name}")
    if not _is_count(burst, 1) or burst > _MOST_TOKENS:
        raise ValueError(f"{burst_name} {burst} is no number of tokens: give 1 to {_MOST_TOKENS}")


def _is_count(value: object, lowest: int) -> bool:
    return isinstance(value, int) and value >= lowest


class TokenBucket:
    """Holds at most `burst` tokens and gains `rate` tokens per second. It starts full."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._filled_at = float(burst), now

    def change(self, rate: float, burst: int, now: float) -> None:
        """Changes the rate and the burst from now on. The bucket keeps its tokens."""
        self._fill(now)
        self._rate, self._burst = rate, burst

    def take(self, now: float) -> float:
        """Takes a token and returns 0, or returns the seconds until the next token."""
        self._fill(now)
        if self._tokens < 1 - _TOLERANCE:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def _fill(self, now: float) -> None:
        gained = (now - self._filled_at) * self._rate
        self._tokens = min(self._tokens + gained, float(self._burst))
        self._filled_at = now


class AccountLimiter:
    """Applies the rate limits of one account."""

    def __init__(self, limits: RateLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Fills all buckets, and counts the quota from 0."""
        self._buckets: dict[str | None, TokenBucket] = {}
        self._accepted = 0

    def change(self, limits: RateLimits) -> None:
        """Changes the limits from now on. Buckets keep their tokens, and the quota its count."""
        self._limits = limits
        now = self._clock.now()
        for chargebox, bucket in list(self._buckets.items()):
            if settings := self._bucket_settings(chargebox):
                bucket.change(*settings, now)
            else:
                del self._buckets[chargebox]

    def check(self, chargebox: str | None) -> ScriptedAnswer | None:
        """Takes the tokens of a request, and returns the refusal of a throttled one.

        `chargebox` is that of a stop, and None for other requests.
        """
        quota = self._limits.quota
        if quota is not None and self._accepted >= quota:
            return REFUSALS["Limit Exceeded"]
        wait = self._take(None)
        if not wait and chargebox is not None:
            wait = self._take(chargebox)
        if wait:
            return self._refusal(wait)
        self._accepted += 1
        return None

    def _take(self, chargebox: str | None) -> float:
        """Takes a token of a chargebox, or of the account; returns the wait if there is none."""
        settings = self._bucket_settings(chargebox)
        if settings is None:
            return 0.0
        now = self._clock.now()
        bucket = self._buckets.get(chargebox)
        if bucket is None:
            bucket = self._buckets[chargebox] = TokenBucket(*settings, now)
        return bucket.take(now)

    def _bucket_settings(self, chargebox: str | None) -> tuple[float, int] | None:
        """Returns the rate and the burst for a chargebox, or for the account; None: no limit."""
        limits = self._limits
        rate, burst = limits.rate, limits.burst
        if chargebox is not None:
            only = limits.limited_chargeboxes
            if only is not None and chargebox not in only:
                return None
            rate, burst = limits.chargebox_rate, limits.chargebox_burst
        if rate is None:
            return None
        return rate, math.ceil(rate) if burst is None else burst

    def _refusal(self, wait: float) -> ScriptedAnswer:
        answer, seconds = REFUSALS["TooManyRequests"], self._limits.retry_after
        if seconds is None:
            return answer
        if seconds == "next-token":
            # Rounded first: a rounding error must not add a second.
            seconds = max(1, math.ceil(round(wait, 6)))
        return msgspec.structs.replace(answer, headers=JSON | {"Retry-After": str(seconds)})
