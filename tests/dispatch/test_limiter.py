"""The limit of requests in flight: its permits and its queue."""

from __future__ import annotations

import asyncio

from thor_async._dispatch.limiter import PriorityLimiter


async def run_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_permit_given_to_a_waiter_that_is_cancelled_is_not_lost() -> None:
    limiter = PriorityLimiter(1)
    assert limiter.try_acquire(urgent=False)
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
    assert limiter.try_acquire(urgent=False)
    waiter = asyncio.ensure_future(limiter.acquire(urgent=True))
    await run_loop()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert limiter.in_flight == 1
    limiter.release()
    assert limiter.in_flight == 0
    assert limiter.try_acquire(urgent=False)
    assert not limiter.try_acquire(urgent=False)


async def test_urgent_requests_go_first_and_each_kind_in_order() -> None:
    limiter = PriorityLimiter(1)
    assert limiter.try_acquire(urgent=False)
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


async def test_a_request_that_spares_leaves_the_last_permit_to_an_urgent_one() -> None:
    limiter = PriorityLimiter(16)
    for _ in range(15):
        assert limiter.try_acquire(urgent=False, spares=True)
    assert not limiter.try_acquire(urgent=False, spares=True)
    sparing = asyncio.ensure_future(limiter.acquire(urgent=False, spares=True))
    behind = asyncio.ensure_future(limiter.acquire(urgent=False))
    await run_loop()
    assert not limiter.try_acquire(urgent=False), "it would go before the one that waits"
    assert limiter.try_acquire(urgent=True)
    limiter.release()
    await run_loop()
    assert not sparing.done()
    assert not behind.done()
    limiter.release()
    assert await sparing
    assert await behind
    assert limiter.in_flight == 16


async def test_who_spares_and_is_cancelled_holds_up_no_other() -> None:
    limiter = PriorityLimiter(16)
    for _ in range(16):
        assert limiter.try_acquire(urgent=False)
    sparing, behind = (
        asyncio.ensure_future(limiter.acquire(urgent=False, spares=spares))
        for spares in (True, False)
    )
    await run_loop()
    limiter.release()
    sparing.cancel()
    await asyncio.gather(sparing, return_exceptions=True)
    limiter.release()
    assert await behind
    assert limiter.in_flight == 15


async def test_of_few_permits_none_is_spared() -> None:
    limiter = PriorityLimiter(15)
    for _ in range(15):
        assert limiter.try_acquire(urgent=False, spares=True)
