"""The emulator's lists: true by default, and every way in which they lie."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pytest

from tests import virtual_time
from tests.emulator.test_chargers import opened, under_virtual_time
from tests.emulator.test_emulator import Client, refused, until
from thor_async.emulator import Behaviour, Faults, Lists, Read, ThorEmulator


async def listed(client: Client, query: str = "") -> tuple[int, list[int]]:
    """The count, and the transactions that are shown."""
    status, content = await client.ask("GET", f"charges/running{query}")
    assert status == 200
    assert isinstance(content["users"], dict)
    return content["count"], [item["id"] for item in content["items"]]


async def raw(client: Client) -> tuple[int, bytes]:
    url = f"{client.thor.base_url}/charges/running"
    async with client.session.get(url, headers=client.headers) as response:
        return response.status, await response.read()


def start(thor: ThorEmulator, count: int) -> None:
    for number in range(1, count + 1):
        thor.start_charge(f"box-{number}", 1, "T", number)


# Every GET is entered


@under_virtual_time
async def test_every_get_is_entered(thor: ThorEmulator, client: Client) -> None:
    thor.add_chargebox("A")
    begun = asyncio.get_running_loop().time()
    thor.faults = Faults(latency=(60.0, 60.0))
    for path in ("charges/running", "charges/running?chargebox=A", "chargeboxes", "chargeboxes/A"):
        await client.ask("GET", path)
    client.headers = {}
    await client.ask("GET", "chargeboxes/B")
    assert [(r.path, r.chargebox, r.status) for r in thor.ledger.reads] == [
        ("charges/running", None, 200),
        ("charges/running", "A", 200),
        ("chargeboxes", None, 200),
        ("chargeboxes/A", "A", 200),
        ("chargeboxes/B", "B", 403),
    ]
    assert [round(r.at - begun) for r in thor.ledger.reads] == [0, 60, 120, 180, 240]
    assert thor.ledger.requests == []


@under_virtual_time
async def test_a_get_that_nobody_waited_for(thor: ThorEmulator, client: Client) -> None:
    thor.faults = Faults(latency=(60.0, 60.0))
    task = asyncio.create_task(client.ask("GET", "chargeboxes"))
    await until(lambda: thor.ledger.reads)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(61)
    (read,) = thor.ledger.reads
    assert read == Read("chargeboxes", None, read.at)


# Late lists


@under_virtual_time
async def test_a_list_lags(thor: ThorEmulator, client: Client) -> None:
    thor.lists = Lists(lag=(30.0, 30.0))
    start(thor, 1)
    assert await listed(client) == (0, [])
    await asyncio.sleep(31)
    assert await listed(client) == (1, [1])
    thor.end_charge("box-1", 1)
    thor.start_charge("box-1", 1, "T", 2)
    assert await listed(client) == (1, [1])
    await asyncio.sleep(20)
    thor.end_charge("box-1", 1)
    assert await listed(client) == (1, [1])
    await asyncio.sleep(11)
    assert await listed(client) == (1, [2])
    await asyncio.sleep(20)
    assert await listed(client) == (0, [])
    thor.lists = Lists()
    assert await listed(client) == (0, [])


@under_virtual_time
async def test_a_lag_is_drawn_for_each_list(thor: ThorEmulator, client: Client) -> None:
    thor.lists = Lists(lag=(0.0, 60.0))
    start(thor, 1)
    await asyncio.sleep(30)
    shown = [(await listed(client))[0] for _ in range(50)]
    assert 10 < sum(shown) < 40


@under_virtual_time
async def test_a_late_list_is_filtered(thor: ThorEmulator, client: Client) -> None:
    start(thor, 2)
    await asyncio.sleep(60)
    thor.lists = Lists(lag=(30.0, 30.0))
    thor.end_charge("box-1", 1)
    thor.end_charge("box-2", 1)
    assert await listed(client, "?chargebox=box-2") == (1, [2])


@under_virtual_time
async def test_the_history_is_bounded(thor: ThorEmulator, client: Client) -> None:
    thor.lists = Lists(lag=(30.0, 30.0))
    await asyncio.sleep(1)
    start(thor, 10_001)
    assert await listed(client) == (1, [1])


def test_a_late_list_reaches_back_before_the_emulator_ran() -> None:
    thor = ThorEmulator(port=8080)
    thor.lists = Lists(lag=(10.0, 10.0))
    start(thor, 1)

    async def scenario(*shown: int) -> None:
        async with thor, aiohttp.ClientSession() as http:
            assert await listed(Client(thor, http)) == (len(shown), list(shown))
            await asyncio.sleep(3600)
            thor.start_charge("A", len(shown), "T")

    virtual_time.run(partial(scenario, 1))
    virtual_time.run(partial(scenario, 1, 2))  # on another loop, whose clock begins anew


# Lies


@under_virtual_time
async def test_a_cut_list_has_fewer_items_than_its_count(
    thor: ThorEmulator, client: Client
) -> None:
    thor.lists = Lists(cut=1.0)
    assert await listed(client) == (0, [])
    start(thor, 4)
    seen = set()
    for _ in range(60):
        count, shown = await listed(client)
        assert count == 4
        assert shown == [1, 2, 3, 4][: len(shown)]
        seen.add(len(shown))
    assert seen == {0, 1, 2, 3}


@under_virtual_time
async def test_broken_json_comes_whole(thor: ThorEmulator, client: Client) -> None:
    start(thor, 1)
    _, whole = await raw(client)
    thor.lists = Lists(broken=1.0)
    sizes = set()
    for _ in range(20):
        status, body = await raw(client)
        assert status == 200
        assert body
        assert whole.startswith(body)
        assert body != whole
        sizes.add(len(body))
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(body)
    assert len(sizes) > 10


@under_virtual_time
async def test_an_empty_list(thor: ThorEmulator, client: Client) -> None:
    start(thor, 3)
    thor.lists = Lists(empty=1.0)
    assert await listed(client) == (0, [])
    assert len(thor.charges) == 3


@under_virtual_time
async def test_a_list_of_another_account(thor: ThorEmulator, client: Client) -> None:
    start(thor, 3)
    thor.lists = Lists(foreign=1.0)
    sizes = set()
    for _ in range(20):
        _, content = await client.ask("GET", "charges/running")
        assert content["count"] == len(content["items"]) > 0
        assert not {item["chargebox"] for item in content["items"]} & thor.chargeboxes.keys()
        assert all(item["id"] > 1000 for item in content["items"])
        sizes.add(content["count"])
    assert len(sizes) > 2
    assert await listed(client, "?chargebox=box-1") == (0, [])


@under_virtual_time
async def test_a_list_that_fails(thor: ThorEmulator, client: Client) -> None:
    thor.lists = Lists(error=1.0)
    answers = [await client.ask("GET", "charges/running") for _ in range(40)]
    assert {status for status, _ in answers} == {500, 502, 503}
    assert all((b == refused("InternalServerError")) == (s == 500) for s, b in answers)
    assert {read.status for read in thor.ledger.reads} == {500, 502, 503}
    assert (await client.ask("GET", "chargeboxes"))[0] == 200


@under_virtual_time
async def test_the_key_comes_before_a_lie(thor: ThorEmulator, client: Client) -> None:
    thor.lists = Lists(error=1.0)
    client.headers = {}
    assert await client.ask("GET", "charges/running") == (403, refused("APIKeyNotFound"))


async def told(seed: int) -> list[tuple[int, bytes]]:
    async with opened(seed=seed) as (thor, client):
        thor.lists = Lists(cut=0.2, empty=0.2, foreign=0.2, error=0.2, broken=0.1)
        start(thor, 1)
        answers = [await raw(client) for _ in range(200)]
        return [(status, body[:10]) for status, body in answers]


def test_lies_are_drawn_by_the_seed() -> None:
    first = virtual_time.run(partial(told, 1))
    assert virtual_time.run(partial(told, 1)) == first
    assert virtual_time.run(partial(told, 2)) != first
    honest = first.count((200, b'{"count":1'))
    assert 10 < honest < 150


@under_virtual_time
async def test_honest_lists_follow_the_chargebox(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours[None] = Behaviour(delay=(10.0, 10.0))
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    assert await listed(client) == (1, [7])
    await asyncio.sleep(11)
    assert await listed(client) == (0, [])


@under_virtual_time
async def test_dates_go_with_the_loop(thor: ThorEmulator, client: Client) -> None:
    first = thor.start_charge("A", 1)
    await asyncio.sleep(3600)
    second = thor.start_charge("A", 2)
    assert second.date_started - first.date_started == pytest.approx(3_600_000, abs=10)
    _, box = await client.ask("GET", "chargeboxes/A")
    assert box["last_heartbeat"] == pytest.approx(second.date_started, abs=1000)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lag": (2.0, 1.0)}, "lag"),
        ({"lag": (0.0, math.inf)}, "lag"),
        ({"cut": 1.1}, "cut=1.1"),
        ({"error": -0.1}, "error=-0.1"),
        ({"empty": 0.6, "foreign": 0.6}, "1.2"),
    ],
)
def test_bad_lists(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Lists(**settings)
