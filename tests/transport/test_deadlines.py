"""Many deadlines with one timer, under virtual time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests import virtual_time
from thor_async._transport.deadlines import Deadlines


async def wait_for_deadline(deadlines: Deadlines, seconds: float) -> float:
    """Runs a request of an hour, and returns the loop time at which it was ended."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError), deadlines.limit(seconds):
        await asyncio.sleep(3600)
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
        with deadlines.limit(1.0) as deadline:
            await asyncio.sleep(0.5)
        await asyncio.sleep(5)
        assert not deadline.is_expired

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
            with deadlines.limit(10.0):
                pass
        assert len(calls) == 1
        deadlines.abort_all()

    virtual_time.run(main)


def test_a_cancellation_from_outside_is_not_taken_for_the_deadline() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        for seconds in (100.0, 1.0):  # also at the time of the deadline
            work = asyncio.ensure_future(wait_for_deadline(deadlines, seconds))
            asyncio.get_running_loop().call_later(1.0, work.cancel)
            with pytest.raises(asyncio.CancelledError):
                await work
        deadlines.abort_all()

    virtual_time.run(main)


def test_an_outer_timeout_is_not_taken_for_the_deadline() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0) as outer:
                with deadlines.limit(2.0) as deadline:
                    await asyncio.sleep(3600)
        assert (outer.expired(), deadline.is_expired) == (True, False)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        deadlines.abort_all()

    virtual_time.run(main)


def test_an_abort_by_the_task_itself_leaves_no_cancellation_behind() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        with deadlines.limit(10.0) as deadline:
            deadlines.abort_all()
        await asyncio.sleep(1.0)
        assert not deadline.is_expired
        with pytest.raises(TimeoutError), deadlines.limit(10.0):
            deadlines.abort_all()
            await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)

    virtual_time.run(main)


def test_what_the_block_raises_is_kept() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        with pytest.raises(ValueError, match="own"), deadlines.limit(1.0):
            raise ValueError("own")
        with pytest.raises(ValueError, match="while it ends"), deadlines.limit(1.0):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                raise ValueError("while it ends") from None
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    virtual_time.run(main)
