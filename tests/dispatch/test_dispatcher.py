"""Permits, the pause of an outage, and the end of a lane, each by itself."""

from __future__ import annotations

import asyncio

import pytest

from tests import virtual_time
from thor_async import APIKeyNotFound, ConnectionLost, NotSentError, ServerError
from thor_async._dispatch.breaker import CircuitBreaker
from thor_async._dispatch.dispatcher import Dispatcher
from thor_async._dispatch.limiter import PriorityLimiter

DOWN = ConnectionLost("the connection was lost")


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_permit_handed_to_a_waiter_that_is_cancelled_is_not_lost() -> None:
    permits = PriorityLimiter(1)
    assert permits.take()
    first, second = (asyncio.ensure_future(permits.wait(urgent=False)) for _ in range(2))
    await turns()
    permits.release()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await second
    permits.release()
    assert permits.in_flight == 0


async def test_a_waiter_that_is_cancelled_takes_no_permit() -> None:
    permits = PriorityLimiter(1)
    assert permits.take()
    waiter = asyncio.ensure_future(permits.wait(urgent=True))
    await turns()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert permits.in_flight == 1
    permits.release()
    assert permits.in_flight == 0
    assert permits.take()
    assert not permits.take()


async def test_the_urgent_go_first_and_each_kind_in_order() -> None:
    permits = PriorityLimiter(1)
    assert permits.take()
    order: list[str] = []

    async def wait(name: str) -> None:
        await permits.wait(urgent=name.startswith("urgent"))
        order.append(name)
        permits.release()

    names = ["batch 1", "urgent 1", "batch 2", "urgent 2"]
    waiting = [asyncio.ensure_future(wait(name)) for name in names]
    await turns()
    permits.release()
    await asyncio.gather(*waiting)
    assert order == ["urgent 1", "urgent 2", "batch 1", "batch 2"]


async def test_idle_waits_for_the_last_permit() -> None:
    permits = PriorityLimiter(2)
    assert permits.take()
    assert permits.take()
    idle = asyncio.ensure_future(permits.idle())
    permits.release()
    await turns()
    assert not idle.done()
    permits.release()
    await idle
    await permits.idle()


async def test_a_pause_begins_at_the_64th_silence_in_a_row() -> None:
    outage = CircuitBreaker(None, lambda cause: None)
    for _ in range(63):
        outage.silence(DOWN)
    outage.heard()
    for _ in range(63):
        outage.silence(DOWN)
    assert not outage.paused
    outage.silence(DOWN)
    assert outage.paused
    outage.end()


async def test_giving_up_at_once_names_the_cause() -> None:
    causes: list[Exception | None] = []
    outage = CircuitBreaker(0, causes.append)
    for _ in range(64):
        outage.silence(DOWN)
    assert causes == [DOWN]
    assert not outage.paused


@pytest.mark.parametrize("give_up_after", [0.5, 1.0, 2.0, 60.0])
def test_the_probe_at_the_end_of_the_pause_decides(give_up_after: float) -> None:
    causes: list[Exception | None] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        outage = CircuitBreaker(give_up_after, causes.append)
        for _ in range(64):
            outage.silence(DOWN)
        started = loop.time()
        while not causes:
            probe = await outage.turn()
            assert probe == 1
            last = loop.time() - started
            outage.probed(probe, DOWN)
        assert last == pytest.approx(give_up_after, abs=1e-5)
        outage.end()

    virtual_time.run(main)
    assert causes == [DOWN]


def test_a_turn_that_was_not_used_goes_to_the_next() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        outage = CircuitBreaker(None, lambda cause: None)
        for _ in range(64):
            outage.silence(DOWN)
        first, second = (asyncio.ensure_future(outage.turn()) for _ in range(2))
        await asyncio.sleep(0)
        loop.call_at(loop.time() + 1.0, first.cancel)  # in the moment in which it gets the turn
        assert await second == 1
        assert loop.time() == pytest.approx(1.0, abs=1e-3)
        held = asyncio.ensure_future(outage.turn())
        await asyncio.sleep(0)
        held.cancel()
        await asyncio.gather(first, held, return_exceptions=True)
        outage.pass_on(1)
        await outage.pull_turn()  # nothing is held, so a command may be pulled for the turn
        assert await outage.turn() == 1
        waiting = asyncio.ensure_future(outage.turn())
        pulling = asyncio.ensure_future(outage.pull_turn())
        await asyncio.sleep(0)
        outage.heard()
        assert await waiting == 0
        await pulling
        assert not outage.paused

    virtual_time.run(main)


