"""Which errors are retried, when and how often, and the outcome; without waiting."""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Rests
from tests.test_errors import CLASSES
from thor_async import (
    APIKeyNotFound,
    ConnectionLost,
    InternalServerError,
    NotInTransaction,
    NotSentError,
    NotSentReason,
    RejectedError,
    ResponseTimeout,
    RetryPolicy,
    ServerError,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
    Verdict,
)
from thor_async._config import check_key
from thor_async._retry import RetryBudget
from thor_async._stop import RequestContext, RetryingRequest

properties = settings(deadline=None, derandomize=True, max_examples=200)

NEVER_BEGUN = ("timeout", "closed", "gave_up", "expired", "not_running", "pin")
REASONS = ("connect", "dns", "tls", "proxy", *NEVER_BEGUN)


def quota() -> TooManyRequests:
    error = TooManyRequests(status=429)
    error.is_quota = True
    return error


ENDS: dict[str, Callable[[], ThorError | None]] = {
    "200": lambda: None,
    "500": lambda: InternalServerError(status=500, code="InternalServerError"),
    "503": lambda: ServerError(status=503),
    "503:2": lambda: ServerError(status=503, retry_after=2.0),
    "429": lambda: TooManyRequests(status=429),
    "429:7": lambda: TooManyRequests(status=429, retry_after=7.0),
    "quota": quota,
    "404": lambda: RejectedError(status=404, retry_after=1.0),
    "idle": lambda: NotInTransaction(status=400, code="NotInTransaction"),
    "key": lambda: APIKeyNotFound(status=403, code="APIKeyNotFound"),
    "slow": ResponseTimeout,
    "lost": ConnectionLost,
    "odd": lambda: UnexpectedResponse(status=302),
    **{reason: lambda reason=reason: NotSentError(reason=reason) for reason in REASONS},  # type: ignore[misc]
}
EVERYTHING: dict[str, Any] = {"retry_not_sent": True, "retry_throttled": True}


class Script(RetryingRequest, kw_only=True):
    """One request whose tries end as scripted; the loop around it is the real one."""

    ends: Sequence[ThorError | None]
    seconds_left: Callable[[], float] = lambda: math.inf
    made: int = 0

    async def attempt(self) -> bool:
        end = self.ends[self.made]
        self.made += 1
        if not (isinstance(end, NotSentError) and end.reason in NEVER_BEGUN):
            self.attempts += 1
        await asyncio.sleep(0)
        return self._record(end)

    async def backoff(self, seconds: float) -> None:
        if seconds:
            await self.context.policy.sleep(seconds)

    def plan_throttled_wait(self, wait: float) -> float:
        return wait

    def time_left(self) -> float:
        return self.seconds_left()

    async def run(self) -> Script:
        await self.attempt()
        if self.error is not None:
            await self.retry()
        return self


def make_script(
    ends: Sequence[ThorError | None],
    policy: RetryPolicy,
    budget: RetryBudget,
    kind: type[Script] = Script,
    **more: Any,
) -> Script:
    nothing: Any = None
    context = RequestContext(nothing, check_key("key"), policy, budget, 10.0)
    return kind(context, nothing, nothing, nothing, math.inf, ends=ends, **more)


def script(
    words: str, policy: RetryPolicy, budget: RetryBudget | None = None, **more: Any
) -> Script:
    ends = [ENDS[word]() for word in words.split()]
    return make_script(ends, policy, budget or RetryBudget(), **more)


