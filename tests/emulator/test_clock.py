"""The clock of the emulator and its timers."""

from __future__ import annotations

import asyncio
import math

import pytest

from tests import virtual_time
from thor_async.emulator.clock import Clock


def test_timers_run_between_start_and_stop_only() -> None:
    fired: list[str] = []

    async def scenario() -> None:
        clock = Clock()
        clock.later(0.0, lambda: fired.append("before the start"))
        clock.start()
        clock.later(5.0, lambda: fired.append("in time"))
        clock.later(15.0, lambda: fired.append("after the stop"))
        await asyncio.sleep(10)
        clock.stop()
        await asyncio.sleep(10)

    virtual_time.run(scenario)
    assert fired == ["in time"]


def test_timers_of_no_delay_keep_their_order() -> None:
    fired: list[int] = []

    async def scenario() -> None:
        clock = Clock()
        clock.start()
        for number in range(100):
            clock.later(0.0, lambda number=number: fired.append(number))  # type: ignore[misc]
        await asyncio.sleep(0)
        clock.stop()

    virtual_time.run(scenario)
    assert fired == list(range(100))


def test_the_time_is_that_of_the_loop_and_minus_infinity_outside() -> None:
    async def scenario() -> None:
        clock = Clock()
        assert clock.now() == -math.inf
        clock.start()
        loop_time, epoch_ms = clock.now(), clock.epoch_ms()
        await asyncio.sleep(3600)
        assert clock.now() - loop_time == pytest.approx(3600, abs=0.1)
        assert clock.epoch_ms() - epoch_ms == pytest.approx(3_600_000, abs=100)
        clock.stop()
        assert clock.now() == -math.inf

    virtual_time.run(scenario)
