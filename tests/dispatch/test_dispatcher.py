"""When a request of a dispatcher may be sent, and how all of its waits end."""

from __future__ import annotations

import asyncio
import math

import pytest

from tests import virtual_time
from thor_async import APIKeyNotFound, ConnectionLost, NotSentError, ServerError, ThorError
from thor_async._dispatch.dispatcher import Dispatcher, Permit
from thor_async._dispatch.limiter import PriorityLimiter

DOWN = ConnectionLost("the connection was lost")
REFUSED = APIKeyNotFound(status=403, code="APIKeyNotFound")


def make_batch(limit: int = 2, give_up_after: float | None = 1000) -> Dispatcher:
    return Dispatcher(PriorityLimiter(limit), is_batch=True, give_up_after=give_up_after)


def fail(dispatcher: Dispatcher, times: int = 64) -> None:
    for _ in range(times):
        dispatcher.record_final(DOWN, 1)


async def send(dispatcher: Dispatcher, until: float, error: ThorError | None = None) -> bool:
    """Returns whether a request that ends with `error` was sent."""
    permit: Permit | None = Permit(0, 0.0)
    if not dispatcher.try_acquire(until):
        permit = await dispatcher.acquire(until)
    if permit is None:
        return False
    dispatcher.release(error, permit.probe)
    return True


def test_a_probe_that_is_cancelled_while_it_waits_for_a_permit_is_passed_on() -> None:
    async def main() -> None:
        limiter = PriorityLimiter(1)
        dispatcher = Dispatcher(limiter, is_batch=True, give_up_after=30)
        fail(dispatcher)
        assert limiter.try_acquire(urgent=False)
        first = asyncio.ensure_future(send(dispatcher, 100))
        await asyncio.sleep(1.5)
        second = asyncio.ensure_future(send(dispatcher, 100))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        limiter.release()
        assert await second
        assert limiter.in_flight == 0
        dispatcher.close()

    virtual_time.run(main)


def test_a_cancelled_request_is_no_failure_of_thor() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dispatcher = make_batch()
        fail(dispatcher, 63)
        assert dispatcher.try_acquire(100)
        dispatcher.release_unused(0)
        fail(dispatcher, 1)
        permit = await dispatcher.acquire(100)
        assert permit == Permit(probe=1, paced=0.0)
        pulled = asyncio.ensure_future(dispatcher.wait_until_pull_allowed())
        await asyncio.sleep(0.1)
        assert not pulled.done()
        dispatcher.release_unused(permit.probe)
        assert await pulled
        assert loop.time() == pytest.approx(1.1, abs=0.01)  # the probe was given on at once
        dispatcher.close()

    virtual_time.run(main)


def test_the_next_probe_waits_longer_after_one_that_failed() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dispatcher = make_batch()
        fail(dispatcher)
        for expected in (1.0, 3.0, 7.0):
            assert await send(dispatcher, 100, DOWN)
            assert loop.time() == pytest.approx(expected)
        assert dispatcher.is_paused
        assert await send(dispatcher, 100)
        assert not dispatcher.is_paused
        dispatcher.close()

    virtual_time.run(main)