@pytest.mark.parametrize(
    ("words", "last", "attempts", "maybe_applied", "waits"),
    [
        ("200", 0, 1, False, []),
        ("500 200", 1, 2, True, [0.5]),
        ("500 500 200", 2, 3, True, [0.5, 1.0]),
        ("500 500 500", 2, 3, True, [0.5, 1.0]),
        ("503 500 503", 2, 3, True, [0.5, 1.0]),
        ("503:2 503:2 200", 2, 3, True, [2.0, 2.0]),
        ("503:2 500 200", 2, 3, True, [2.0, 1.0]),
        ("500 idle", 1, 2, True, [0.5]),
        ("500 key", 1, 2, True, [0.5]),
        ("500 429:7", 1, 2, True, [0.5]),
        ("500 404", 1, 2, True, [0.5]),
        ("500 slow", 1, 2, True, [0.5]),
        ("500 500 lost", 2, 3, True, [0.5, 1.0]),
        ("idle", 0, 1, False, []),
        ("key", 0, 1, False, []),
        ("404", 0, 1, False, []),
        ("429", 0, 1, False, []),
        ("429:7", 0, 1, False, []),
        ("slow", 0, 1, True, []),
        ("lost", 0, 1, True, []),
        ("odd", 0, 1, True, []),
        ("connect", 0, 1, False, []),
        ("dns", 0, 1, False, []),
        ("tls", 0, 1, False, []),
        ("timeout", 0, 0, False, []),
        ("gave_up", 0, 0, False, []),
        ("500 connect", 0, 2, True, [0.5]),
        ("500 500 tls", 1, 3, True, [0.5, 1.0]),
    ],
)
async def test_by_default_only_a_5xx_is_retried(
    words: str, last: int, attempts: int, maybe_applied: bool, waits: list[float], rests: Rests
) -> None:
    call = script(words, rests.policy())
    tries = await call.run()
    assert tries.error is call.ends[last]
    assert (tries.attempts, tries.maybe_applied) == (attempts, maybe_applied)
    assert call.made == len(call.ends)
    assert rests.waits == waits


@pytest.mark.parametrize(
    ("words", "last", "attempts", "maybe_applied", "waits"),
    [
        # After the first 429 the pace alone decides, and none is an attempt of the policy.
        ("429 200", 1, 2, False, []),
        ("429:7 429 200", 2, 3, False, [7.0, 0.5]),
        ("429 429 429 429 200", 4, 5, False, [0.5, 1.0, 2.0]),
        ("429 500 idle", 2, 3, True, [0.5]),
        ("500 429 500 429 429 200", 5, 6, True, [0.5, 1.0, 0.5]),
        ("500 429 500 429 500", 4, 5, True, [0.5, 1.0]),
        ("quota", 0, 1, False, []),
        ("429 quota", 1, 2, False, []),
        ("connect 200", 1, 2, False, [0.5]),
        ("connect dns connect", 2, 3, False, [0.5, 1.0]),
        ("connect idle", 1, 2, False, [0.5]),
        ("connect 500 200", 2, 3, True, [0.5, 1.0]),
        ("dns lost", 1, 2, True, [0.5]),
        ("tls", 0, 1, False, []),
        ("closed", 0, 0, False, []),
        ("expired", 0, 0, False, []),
        # A retry that is never sent ends the call with the error before it.
        ("500 connect", 0, 2, True, [0.5]),
        ("500 dns", 0, 2, True, [0.5]),
        ("500 tls", 0, 2, True, [0.5]),
        ("500 500 connect", 1, 3, True, [0.5, 1.0]),
        ("429 connect", 0, 2, False, []),
        ("connect 500 dns", 1, 3, True, [0.5, 1.0]),
        ("connect tls", 0, 2, False, [0.5]),
        *[(f"500 {reason}", 0, 1, True, [0.5]) for reason in NEVER_BEGUN],
        *[(f"connect {reason}", 0, 1, False, [0.5]) for reason in NEVER_BEGUN],
        *[(f"429 {reason}", 0, 1, False, []) for reason in NEVER_BEGUN],
    ],
)
async def test_by_request_more_is_retried(
    words: str, last: int, attempts: int, maybe_applied: bool, waits: list[float], rests: Rests
) -> None:
    call = script(words, rests.policy(**EVERYTHING))
    tries = await call.run()
    assert tries.error is call.ends[last]
    assert (tries.attempts, tries.maybe_applied) == (attempts, maybe_applied)
    assert call.made == len(call.ends)
    assert rests.waits == waits


