from __future__ import annotations

import asyncio

import pytest

from tests import virtual_time
from thor_async import NotInTransaction, ResponseTimeout, TooManyRequests
from thor_async._dispatch.dispatcher import Dispatcher
from thor_async._dispatch.limiter import PriorityLimiter
from thor_async._dispatch.pace import Pace
from thor_async._events import Event, PaceLowered, PaceRestored

THROTTLED = TooManyRequests("slow down", status=429)


async def begin(pace: Pace, times: list[float], *, urgent: bool = False) -> None:
    if not pace.try_turn(urgent=urgent):
        await pace.acquire_turn(urgent=urgent)
    times.append(asyncio.get_running_loop().time())
    pace.begin(urgent=urgent)


def flood(pace: Pace, accepted: int = 20, throttled: int = 12) -> None:
    """Answers to a burst: the first are accepted, the others are not."""
    now = asyncio.get_running_loop().time()
    for number in range(accepted + throttled):
        pace.record(THROTTLED if number >= accepted else None, now - 0.1, f"box-{number}")


def test_without_a_limit_there_is_nothing_to_wait_for() -> None:
    async def main() -> None:
        pace = Pace()
        assert not pace.is_limited
        pace.record(None, 0.0, "box")
        pace.record(NotInTransaction(status=400, code="NotInTransaction"), 0.0, "box")
        assert not pace.is_limited

    virtual_time.run(main)


def test_a_given_rate_spaces_the_requests() -> None:
    async def main() -> None:
        pace, times = Pace(10.0), list[float]()
        await asyncio.sleep(5)
        await asyncio.gather(*(begin(pace, times) for _ in range(21)))
        assert times == pytest.approx([5 + number / 10 for number in range(21)])

    virtual_time.run(main)


@pytest.mark.parametrize("late", [0.005, 0.015])
def test_a_loop_that_is_a_little_late_loses_no_slot(late: float) -> None:
    async def main() -> None:
        pace, times = Pace(100.0), list[float]()
        for number in range(100):
            await asyncio.sleep(number / 100 + late - asyncio.get_running_loop().time())
            await begin(pace, times)
        assert times[-1] <= 0.99 + late + 0.001

    virtual_time.run(main)


@pytest.mark.parametrize("rate", [600.0, 1000.0, 4000.0])
def test_the_lateness_of_timers_slows_no_given_rate(rate: float) -> None:
    """A loop wakes up once in a millisecond, for several slots."""

    async def main() -> None:
        pace, times = Pace(rate), list[float]()
        count = int(rate)
        while len(times) < count:
            await asyncio.sleep(0.0015)
            while len(times) < count and pace.try_turn(urgent=False):
                times.append(asyncio.get_running_loop().time())
                pace.begin(urgent=False)
        assert 0.99 <= times[-1] - times[0] <= 1.01

    virtual_time.run(main)


def test_a_pause_gives_no_right_to_a_burst() -> None:
    async def main() -> None:
        pace, times = Pace(100.0), list[float]()
        await begin(pace, times)
        await asyncio.sleep(10)
        await asyncio.gather(*(begin(pace, times) for _ in range(100)))
        assert times[-1] - times[1] >= 0.96

    virtual_time.run(main)


def test_urgent_requests_get_the_next_turn() -> None:
    async def main() -> None:
        pace, others, urgent = Pace(10.0), list[float](), list[float]()
        tasks = [asyncio.ensure_future(begin(pace, others)) for _ in range(20)]
        await asyncio.sleep(0.55)
        await begin(pace, urgent, urgent=True)
        assert urgent == pytest.approx([0.6])
        await asyncio.gather(*tasks)

    virtual_time.run(main)


def test_who_has_the_turn_and_cannot_begin_passes_it_on() -> None:
    async def main() -> None:
        pace, times = Pace(10.0), list[float]()
        assert pace.try_turn(urgent=False)
        assert not pace.try_turn(urgent=False)
        waiting = asyncio.ensure_future(begin(pace, times))
        await asyncio.sleep(1)
        assert not waiting.done()
        pace.release_turn(urgent=False)
        await waiting
        assert times == [1.0]

    virtual_time.run(main)