@pytest.mark.parametrize("is_paused", [True, False])
def test_no_wait_for_a_permit_is_longer_than_the_call(is_paused: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = PriorityLimiter(1)
        dispatcher = Dispatcher(limiter, is_batch=True)
        if is_paused:
            fail(dispatcher)
        else:
            assert limiter.try_acquire(urgent=False)
        assert not await send(dispatcher, 0.5)
        assert loop.time() == pytest.approx(0.5)
        assert not await send(dispatcher, loop.time())
        dispatcher.close()

    virtual_time.run(main)


@pytest.mark.parametrize("late", [0.0, 1.0])
async def test_a_free_permit_is_not_taken_past_the_end(late: float) -> None:
    """For example after a blocked loop, or a backoff that ends with the time of its call."""
    limiter = PriorityLimiter(1)
    dispatcher = Dispatcher(limiter)
    assert not await send(dispatcher, asyncio.get_running_loop().time() - late)
    assert dispatcher.refusal().reason == "timeout"
    assert limiter.in_flight == 0


def test_the_error_of_the_last_probe_is_the_cause_of_giving_up() -> None:
    last = ConnectionLost("the last probe")

    async def main() -> None:
        dispatcher = make_batch(give_up_after=1.0)
        fail(dispatcher)
        assert await send(dispatcher, 100, last)
        assert (dispatcher.stop_reason, dispatcher.cause) == ("gave_up", last)

    virtual_time.run(main)


async def test_a_local_failure_ends_a_batch_but_not_the_single_calls() -> None:
    single, batch, cancelled = Dispatcher(PriorityLimiter(1)), make_batch(), make_batch()
    single.record_local_failure(ValueError("no API key"))
    batch.record_local_failure(ValueError("no API key"))
    cancelled.record_local_failure(asyncio.CancelledError())
    reasons = [dispatcher.stop_reason for dispatcher in (single, batch, cancelled)]
    assert reasons == [None, "gave_up", "closed"]


async def test_the_refusal_says_why_it_stopped() -> None:
    plain = Dispatcher(PriorityLimiter(1)).refusal()
    assert (plain.reason, plain.message) == ("timeout", "out of time before it could be sent")
    dispatcher = make_batch()
    cause = APIKeyNotFound("Thor answered 403: APIKeyNotFound")
    dispatcher.stop("gave_up", cause)
    dispatcher.stop("closed")
    refusal = dispatcher.refusal()
    assert (refusal.reason, refusal.__cause__) == ("gave_up", cause)
    assert refusal.message == "the batch gave up: Thor answered 403: APIKeyNotFound"
    failure = make_batch().record_local_failure(ValueError("no API key"))
    assert failure.message == "the batch gave up: ValueError"


async def test_a_stopped_dispatcher_waits_for_nothing() -> None:
    dispatcher = make_batch()
    dispatcher.stop("closed")
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await dispatcher.wait(asyncio.sleep(60, "slept")) is None
    assert loop.time() - started < 1
    assert not await dispatcher.wait_until_pull_allowed()
    assert not await send(dispatcher, loop.time() + 100)


def test_a_backoff_ends_with_the_time_of_its_call() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dispatcher = make_batch()
        counts: list[int] = []
        dispatcher.on_room = lambda: counts.append(dispatcher.unpermitted)
        await dispatcher.wait_unpermitted(asyncio.sleep(60), 2.0)
        assert loop.time() == pytest.approx(2.0)
        assert (counts, dispatcher.unpermitted) == ([1], 0)

    virtual_time.run(main)


def test_work_without_a_permit_is_ended_by_abort_only() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dispatcher = make_batch()
        work = asyncio.ensure_future(dispatcher.run_unpermitted(lambda: asyncio.sleep(60)))
        await asyncio.sleep(1)
        dispatcher.stop("timeout")
        await asyncio.sleep(1)
        assert dispatcher.unpermitted == 1
        dispatcher.abort()
        await work
        assert loop.time() == pytest.approx(2.0)
        assert dispatcher.unpermitted == 0
        await dispatcher.run_unpermitted(lambda: asyncio.sleep(60))
        assert loop.time() == pytest.approx(2.0)

    virtual_time.run(main)


async def test_only_a_try_counts_as_a_failure_of_thor() -> None:
    dispatcher = make_batch(give_up_after=0)
    for _ in range(100):
        dispatcher.record_final(NotSentError("out of time", reason="timeout"), 0)
        dispatcher.record_final(ServerError(status=500, code="InternalServerError"), 3)
    assert dispatcher.stop_reason is None
    for _ in range(64):
        dispatcher.record_final(ServerError(status=503), 3)
    assert dispatcher.stop_reason == "gave_up"


async def test_an_account_error_ends_a_batch_but_not_the_single_calls() -> None:
    until = asyncio.get_running_loop().time() + 10
    for dispatcher, reason in ((Dispatcher(PriorityLimiter(1)), None), (make_batch(), "gave_up")):
        assert await send(dispatcher, until, REFUSED)
        assert dispatcher.stop_reason == reason


async def test_wait_idle_waits_for_the_last_request_of_this_dispatcher() -> None:
    limiter = PriorityLimiter(3)
    dispatcher, other = Dispatcher(limiter), Dispatcher(limiter)
    for each in (dispatcher, dispatcher, other):
        assert each.try_acquire(math.inf)
    idle = asyncio.ensure_future(dispatcher.wait_idle())
    await asyncio.sleep(0)
    dispatcher.release(None, 0)
    await asyncio.sleep(0)
    assert not idle.done()
    dispatcher.release_unused(0)
    await idle
    await dispatcher.wait_idle()
    assert other.in_flight == 1