def test_the_probe_of_an_earlier_pause_says_nothing_of_this_one() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        outage = CircuitBreaker(None, lambda cause: None)
        for _ in range(64):
            outage.silence(DOWN)
        stale = await outage.turn()
        outage.heard()
        for _ in range(64):
            outage.silence(DOWN)
        fresh = await outage.turn()
        outage.probed(stale, DOWN)
        outage.pass_on(stale)
        late = asyncio.ensure_future(outage.turn())
        await asyncio.sleep(100)
        assert not late.done()
        outage.probed(fresh, DOWN)
        started = loop.time()
        assert await late == fresh
        assert loop.time() - started == pytest.approx(2.0)
        outage.end()

    virtual_time.run(main)


def test_a_pause_that_nobody_probes_is_given_up() -> None:
    causes: list[Exception | None] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        outage = CircuitBreaker(10.0, causes.append)
        for _ in range(64):
            outage.silence(DOWN)
        await outage.pull_turn()
        assert loop.time() == pytest.approx(1.0)
        await asyncio.sleep(8.9)
        assert causes == []
        await asyncio.sleep(0.2)
        outage.end()

    virtual_time.run(main)
    assert causes == [DOWN]


def test_a_probe_that_is_cancelled_while_it_waits_gives_its_turn_away() -> None:
    async def main() -> None:
        permits = PriorityLimiter(1)
        lane = Dispatcher(permits, is_batch=True, give_up_after=30)
        for _ in range(64):
            lane.ended(DOWN, 1)
        assert permits.take()
        asked: list[str] = []

        async def request(scope: asyncio.Timeout, seconds: float) -> None:
            asked.append("sent")

        until = asyncio.get_running_loop().time() + 100
        first = asyncio.ensure_future(lane.send(request, until, 1.0))
        await asyncio.sleep(1.5)
        second = asyncio.ensure_future(lane.send(request, until, 1.0))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        permits.release()
        assert await second is None
        assert asked == ["sent"]
        lane.close()

    virtual_time.run(main)


def test_a_request_that_is_cut_off_tells_nothing_of_thor() -> None:
    async def hang(scope: asyncio.Timeout, seconds: float) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        lane = Dispatcher(PriorityLimiter(2), is_batch=True, give_up_after=1000)
        for _ in range(63):
            lane.ended(DOWN, 1)
        cut = asyncio.ensure_future(lane.send(hang, 100, 1.0))
        await asyncio.sleep(0)
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
        lane.ended(DOWN, 1)
        probe = asyncio.ensure_future(lane.send(hang, 100, 1.0))
        pulled = asyncio.ensure_future(lane.pull_turn())
        await asyncio.sleep(0.9)
        assert not pulled.done()
        await asyncio.sleep(0.2)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert await pulled
        assert loop.time() == pytest.approx(1.1, abs=0.01)  # the turn was passed on at once
        lane.close()

    virtual_time.run(main)


