"""Random faults of stop requests."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import aiohttp
import pytest

from tests.emulator.harness import GONE, STOP, Client, error_body, logged, under_virtual_time
from thor_async.emulator import Faults, ThorEmulator


async def test_errors_before_the_effect(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    thor.faults = Faults(error_before=1.0)
    client.headers = {}
    answers = [await client.stop() for _ in range(40)]
    assert {status for status, _ in answers} == {500, 502, 503}
    assert all((body == error_body("InternalServerError")) == (s == 500) for s, body in answers)
    assert thor.charges
    assert not thor.ledger.effects


async def test_errors_after_the_effect(thor: ThorEmulator, client: Client) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.faults = Faults(error_after=1.0)
    assert await client.stop() == (500, error_body("InternalServerError"))
    assert await client.stop() == (400, error_body("NotInTransaction"))
    assert logged(thor)[0] == (500, "InternalServerError", charge.transaction)


async def test_drops_before_the_effect(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    thor.faults = Faults(drop_before=1.0)
    with pytest.raises(GONE):
        await client.stop()
    assert thor.charges
    assert logged(thor) == [(None, None, None)]


async def test_drops_after_the_effect(thor: ThorEmulator, client: Client) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.faults = Faults(drop_after=1.0)
    with pytest.raises(GONE):
        await client.stop()
    assert await client.stop() == (400, error_body("NotInTransaction"))
    assert logged(thor)[0] == (None, None, charge.transaction)


async def test_throttling(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    thor.faults = Faults(throttle=1.0)
    async with client.session.post(f"{thor.base_url}/charges/stop", json=STOP) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert thor.charges


@under_virtual_time
async def test_latency_delays_every_request(thor: ThorEmulator, client: Client) -> None:
    thor.faults = Faults(latency=(3600.0, 7200.0))
    now = asyncio.get_running_loop().time
    for path in ("charges/stop", "charges/start"):
        started = now()
        await client.ask("POST", path, json=STOP)
        assert 3600 <= now() - started < 7201


async def outcomes_of(seed: int) -> list[int | None]:
    """Returns the statuses of 60 stops with every kind of fault; None when dropped."""
    async with ThorEmulator(seed=seed, faults=Faults(0.2, 0.2, 0.2, 0.2, 0.1)) as thor:
        for _ in range(60):
            thor.charges.pop(("A", 1), None)
            thor.start_charge("A", 1, "T")
            async with aiohttp.ClientSession() as session:
                await asyncio.gather(Client(thor, session).stop(), return_exceptions=True)
        return [r.status for r in thor.ledger.requests]


async def test_a_seed_repeats_itself_and_another_differs() -> None:
    first = await outcomes_of(1)
    assert {None, 200, 500, 503} <= set(first)
    assert await outcomes_of(1) == first
    assert await outcomes_of(2) != first


async def test_spread_divides_evenly() -> None:
    assert Faults.spread(0.2) == Faults(0.05, 0.05, 0.05, 0.05)
    assert Faults.spread(1) == Faults(0.25, 0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("faults", "named"),
    [
        ({"error_before": 1.1}, "error_before=1.1"),
        ({"drop_after": -0.1}, "drop_after=-0.1"),
        ({"throttle": math.nan}, "throttle=nan"),
        ({"error_after": 0.6, "drop_before": 0.6}, "1.2"),
        ({"latency": (2.0, 1.0)}, "latency"),
        ({"latency": (-1.0, 1.0)}, "latency"),
        ({"latency": (0.0, math.inf)}, "latency"),
    ],
)
def test_bad_faults(faults: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Faults(**faults)


def test_spread_refuses_a_bad_probability() -> None:
    with pytest.raises(ValueError, match=r"p=1\.5"):
        Faults.spread(1.5)
