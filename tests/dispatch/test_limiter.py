"""The limit of requests in flight: its permits and its queue."""

from __future__ import annotations

import asyncio

from thor_async._dispatch.limiter import PriorityLimiter


async def run_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_permit_given_to_a_waiter_that_is_cancelled_is_not_lost() -> None:
    limiter = PriorityLimiter(1)
    assert limiter.try_acquire()
    first, second = (asyncio.ensure_future(limiter.acquire(urgent=False)) for _ in range(2))
    await run_loop()
    limiter.release()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await second
    limiter.release()
    assert limiter.in_flight == 0


async def test_a_waiter_that_is_cancelled_takes_no_permit() -> None:
    limiter = PriorityLimiter(1)
    assert limiter.try_acquire()
    waiter = asyncio.ensure_future(limiter.acquire(urgent=True))
    await run_loop()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert limiter.in_flight == 1
    limiter.release()
    assert limiter.in_flight == 0
    assert limiter.try_acquire()
    assert not limiter.try_acquire()


async def test_urgent_requests_go_first_and_each_kind_in_order() -> None:
    limiter = PriorityLimiter(1)
    assert limiter.try_acquire()
    order: list[str] = []

    async def wait(name: str) -> None:
        await limiter.acquire(urgent=name.startswith("urgent"))
        order.append(name)
        limiter.release()

    names = ["batch 1", "urgent 1", "batch 2", "urgent 2"]
    waiting = [asyncio.ensure_future(wait(name)) for name in names]
    await run_loop()
    limiter.release()
    await asyncio.gather(*waiting)
    assert order == ["urgent 1", "urgent 2", "batch 1", "batch 2"]