def test_a_wait_that_is_cancelled_leaves_no_timer_behind() -> None:
    async def main() -> None:
        pace, times = Pace(0.001), list[float]()
        await begin(pace, times)
        waiting = [asyncio.ensure_future(begin(pace, times)) for _ in range(5)]
        await asyncio.sleep(1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not pace._waiters[False]
        assert pace._timer is None

    virtual_time.run(main)


@pytest.mark.parametrize("before", [True, False])
def test_a_cancelled_wait_loses_no_turn(before: bool) -> None:
    async def main() -> None:
        pace, times = Pace(10.0), list[float]()
        await begin(pace, times)
        first = asyncio.ensure_future(pace.acquire_turn(urgent=False))
        second = asyncio.ensure_future(begin(pace, times))
        await asyncio.sleep(0.05 if before else 0)
        if not before:
            # In the round in which it is given the turn.
            loop = asyncio.get_running_loop()
            loop.call_at(0.1, lambda: loop.call_soon(first.cancel))
        else:
            first.cancel()
        await second
        assert times[1] == pytest.approx(0.1, abs=0.001)

    virtual_time.run(main)


def test_it_learns_from_429_and_tells_so() -> None:
    async def main() -> None:
        told: list[Event] = []
        pace = Pace(emit=told.append)
        await asyncio.sleep(10)
        flood(pace)
        assert pace.is_limited
        assert 10 < pace.rate < 20
        assert told == [PaceLowered(rate=14.0)]
        times: list[float] = []
        await begin(pace, times)
        assert times == pytest.approx([10.1])  # the answers to what is in flight came first

    virtual_time.run(main)


def test_a_given_rate_is_the_most_whatever_was_learnt() -> None:
    async def main() -> None:
        told: list[Event] = []
        pace = Pace(5.0, emit=told.append)
        flood(pace)
        assert pace.rate == 5.0
        assert told == [PaceLowered(rate=5.0)]
        flood(pace, accepted=0)
        await asyncio.sleep(2)
        flood(pace, accepted=0)
        assert pace.rate < 5.0

    virtual_time.run(main)


def test_a_limit_that_is_forgotten_lets_all_begin_that_wait() -> None:
    async def main() -> None:
        told: list[Event] = []
        pace, times = Pace(emit=told.append), list[float]()
        await asyncio.sleep(10)
        flood(pace)
        tasks = [asyncio.ensure_future(begin(pace, times)) for _ in range(4000)]
        await asyncio.sleep(61)
        began = len(times)
        assert began < 4000
        pace.record(None, 70.0, "box")
        await asyncio.gather(*tasks)
        assert max(times) == 71.0
        assert told[-1] == PaceRestored(rate=None)
        assert not pace.is_limited

    virtual_time.run(main)


def test_an_answer_that_says_nothing_of_a_limit_is_not_counted() -> None:
    async def main() -> None:
        pace = Pace()
        flood(pace)
        rate = pace.rate
        pace.record(ResponseTimeout("no answer"), 0.0, "box")
        assert pace.rate == rate

    virtual_time.run(main)


@pytest.mark.parametrize(("accepted", "expected"), [(0, 7.0), (20, 7.0)])
def test_retry_after_holds_everything_when_nothing_but_429_comes(
    accepted: int, expected: float
) -> None:
    async def main() -> None:
        pace, times = Pace(), list[float]()
        flood(pace, accepted)
        for number in range(8):
            wait = TooManyRequests("slow down", status=429, retry_after=7.0)
            pace.record(wait, -0.1, f"more-{number}")
        await begin(pace, times)
        assert times == pytest.approx([expected])

    virtual_time.run(main)


def test_retry_after_of_one_chargebox_holds_no_other() -> None:
    async def main() -> None:
        pace, times = Pace(100.0), list[float]()
        for number in range(20):
            wait = TooManyRequests("slow down", status=429, retry_after=60.0)
            pace.record(None if number % 10 else wait, -0.1, f"box-{number}")
        await begin(pace, times)
        assert times[0] < 0.2

    virtual_time.run(main)


def test_no_retry_after_holds_longer_than_a_minute() -> None:
    async def main() -> None:
        pace, times = Pace(), list[float]()
        for number in range(8):
            wait = TooManyRequests("slow down", status=429, retry_after=86_400.0)
            pace.record(wait, -0.1, f"box-{number}")
        await begin(pace, times)
        assert times == pytest.approx([60.0])

    virtual_time.run(main)


async def hold(dispatcher: Dispatcher, seconds: float, until: float = 1e9) -> float | None:
    """Sends a request that takes so long; returns when it began."""
    permit = await dispatcher.acquire(until)
    if permit is None:
        return None
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    dispatcher.release(None, permit.probe, began, "box")
    return began


def test_who_waits_for_the_pace_holds_no_permit() -> None:
    async def main() -> None:
        limiter = PriorityLimiter(2)
        slow, fast = Dispatcher(limiter, Pace(1.0)), Dispatcher(limiter)
        waiting = [asyncio.ensure_future(hold(slow, 0.0)) for _ in range(5)]
        await asyncio.sleep(0.5)
        assert limiter.in_flight == 0
        assert await hold(fast, 0.0) == 0.5
        assert await asyncio.gather(*waiting) == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0])

    virtual_time.run(main)


