"""The public breaker, as a worker on another broker uses it."""

from __future__ import annotations

import asyncio

import pytest

from tests import virtual_time
from tests.worker.test_settlement import outcome
from thor_async import APIKeyNotFound, ConnectionLost, ThorError
from thor_async.worker import CircuitBreaker

REFUSED = APIKeyNotFound("no")


async def take_turns(breaker: CircuitBreaker, *errors: ThorError | None) -> list[float]:
    """Returns the time of each turn."""
    times = []
    for error in errors:
        async with breaker.turn() as record:
            times.append(asyncio.get_running_loop().time())
            record(outcome(error))
    return times


def test_a_refused_account_is_probed_less_and_less_often_until_it_is_taken() -> None:
    async def main() -> None:
        opened: list[ThorError] = []
        closed: list[float] = []
        breaker = CircuitBreaker(on_open=opened.append, on_close=closed.append)
        started = asyncio.get_running_loop().time()
        times = await take_turns(breaker, *[REFUSED] * 6)
        assert breaker.is_open
        assert [round(time - started) for time in times] == [0, 1, 3, 7, 15, 30]
        assert await take_turns(breaker, None, None) == pytest.approx([started + 45] * 2, abs=0.1)
        assert not breaker.is_open
        assert (opened, round(closed[0])) == ([REFUSED], 45)

    virtual_time.run(main)


def test_an_outage_is_64_commands_without_an_answer() -> None:
    async def main() -> None:
        breaker = CircuitBreaker()
        await take_turns(breaker, *[ConnectionLost("lost")] * 63)
        assert not breaker.is_open
        await take_turns(breaker, ConnectionLost("lost"))
        assert breaker.is_open
        breaker.disable()
        assert not breaker.is_open

    virtual_time.run(main)


def test_a_turn_that_is_not_used_passes_to_the_next() -> None:
    async def main() -> None:
        breaker = CircuitBreaker()
        await take_turns(breaker, REFUSED)
        started = asyncio.get_running_loop().time()
        async with breaker.turn():
            pass
        with pytest.raises(KeyError):
            async with breaker.turn():
                raise KeyError
        [time] = await take_turns(breaker, REFUSED)
        assert round(time - started) == 1

    virtual_time.run(main)