@pytest.mark.parametrize(
    ("options", "by_request"),
    [
        ({}, set()),
        ({"retry_throttled": True}, set()),
        ({"retry_not_sent": True}, {NotSentError}),
        (EVERYTHING, {NotSentError}),
    ],
)
def test_the_policy_says_which_errors_are_retried(
    options: dict[str, Any], by_request: set[type[ThorError]]
) -> None:
    policy = RetryPolicy(**options)
    retried = {error_class for error_class in CLASSES if policy.should_retry(error_class())}
    assert retried == {ServerError, InternalServerError} | by_request


@pytest.mark.parametrize("is_quota", [False, True])
@pytest.mark.parametrize("error_class", CLASSES)
def test_only_a_429_is_outlasted_and_only_by_request(
    error_class: type[ThorError], is_quota: bool
) -> None:
    error = error_class()
    if isinstance(error, TooManyRequests):
        error.is_quota = is_quota
    is_throttled = error_class is TooManyRequests and not is_quota
    assert RetryPolicy(retry_throttled=True).should_outlast(error) is is_throttled
    assert not RetryPolicy().should_outlast(error)


@pytest.mark.parametrize(
    ("status", "may_pass"), [(403, False), (407, False), (404, False), (500, True), (503, True)]
)
def test_a_proxy_is_asked_again_only_when_it_fails_itself(status: int, may_pass: bool) -> None:
    error = NotSentError(reason="proxy", status=status)
    assert RetryPolicy(retry_not_sent=True).should_retry(error) is may_pass
    assert not RetryPolicy().should_retry(error)


@pytest.mark.parametrize("reason", REASONS)
def test_of_what_was_never_sent_only_connect_and_dns_are_retried(reason: NotSentReason) -> None:
    error = NotSentError(reason=reason)
    assert RetryPolicy(retry_not_sent=True).should_retry(error) is (reason in ("connect", "dns"))
    assert not RetryPolicy(retry_throttled=True).should_retry(error)


def test_a_success_is_not_retried() -> None:
    assert not RetryPolicy(**EVERYTHING).should_retry(None)


@pytest.mark.parametrize(("max_attempts", "attempts"), [(1, 1), (2, 2), (5, 5)])
async def test_max_attempts_counts_the_first_try(
    max_attempts: int, attempts: int, rests: Rests
) -> None:
    budget = RetryBudget()
    call = script("500 " * 5, rests.policy(max_attempts=max_attempts), budget)
    tries = await call.run()
    assert (tries.attempts, call.made) == (attempts, attempts)
    assert tries.error is call.ends[attempts - 1]
    assert rests.waits == [0.5, 1.0, 2.0, 4.0][: attempts - 1]
    assert budget.tokens == 100 - (attempts - 1)


@pytest.mark.parametrize(
    ("words", "left", "waits"),
    [
        ("500 200", 0.5, []),
        ("500 200", 0.4, []),
        ("500 200", 0.0, []),
        ("500 200", -1.0, []),
        ("500 200", 0.5000001, [0.5]),
        ("503:2 200", 2.0, []),
        ("503:2 200", 2.0000001, [2.0]),
        ("500 500 200", 0.9, [0.5]),
        ("500 500 200", 1.0, [0.5]),
        ("500 500 200", 1.0000001, [0.5, 1.0]),
    ],
)
async def test_no_sleep_goes_past_the_time_left(
    words: str, left: float, waits: list[float], rests: Rests
) -> None:
    budget = RetryBudget()
    call = script(words, rests.policy(), budget, seconds_left=lambda: left)
    tries = await call.run()
    assert rests.waits == waits
    assert tries.error is call.ends[len(waits)]
    succeeded = tries.error is None
    assert budget.tokens == min(100, 100 - len(waits) + succeeded)


async def test_the_time_left_is_read_before_each_retry(rests: Rests) -> None:
    left = iter([10.0, 0.7])
    call = script("500 500 200", rests.policy(), seconds_left=lambda: next(left))
    assert (await call.run()).attempts == 2
    assert rests.waits == [0.5]


