"""The promise, with random commands, drivers and faults under virtual time.

`python -m benchmarks.promise` sends a million commands; here are the first episodes of it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter

import pytest

from benchmarks.promise import run_episode
from tests import virtual_time
from thor_async import Confirmation, RetryPolicy, StopCharge, ThorClient
from thor_async.emulator import Behaviour, Lists, ThorEmulator


@pytest.fixture(autouse=True)
def without_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "thor_async")


@pytest.mark.parametrize("first_seed", range(0, 60, 10))
def test_no_promise_is_broken(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 10):
        episode = run_episode(seed)
        assert episode.orders > 40
        assert not episode.thor.violations, f"seed {seed}: {episode.thor.violations[0]}"


def test_the_simulation_sees_repeats_that_stop_the_next_driver() -> None:
    found = [
        violation
        for seed in range(10)
        for violation in run_episode(seed, with_as_of=False).thor.violations
    ]
    assert any(violation.startswith("STOPPED ANOTHER") for violation in found)


def test_the_simulation_sees_retries_that_stop_the_next_driver() -> None:
    """One episode in a hundred has one; that of the first seed has."""
    assert any(
        violation.startswith("STOPPED THE NEXT")
        for seed in range(100, 1000)
        for violation in run_episode(seed, pins_retries=False).thor.violations
    )


def test_a_seed_repeats_its_episode() -> None:
    first, second = run_episode(7), run_episode(7)
    events = [[place.events for place in run.thor.places.values()] for run in (first, second)]
    assert repr(events[0]) == repr(events[1])
    assert first.counts == second.counts


def test_ensure_stopped_of_a_fleet_with_chargeboxes_that_ignore_stops() -> None:
    commands = [StopCharge(f"box-{n}", 1, f"tag-{n}", n + 1) for n in range(1000)]
    within = 300.0

    async def main() -> tuple[list[Confirmation], ThorEmulator, float]:
        loop = asyncio.get_running_loop()
        async with ThorEmulator(sock=virtual_time.listener()) as emulator:
            emulator.fill(commands)
            emulator.lists = Lists(lag=(0.0, 4.0))
            for command in commands[::10]:
                emulator.behaviours[command.chargebox] = Behaviour(ignores=2)
            policy = RetryPolicy(now=lambda: emulator._clock.epoch_ms() / 1000)
            async with (
                ThorClient(emulator.api_key, base_url=emulator.base_url, retry=policy) as thor,
                thor.ensure_stopped_stream(commands, within=within) as stream,
            ):
                started = loop.time()
                confirmations = [confirmation async for confirmation in stream]
            return confirmations, emulator, loop.time() - started

    confirmations, emulator, seconds = virtual_time.run(main)
    assert Counter(c.state for c in confirmations) == {"stopped": 1000}
    assert emulator.charges == {}
    assert seconds <= within
    # Each stop that was ignored twice needs two more, so 1.2 is the least.
    assert len(emulator.ledger.requests) <= 1.25 * len(commands)
    assert sum(c.stops_sent for c in confirmations) == len(emulator.ledger.requests)
    looks = [read.at for read in emulator.ledger.reads if read.path == "charges/running"]
    assert all(later - earlier > 1.9 for earlier, later in itertools.pairwise(looks))