@pytest.mark.parametrize(
    ("reason", "next_turn"), [("connect", 3.0), ("tls", 3.0), ("expired", 1.0), ("closed", 1.0)]
)
def test_a_probe_that_was_not_tried_gives_its_turn_away(reason: str, next_turn: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        lane = Dispatcher(PriorityLimiter(2), is_batch=True, give_up_after=1000)
        for _ in range(64):
            lane.ended(DOWN, 1)

        async def request(scope: asyncio.Timeout, seconds: float) -> NotSentError:
            times.append(loop.time())
            return NotSentError(reason=reason)

        await asyncio.gather(*(lane.send(request, 100, 1.0) for _ in range(2)))
        assert times == [pytest.approx(1.0), pytest.approx(next_turn)]
        lane.close()

    virtual_time.run(main)


@pytest.mark.parametrize("paused", [True, False])
def test_no_wait_for_the_wire_is_longer_than_the_call(paused: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        permits = PriorityLimiter(1)
        lane = Dispatcher(permits, is_batch=True)
        if paused:
            for _ in range(64):
                lane.ended(DOWN, 1)
        else:
            assert permits.take()

        async def request(scope: asyncio.Timeout, seconds: float) -> None:
            raise AssertionError("sent")

        error = await lane.send(request, 0.5, 1.0)
        assert isinstance(error, NotSentError)
        assert error.reason == "timeout"
        assert loop.time() == pytest.approx(0.5)
        assert await lane.send(request, loop.time(), 1.0) is not None
        lane.close()

    virtual_time.run(main)


def test_the_last_probes_error_is_the_cause_of_giving_up() -> None:
    last = ConnectionLost("the last probe")

    async def request(scope: asyncio.Timeout, seconds: float) -> ConnectionLost:
        return last

    async def main() -> None:
        lane = Dispatcher(PriorityLimiter(1), is_batch=True, give_up_after=1.0)
        for _ in range(64):
            lane.ended(DOWN, 1)
        assert await lane.send(request, 100, 1.0) is last
        assert (lane.halted, lane.cause) == ("gave_up", last)

    virtual_time.run(main)


async def test_a_failure_of_our_own_ends_a_batch_but_not_the_single_calls() -> None:
    single, batch, cut = (
        Dispatcher(PriorityLimiter(1)),
        *(Dispatcher(PriorityLimiter(1), is_batch=True) for _ in range(2)),
    )
    single.fail(ValueError("no API key"))
    batch.fail(ValueError("no API key"))
    cut.fail(asyncio.CancelledError())
    assert (single.halted, batch.halted, cut.halted) == (None, "gave_up", "closed")


async def test_a_lane_says_why_it_ended() -> None:
    permits = PriorityLimiter(1)
    plain = Dispatcher(permits).refusal()
    assert (plain.reason, plain.message) == ("timeout", "out of time before it could be sent")
    lane = Dispatcher(permits, is_batch=True)
    cause = APIKeyNotFound("Thor answered 403: APIKeyNotFound")
    lane.halt("gave_up", cause)
    lane.halt("closed")
    refusal = lane.refusal()
    assert (refusal.reason, refusal.__cause__) == ("gave_up", cause)
    assert refusal.message == "the batch gave up: Thor answered 403: APIKeyNotFound"
    lane = Dispatcher(permits, is_batch=True)
    failure = lane.fail(ValueError("no API key"))
    assert failure.message == "the batch gave up: ValueError"


async def test_a_halted_lane_waits_for_nothing() -> None:
    lane = Dispatcher(PriorityLimiter(1), is_batch=True)
    lane.halt("closed")
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await lane.wait(asyncio.sleep(60, "slept")) is None
    assert loop.time() - started < 1
    assert not await lane.pull_turn()


def test_a_rest_ends_with_the_time_of_its_call() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        lane = Dispatcher(PriorityLimiter(1), is_batch=True)
        rested: list[int] = []
        lane.on_rest = lambda: rested.append(lane.resting)
        await lane.rest(asyncio.sleep(60), 2.0)
        assert loop.time() == pytest.approx(2.0)
        assert (rested, lane.resting) == ([1], 0)

    virtual_time.run(main)


async def test_only_what_was_tried_tells_that_thor_is_silent() -> None:
    lane = Dispatcher(PriorityLimiter(1), is_batch=True, give_up_after=0)
    for _ in range(100):
        lane.ended(NotSentError("out of time", reason="timeout"), 0)
        lane.ended(ServerError(status=500, code="InternalServerError"), 3)
    assert lane.halted is None
    for _ in range(64):
        lane.ended(ServerError(status=503), 3)
    assert lane.halted == "gave_up"


async def test_an_account_error_ends_a_batch_but_not_the_single_calls() -> None:
    async def request(scope: asyncio.Timeout, seconds: float) -> APIKeyNotFound:
        return APIKeyNotFound(status=403, code="APIKeyNotFound")

    until = asyncio.get_running_loop().time() + 10
    for lane, halted in (
        (Dispatcher(PriorityLimiter(1)), None),
        (Dispatcher(PriorityLimiter(1), is_batch=True), "gave_up"),
    ):
        assert isinstance(await lane.send(request, until, 1.0), APIKeyNotFound)
        assert lane.halted == halted


@pytest.mark.parametrize("late", [0.0, 1.0])
async def test_a_way_that_is_free_is_not_taken_past_the_end(late: float) -> None:
    """As when a loop was blocked, or a retry's rest ends with the time of its call."""

    async def request(scope: asyncio.Timeout, seconds: float) -> None:
        raise AssertionError("sent, though its time was over")

    permits = PriorityLimiter(1)
    refusal = await Dispatcher(permits).send(
        request, asyncio.get_running_loop().time() - late, 10.0
    )
    assert isinstance(refusal, NotSentError)
    assert refusal.reason == "timeout"
    assert permits.in_flight == 0