def spent(fifths: int) -> RetryBudget:
    """Returns a budget with this number of fifths of a token left."""
    budget = RetryBudget()
    for _ in range(100):
        assert budget.take()
    for _ in range(fifths):
        budget.record_success(attempts=1)
    return budget


@pytest.mark.parametrize(
    ("fifths", "attempts", "left"),
    [(0, 1, 0.0), (4, 1, 0.8), (5, 2, 0.0), (9, 2, 0.8), (10, 3, 0.0), (11, 3, 0.2)],
)
async def test_an_empty_budget_ends_the_call_now_with_its_error(
    fifths: int, attempts: int, left: float, rests: Rests
) -> None:
    budget = spent(fifths)
    call = script("500 500 500", rests.policy(), budget)
    tries = await call.run()
    assert (tries.attempts, tries.error) == (attempts, call.ends[attempts - 1])
    assert len(rests.waits) == attempts - 1
    assert budget.tokens == left


async def test_an_empty_budget_delays_no_first_try(rests: Rests) -> None:
    budget = spent(0)
    tries = await script("200", rests.policy(), budget).run()
    assert (tries.error, tries.attempts, rests.waits) == (None, 1, [])
    assert budget.tokens == 0.2


@pytest.mark.parametrize(
    ("words", "tokens"),
    [
        ("200", 10.2),
        ("500 200", 10.0),
        ("500 500 200", 9.0),
        ("500 500 500", 8.0),
        ("500 idle", 9.0),
        ("idle", 10.0),
        ("slow", 10.0),
        ("connect 200", 10.0),
        ("429 200", 10.2),
        ("429 429 500 200", 10.0),
        ("500 connect", 9.0),
    ],
)
async def test_what_one_call_takes_and_gives_back(words: str, tokens: float, rests: Rests) -> None:
    budget = spent(50)
    await script(words, rests.policy(**EVERYTHING), budget).run()
    assert budget.tokens == tokens


def test_a_budget_starts_full_and_holds_no_more() -> None:
    budget = RetryBudget()
    assert budget.tokens == 100.0
    budget.record_success(attempts=1)
    budget.record_success(attempts=2)
    assert budget.tokens == 100.0
    assert budget.take()
    assert budget.tokens == 99.0
    budget.record_success(attempts=1)
    assert budget.tokens == 99.2
    budget.record_success(attempts=3)
    assert budget.tokens == 100.0


def test_a_budget_of_less_than_one_token_is_empty() -> None:
    budget = spent(4)
    assert not budget.take()
    assert budget.tokens == 0.8
    budget.record_success(attempts=1)
    assert budget.take()
    assert budget.tokens == 0.0


@properties
@given(st.lists(st.sampled_from(["take"] * 4 + ["clean", "retried"]), max_size=300), st.booleans())
def test_a_budget_is_exact_and_stays_within_0_and_100(steps: list[str], full: bool) -> None:
    budget = RetryBudget() if full else spent(0)
    tokens = Fraction(100 if full else 0)
    for step in steps:
        if step == "take":
            affordable = tokens >= 1
            assert budget.take() is affordable
            tokens -= affordable
        else:
            budget.record_success(attempts=1 if step == "clean" else 2)
            tokens = min(Fraction(100), tokens + (Fraction(1, 5) if step == "clean" else 1))
        assert 0 <= budget.tokens <= 100
        assert budget.tokens == float(tokens)


@pytest.mark.parametrize(("fifths", "is_paid"), [(5, True), (4, False)])
async def test_an_error_says_when_its_retry_was_not_paid_for(
    fifths: int, is_paid: bool, rests: Rests
) -> None:
    call = script("503:2 404 404", rests.policy(), spent(fifths))
    tries = await call.run()
    says_so = "not tried again: the retry budget is spent" in str(tries.error)
    assert (tries.attempts, says_so) == ((2, False) if is_paid else (1, True))


