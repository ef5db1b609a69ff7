"""The circuit breaker by itself, with the policy of a batch and that of a worker."""

from __future__ import annotations

import asyncio

import pytest

from tests import virtual_time
from thor_async import (
    APIKeyNotFound,
    ConnectionLost,
    InternalServerError,
    NotSentError,
    NotSentReason,
    ServerError,
    ThorError,
)
from thor_async._dispatch.breaker import BreakerState, CircuitBreaker

DOWN = ConnectionLost("the connection was lost")
OWN_500 = InternalServerError("no", status=500, code="InternalServerError")
REFUSED = APIKeyNotFound("no", status=403, code="APIKeyNotFound")


def fail(breaker: CircuitBreaker, times: int = 64, error: ThorError = DOWN) -> None:
    for _ in range(times):
        breaker.record_failure(error)


def state(breaker: CircuitBreaker) -> BreakerState:
    """Reads the state by a call, because a type checker assumes that an attribute is unchanged."""
    return breaker.state


async def test_it_opens_at_the_64th_failure_in_a_row() -> None:
    breaker = CircuitBreaker()
    fail(breaker, 63)
    breaker.record_success()
    fail(breaker, 63)
    assert state(breaker) is BreakerState.CLOSED
    fail(breaker, 1)
    assert state(breaker) is BreakerState.OPEN
    assert breaker.is_open
    breaker.disable()
    assert state(breaker) is BreakerState.CLOSED


async def test_giving_up_at_once_names_the_cause_and_opens_nothing() -> None:
    causes: list[Exception | None] = []
    breaker = CircuitBreaker(give_up_after=0, on_give_up=causes.append)
    fail(breaker)
    assert causes == [DOWN]
    assert not breaker.is_open


async def test_it_calls_back_when_it_opens_and_closes() -> None:
    changes: list[object] = []
    breaker = CircuitBreaker(on_open=changes.append, on_close=changes.append)
    fail(breaker, 65)
    assert changes == [DOWN]
    breaker.record_success()
    breaker.record_success()
    assert changes == [DOWN, pytest.approx(0.0, abs=5)]


@pytest.mark.parametrize("give_up_after", [0.5, 1.0, 2.0, 60.0])
def test_the_probe_at_the_end_decides_whether_to_give_up(give_up_after: float) -> None:
    causes: list[Exception | None] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker(give_up_after=give_up_after, on_give_up=causes.append)
        fail(breaker)
        started = loop.time()
        while not causes:
            probe = await breaker.acquire_probe()
            assert probe == 1
            last = loop.time() - started
            breaker.record_result(DOWN, probe)
        assert last == pytest.approx(give_up_after, abs=1e-5)
        breaker.disable()

    virtual_time.run(main)
    assert causes == [DOWN]


def test_each_state_has_a_name() -> None:
    async def main() -> None:
        breaker = CircuitBreaker()
        fail(breaker)
        await asyncio.sleep(1.0)
        assert state(breaker) is BreakerState.PROBE_READY
        probe = await breaker.acquire_probe()
        assert state(breaker) is BreakerState.PROBING
        breaker.record_result(DOWN, probe)
        assert state(breaker) is BreakerState.OPEN
        waiting = asyncio.ensure_future(breaker.acquire_probe())
        await asyncio.sleep(2.0)
        assert state(breaker) is BreakerState.PROBING
        breaker.release_probe(await waiting)
        assert state(breaker) is BreakerState.PROBE_READY
        breaker.record_success()
        assert state(breaker) is BreakerState.CLOSED
        assert await breaker.acquire_probe() == 0

    virtual_time.run(main)


def test_an_unused_probe_goes_to_the_next_waiter() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker()
        fail(breaker)
        first, second = (asyncio.ensure_future(breaker.acquire_probe()) for _ in range(2))
        await asyncio.sleep(0)
        loop.call_at(loop.time() + 1.0, first.cancel)  # at the time at which it gets the probe
        assert await second == 1
        assert loop.time() == pytest.approx(1.0, abs=1e-3)
        held = asyncio.ensure_future(breaker.acquire_probe())
        await asyncio.sleep(0)
        held.cancel()
        await asyncio.gather(first, held, return_exceptions=True)
        breaker.release_probe(1)
        await breaker.wait_until_pull_allowed()  # no request waits, so a command may be pulled
        assert await breaker.acquire_probe() == 1
        waiting = asyncio.ensure_future(breaker.acquire_probe())
        pulling = asyncio.ensure_future(breaker.wait_until_pull_allowed())
        await asyncio.sleep(0)
        breaker.record_success()
        assert await waiting == 0
        await pulling
        assert not breaker.is_open

    virtual_time.run(main)