def test_an_urgent_request_does_not_wait_behind_one_that_has_the_turn() -> None:
    async def main() -> None:
        limiter = PriorityLimiter(1)
        pace = Pace(10.0)
        batch, single = Dispatcher(limiter, pace, is_batch=True), Dispatcher(limiter, pace)
        others = [Dispatcher(limiter, is_batch=True) for _ in range(30)]
        queue = [asyncio.ensure_future(hold(other, 1.0)) for other in others]
        await asyncio.sleep(0.1)
        has_turn = asyncio.ensure_future(hold(batch, 0.0))
        await asyncio.sleep(0.1)
        assert await hold(single, 0.0) == pytest.approx(1.0, abs=0.1)
        assert await has_turn == pytest.approx(30.0, abs=0.2)
        await asyncio.gather(*queue)
        for each in (batch, *others):
            each.close()

    virtual_time.run(main)


def test_two_that_have_turns_begin_a_slot_apart() -> None:
    async def main() -> None:
        limiter = PriorityLimiter(2)
        pace = Pace(2.0)
        batch, single = Dispatcher(limiter, pace, is_batch=True), Dispatcher(limiter, pace)
        blocking = [asyncio.ensure_future(hold(Dispatcher(limiter), 3.0)) for _ in range(2)]
        await asyncio.sleep(0.1)
        began = await asyncio.gather(hold(batch, 0.0), hold(single, 0.0), hold(batch, 0.0))
        assert began[1] == pytest.approx(3.0)
        assert sorted(filter(None, began)) == pytest.approx([3.0, 3.5, 4.0], abs=0.01)
        await asyncio.gather(*blocking)
        batch.close()

    virtual_time.run(main)


def test_slots_that_pass_without_a_permit_are_not_used_up_later() -> None:
    async def main() -> None:
        limiter = PriorityLimiter(1)
        paced, other = Dispatcher(limiter, Pace(10.0)), Dispatcher(limiter)
        blocking = asyncio.ensure_future(hold(other, 5.0))
        await asyncio.sleep(0.01)
        began = await asyncio.gather(*(hold(paced, 0.0) for _ in range(11)))
        await blocking
        assert began[0] == pytest.approx(5.0)
        assert began[-1] == pytest.approx(6.0, abs=0.11)

    virtual_time.run(main)


@pytest.mark.parametrize("is_batch", [True, False])
def test_the_wait_for_the_pace_counts_in_the_time_of_a_single_call_alone(is_batch: bool) -> None:
    async def main() -> None:
        dispatcher = Dispatcher(PriorityLimiter(9), Pace(1.0), is_batch=is_batch)
        began = await asyncio.gather(*(hold(dispatcher, 0.0, until=2.5) for _ in range(5)))
        late = [3.0, 4.0] if is_batch else [None, None]
        assert began == [0.0, 1.0, 2.0, *late]
        dispatcher.close()

    virtual_time.run(main)


def test_a_batch_that_ends_waits_for_no_turn() -> None:
    async def main() -> None:
        pace = Pace(1.0)
        dispatcher = Dispatcher(PriorityLimiter(9), pace, is_batch=True)
        dispatcher.stop_after(2.5)
        began = await asyncio.gather(*(hold(dispatcher, 0.0) for _ in range(5)))
        assert began == [0.0, 1.0, 2.0, None, None]
        times: list[float] = []
        await begin(pace, times)
        assert times == [3.0]
        dispatcher.close()

    virtual_time.run(main)