async def test_two_calls_share_a_budget(rests: Rests) -> None:
    budget = spent(15)
    first = script("500 500 500", rests.policy(), budget)
    second = script("500 500 500", rests.policy(), budget)
    await asyncio.gather(first.run(), second.run())
    assert first.made + second.made == 2 + 3
    assert budget.tokens == 0


@properties
@given(
    words=st.lists(st.sampled_from(sorted(ENDS)), min_size=6, max_size=6).map(
        lambda words: [*words, *["404"] * 6]  # a 429 alone would go on for ever
    ),
    options=st.fixed_dictionaries(
        {
            "max_attempts": st.integers(1, 6),
            "retry_not_sent": st.booleans(),
            "retry_throttled": st.booleans(),
        }
    ),
    fifths=st.integers(0, 20),
)
async def test_any_script_keeps_the_promises_of_a_call(
    words: list[str], options: dict[str, Any], fifths: int
) -> None:
    rests, budget = Rests(), spent(fifths)
    policy = rests.policy(**options)
    call = script(" ".join(words), policy, budget)
    tries = await call.run()
    made = call.ends[: call.made]
    outlasted = sum(policy.should_outlast(end) for end in made[:-1])
    assert 1 <= call.made - outlasted <= policy.max_attempts
    assert tries.error in made
    assert all(policy.should_retry(end) or policy.should_outlast(end) for end in made[:-1])
    assert 0 <= budget.tokens <= 100
    assert tries.maybe_applied is any(
        end is not None and end.verdict is Verdict.INDETERMINATE for end in made
    )
    if isinstance(tries.error, NotSentError):
        assert not tries.maybe_applied


@pytest.mark.parametrize(
    ("retry", "settings", "most"),
    [
        (1, {}, 0.5),
        (2, {}, 1.0),
        (3, {}, 2.0),
        (4, {}, 4.0),
        (5, {}, 8.0),
        (6, {}, 8.0),
        (5_000, {}, 8.0),
        (1, {"max_delay": 0.4}, 0.4),
        (1, {"initial_delay": 0}, 0.0),
        (9, {"initial_delay": 0}, 0.0),
        (3, {"max_delay": 0}, 0.0),
        (4, {"initial_delay": 3, "max_delay": 1_000}, 24.0),
        (61, {"initial_delay": 1.0, "max_delay": 1e300}, 2.0**60),
        (62, {"initial_delay": 1.0, "max_delay": 1e300}, 2.0**60),
        (5_000, {"initial_delay": 1e300, "max_delay": 1e308}, 1e308),
    ],
)
def test_a_wait_is_full_jitter_below_a_doubling_limit(
    retry: int, settings: dict[str, Any], most: float
) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.0625

    assert RetryPolicy(random=draw, **settings).delay(retry, ServerError()) == 0.0625
    assert drawn == [(0, most)]


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [(None, 0.25), (0.0, 0.25), (0.2, 0.25), (0.25, 0.25), (0.26, 0.26), (999.0, 999.0)],
)
@pytest.mark.parametrize("error_class", [ServerError, TooManyRequests])
def test_retry_after_is_a_lower_bound_of_the_wait(
    error_class: type[ThorError], retry_after: float | None, wait: float
) -> None:
    policy = RetryPolicy(random=lambda low, high: high / 2)
    assert policy.delay(1, error_class(retry_after=retry_after)) == wait


def test_a_wait_needs_no_answer() -> None:
    policy = RetryPolicy(random=lambda low, high: high)
    assert policy.delay(1, NotSentError()) == 0.5
    assert policy.delay(1, None) == 0.5


def test_the_defaults_are_as_promised() -> None:
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.initial_delay, policy.max_delay) == (3, 0.5, 8.0)
    assert (policy.retry_not_sent, policy.retry_throttled) == (False, False)
    assert policy.sleep is asyncio.sleep
    assert policy.random == random.uniform
    assert policy.now is time.time


def test_a_policy_is_frozen_and_built_by_names() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        RetryPolicy().max_attempts = 5  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        RetryPolicy(3)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "3", None, math.inf])
def test_a_number_of_attempts_is_at_least_1(value: Any) -> None:
    with pytest.raises(ValueError, match="max_attempts") as caught:
        RetryPolicy(max_attempts=value)
    assert str(caught.value) == (
        f"max_attempts must be an int of at least 1, not {value!r}: it counts the first try"
    )