def test_the_probe_of_an_earlier_pause_does_not_count_in_this_one() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker()
        fail(breaker)
        stale = await breaker.acquire_probe()
        breaker.record_success()
        fail(breaker)
        fresh = await breaker.acquire_probe()
        breaker.record_result(DOWN, stale)
        breaker.release_probe(stale)
        late = asyncio.ensure_future(breaker.acquire_probe())
        await asyncio.sleep(100)
        assert not late.done()
        breaker.record_result(DOWN, fresh)
        started = loop.time()
        assert await late == fresh
        assert loop.time() - started == pytest.approx(2.0)
        breaker.disable()

    virtual_time.run(main)


def test_a_pause_without_a_command_to_probe_with_is_given_up() -> None:
    causes: list[Exception | None] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker(give_up_after=10.0, on_give_up=causes.append)
        fail(breaker)
        await breaker.wait_until_pull_allowed()
        assert loop.time() == pytest.approx(1.0)
        await asyncio.sleep(8.9)
        assert causes == []
        await asyncio.sleep(0.2)
        breaker.disable()

    virtual_time.run(main)
    assert causes == [DOWN]


async def test_disabled_it_never_opens_again() -> None:
    breaker = CircuitBreaker(pauses_when_refused=True)
    breaker.disable()
    fail(breaker, 100)
    breaker.record_result(REFUSED)
    assert not breaker.is_open
    assert await breaker.acquire_probe() == 0


async def test_a_refused_account_ends_a_batch() -> None:
    causes: list[Exception | None] = []
    breaker = CircuitBreaker(on_give_up=causes.append)
    breaker.record_result(REFUSED)
    assert causes == [REFUSED]
    assert not breaker.is_open


def test_a_refused_account_pauses_a_worker_until_a_probe_succeeds() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker(pauses_when_refused=True)
        assert await breaker.acquire_probe() == 0
        breaker.record_result(REFUSED)
        breaker.record_result(REFUSED)
        waits = []
        for _ in range(6):
            started = loop.time()
            probe = await breaker.acquire_probe()
            waits.append(loop.time() - started)
            late = asyncio.ensure_future(breaker.acquire_probe())
            await asyncio.sleep(0.5)
            assert not late.done()
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)
            breaker.record_result(REFUSED, probe)
        assert waits == pytest.approx([1, 2, 4, 8, 15, 15], abs=0.01)
        breaker.record_result(None)  # it was in flight when the account was refused
        assert breaker.is_open
        breaker.record_result(None, await breaker.acquire_probe())
        assert not breaker.is_open
        assert not breaker.is_refused

    virtual_time.run(main)


@pytest.mark.parametrize("answer", [None, OWN_500])
def test_any_answer_of_thor_closes_it(answer: ThorError | None) -> None:
    async def main() -> None:
        breaker = CircuitBreaker(pauses_when_refused=True)
        fail(breaker, 63, ServerError("no", status=503))
        breaker.record_result(answer)
        fail(breaker)
        assert breaker.is_open
        breaker.record_result(answer, await breaker.acquire_probe())
        assert not breaker.is_open

    virtual_time.run(main)


@pytest.mark.parametrize(
    ("reason", "next_probe"),
    [("connect", 3.0), ("tls", 3.0), ("proxy", 3.0), ("expired", 1.0), ("closed", 1.0)],
)
def test_a_probe_that_did_not_try_thor_is_given_to_the_next(
    reason: NotSentReason, next_probe: float
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker()
        fail(breaker)
        for expected in (1.0, next_probe):
            probe = await breaker.acquire_probe()
            assert loop.time() == pytest.approx(expected)
            breaker.record_result(NotSentError(reason=reason), probe)
        breaker.disable()

    virtual_time.run(main)


def test_a_pause_tells_since_when_and_when_the_next_probe_is() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker(give_up_after=60)
        assert breaker.pause_status is None
        fail(breaker, 1)
        await asyncio.sleep(5)
        fail(breaker, 63)
        now = loop.time()
        assert breaker.pause_status == (DOWN, now - 5, now + 1, now + 60)
        probe = await breaker.acquire_probe()
        assert breaker.pause_status == (DOWN, now - 5, None, now + 60)
        breaker.record_result(DOWN, probe)
        assert breaker.pause_status == (DOWN, now - 5, now + 3, now + 60)
        await asyncio.sleep(2)
        breaker.record_success(await breaker.acquire_probe())
        assert breaker.pause_status is None
        await asyncio.sleep(9)
        fail(breaker)
        assert breaker.pause_status is not None
        assert breaker.pause_status.failing_since == loop.time()
        breaker.disable()

    virtual_time.run(main)
