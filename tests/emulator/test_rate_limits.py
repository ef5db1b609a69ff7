"""The token bucket, and the settings of the rate limits."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests import virtual_time
from thor_async.emulator import RateLimits, ScriptedAnswer
from thor_async.emulator.clock import Clock
from thor_async.emulator.rate_limits import AccountLimiter, TokenBucket


def taken(bucket: TokenBucket, now: float, tries: int = 1000) -> int:
    """Returns how many of these requests, all at `now`, get a token."""
    return sum(bucket.take(now) == 0 for _ in range(tries))


def test_a_bucket_starts_full_and_gains_tokens_up_to_its_burst() -> None:
    bucket = TokenBucket(rate=2.0, burst=5, now=100.0)
    assert taken(bucket, 100.0) == 5
    assert taken(bucket, 100.4) == 0
    assert taken(bucket, 100.5) == 1
    assert taken(bucket, 102.0) == 3
    assert taken(bucket, 1000.0) == 5


def test_an_empty_bucket_returns_the_seconds_until_its_next_token() -> None:
    bucket = TokenBucket(rate=0.25, burst=1, now=0.0)
    assert bucket.take(0.0) == 0
    assert bucket.take(0.0) == 4
    assert bucket.take(1.0) == 3
    assert bucket.take(4.0) == 0


@pytest.mark.parametrize("rate", [0.1, 0.3, 3.0, 7.0, 333.0])
def test_a_client_that_waits_for_each_token_always_gets_it(rate: float) -> None:
    now = 123_456.7
    bucket = TokenBucket(rate, 1, now)
    bucket.take(now)
    for _ in range(1000):
        now += 1 / rate
        assert bucket.take(now) == 0


@pytest.mark.parametrize("rate", [0.1, 0.3, 3.0, 7.0, 333.0])
def test_no_more_is_taken_than_burst_and_rate_allow(rate: float) -> None:
    bucket = TokenBucket(rate, 3, 0.0)
    seconds = 1000 / rate
    count = sum(bucket.take(seconds * n / 10_000) == 0 for n in range(10_001))
    assert count in (1002, 1003)


def test_a_change_counts_from_its_time_on_and_keeps_the_tokens() -> None:
    bucket = TokenBucket(rate=1.0, burst=10, now=0.0)
    assert taken(bucket, 0.0) == 10
    bucket.change(rate=100.0, burst=50, now=3.0)
    assert taken(bucket, 3.0) == 3
    assert taken(bucket, 3.1) == 10
    assert taken(bucket, 100.0) == 50
    bucket.change(rate=1.0, burst=50, now=110.0)
    bucket.change(rate=1.0, burst=2, now=110.0)
    assert taken(bucket, 110.0) == 2


def answers_at_once(limits: RateLimits, count: int) -> list[ScriptedAnswer | None]:
    """Returns what this number of requests get, all at the same time."""

    async def scenario() -> list[ScriptedAnswer | None]:
        clock = Clock()
        clock.start()
        limiter = AccountLimiter(limits, clock)
        answers = [limiter.check(None) for _ in range(count)]
        clock.stop()
        return answers

    return virtual_time.run(scenario)


@pytest.mark.parametrize(("rate", "burst"), [(20.0, 20), (2.5, 3), (0.1, 1)])
def test_the_default_burst_is_the_requests_of_a_second(rate: float, burst: int) -> None:
    assert answers_at_once(RateLimits(rate=rate), 100).count(None) == burst


@pytest.mark.parametrize(("rate", "seconds"), [(1e7, "1"), (3.0, "1"), (0.3, "4"), (0.25, "4")])
def test_the_true_retry_after_is_rounded_up(rate: float, seconds: str) -> None:
    limits = RateLimits(rate=rate, burst=1, retry_after="next-token")
    throttled = answers_at_once(limits, 2)[1]
    assert throttled is not None
    assert throttled.headers["Retry-After"] == seconds


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rate": 0.0}, "rate 0.0 is no rate"),
        ({"rate": -1.0}, "rate -1.0"),
        ({"rate": 1e-320}, "rate 1e-320"),
        ({"rate": math.nan}, "rate nan"),
        ({"rate": math.inf}, "rate inf"),
        ({"rate": 1.0, "burst": 0}, "burst 0"),
        ({"rate": 1.0, "burst": 1.5}, r"burst 1\.5"),
        ({"rate": 1.0, "burst": 10**400}, "is no number of tokens: give 1 to 1000000000"),
        ({"burst": 5}, "burst needs rate"),
        ({"chargebox_rate": 0}, "chargebox_rate 0 is no rate"),
        ({"chargebox_rate": 1.0, "chargebox_burst": -1}, "chargebox_burst -1"),
        ({"chargebox_burst": 5}, "chargebox_burst needs chargebox_rate"),
        ({"limited_chargeboxes": {"A"}}, "limited_chargeboxes needs chargebox_rate"),
        ({"chargebox_rate": 1.0, "limited_chargeboxes": "box-1"}, "'box-1'"),
        ({"retry_after": -1}, "retry_after -1"),
        ({"retry_after": 1.5}, r"retry_after 1\.5"),
        ({"retry_after": "soon"}, "retry_after 'soon'"),
        ({"quota": -1}, "quota -1"),
        ({"quota": 1.5}, r"quota 1\.5"),
    ],
)
def test_bad_limits(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RateLimits(**settings)