@pytest.mark.parametrize("name", ["initial_delay", "max_delay"])
@pytest.mark.parametrize("value", [-0.001, -1, math.nan, math.inf, -math.inf, True, "1", None])
def test_a_delay_is_seconds_0_or_more(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        RetryPolicy(**{name: value})
    assert str(caught.value) == f"{name} must be seconds, 0 or more, not {value!r}"


def test_a_delay_that_no_float_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="initial_delay must be seconds, 0 or more"):
        RetryPolicy(initial_delay=10**400)


@pytest.mark.parametrize("value", [0, 0.0, 1, 0.001, sys.float_info.max])
def test_a_delay_of_any_finite_length_is_taken(value: float) -> None:
    assert RetryPolicy(initial_delay=value, max_delay=value).max_delay == value
    assert RetryPolicy(max_attempts=1).max_attempts == 1


async def test_calls_that_share_a_policy_do_not_share_state() -> None:
    policy = RetryPolicy(max_attempts=6, random=lambda low, high: low)
    budget = RetryBudget()
    waits: dict[int, list[float]] = {}

    async def call(number: int) -> tuple[Script, Script]:
        waits[number] = []

        async def rest(seconds: float) -> None:
            waits[number].append(seconds)
            for _ in range(number % 7):
                await asyncio.sleep(0)

        retries = number % 3
        ends: list[ThorError | None] = [
            ServerError(f"{number}.{n}", retry_after=number + n / 10) for n in range(retries)
        ]
        own = msgspec.structs.replace(policy, sleep=rest)
        one = make_script([*ends, NotInTransaction(f"{number}")], own, budget)
        return one, await one.run()

    for number, (one, tries) in enumerate(await asyncio.gather(*map(call, range(50)))):
        assert tries.error is one.ends[-1]
        assert tries.attempts == one.made == number % 3 + 1
        assert tries.maybe_applied is (number % 3 > 0)
        assert waits[number] == [number + n / 10 for n in range(number % 3)]
    assert budget.tokens == 100 - sum(number % 3 for number in range(50))


@pytest.mark.parametrize("words", ["", "500 ", "500 500 "])
@pytest.mark.parametrize("failure", [asyncio.CancelledError, KeyboardInterrupt, ZeroDivisionError])
async def test_what_an_attempt_raises_propagates_at_once(
    words: str, failure: type[BaseException], rests: Rests
) -> None:
    thrown = failure()

    class Raising(Script):
        async def attempt(self) -> bool:
            may_retry = await super().attempt()
            if self.error is None:
                raise thrown
            return may_retry

    ends = [ENDS[word]() for word in (words + "200").split()]
    call = make_script(ends, rests.policy(**EVERYTHING), RetryBudget(), Raising)
    try:
        await call.run()
    except BaseException as error:
        caught = error
    assert caught is thrown
    assert call.made == len(call.ends)
    assert len(rests.waits) == call.made - 1


async def test_a_cancelled_wait_propagates_at_once() -> None:
    resting = asyncio.Event()

    async def rest(seconds: float) -> None:
        resting.set()
        await asyncio.Event().wait()

    budget = RetryBudget()
    call = script("500 200", RetryPolicy(sleep=rest), budget)
    task = asyncio.create_task(call.run())
    await resting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (call.made, budget.tokens) == (1, 99.0)


async def test_a_cancelled_retry_propagates_at_once(rests: Rests) -> None:
    trying = asyncio.Event()

    class Hanging(Script):
        async def attempt(self) -> bool:
            if self.made == 0:
                return await super().attempt()
            trying.set()
            await asyncio.Event().wait()
            return False

    call = make_script([ENDS["500"]()], rests.policy(), RetryBudget(), Hanging)
    task = asyncio.create_task(call.run())
    await trying.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rests.waits == [0.5]
