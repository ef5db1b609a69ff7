"""Many deadlines with one timer, under virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests import virtual_time
from thor_async._transport.deadlines import Deadlines


async def wait_for_deadline(deadlines: Deadlines, seconds: float) -> float:
    """The loop time at which a request ended that would take an hour."""
    loop = asyncio.get_running_loop()
    timeout = deadlines.start(seconds)
    try:
        async with timeout:
            await asyncio.sleep(3600)
    except TimeoutError:
        pass
    finally:
        deadlines.finish(timeout)
    return loop.time()


def test_each_request_ends_at_its_own_deadline() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        waits = [wait_for_deadline(deadlines, seconds) for seconds in (3.0, 1.0, 2.0, 1.0)]
        assert await asyncio.gather(*waits) == pytest.approx([3.0, 1.0, 2.0, 1.0])
        assert await wait_for_deadline(deadlines, 0.5) == pytest.approx(3.5)
        deadlines.abort_all()

    virtual_time.run(main)


def test_a_finished_request_is_not_ended_later() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        timeout = deadlines.start(1.0)
        async with timeout:
            await asyncio.sleep(0.5)
        deadlines.finish(timeout)
        await asyncio.sleep(5)
        assert not timeout.expired()

    virtual_time.run(main)


def test_abort_ends_all_at_once_and_leaves_no_timer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        waits = [asyncio.ensure_future(wait_for_deadline(deadlines, n)) for n in (1.0, 100.0)]
        await asyncio.sleep(0.5)
        deadlines.abort_all()
        deadlines.abort_all()
        assert await asyncio.gather(*waits) == pytest.approx([0.5, 0.5])
        # A later request has a timer of its own again.
        assert await wait_for_deadline(deadlines, 2.0) == pytest.approx(2.5)
        deadlines.abort_all()

    virtual_time.run(main)


def test_one_timer_serves_a_thousand_requests() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[float] = []
        call_at = loop.call_at

        def count(when: float, *args: object, **kwargs: object) -> asyncio.TimerHandle:
            calls.append(when)
            return call_at(when, *args, **kwargs)  # type: ignore[arg-type]

        loop.call_at = count  # type: ignore[method-assign]
        deadlines = Deadlines(loop)
        for _ in range(1000):
            timeout = deadlines.start(10.0)
            async with timeout:
                pass
            deadlines.finish(timeout)
        assert len(calls) == 1
        deadlines.abort_all()

    virtual_time.run(main)
