"""The list of running charges, with and without faults."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pytest

from tests import virtual_time
from tests.conftest import wait_until
from tests.emulator.harness import (
    Client,
    error_body,
    running_emulator,
    seconds_ago,
    under_virtual_time,
)
from thor_async import StopCharge
from thor_async.emulator import Behaviour, Faults, Lists, Read, ThorEmulator


async def test_the_list_of_running_charges(thor: ThorEmulator, client: Client) -> None:
    local = thor.start_charge("A", 1, "T", 7)
    thor.start_charge("B", 1, "T", mode="remote")
    status, both = await client.ask("GET", "charges/running")
    assert (status, both["count"], both["users"]) == (200, 2, {})
    assert [(c["id"], c["chargebox"], c["id_tag"]) for c in both["items"]] == [
        (7, "A", "T"),
        (8, "B", None),
    ]
    _, one = await client.ask("GET", "charges/running?chargebox=A")
    assert one == {"count": 1, "items": both["items"][:1], "users": {}}
    item = one["items"][0]
    assert item["date_started"] == local.date_started
    assert abs(item["date_started"] / 1000 - time.time()) < 60
    assert item.keys() >= {"connector", "energy", "type", "user", "payment"}
    assert await client.ask("GET", "charges/running?chargebox=C") == (
        200,
        {"count": 0, "items": [], "users": {}},
    )


async def listed(client: Client, query: str = "") -> tuple[int, list[int]]:
    """Returns the count and the listed transactions."""
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


@under_virtual_time
async def test_every_get_is_recorded(thor: ThorEmulator, client: Client) -> None:
    thor.add_chargebox("A")
    started = asyncio.get_running_loop().time()
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
    assert [round(r.at - started) for r in thor.ledger.reads] == [0, 60, 120, 180, 240]
    assert thor.ledger.requests == []


@under_virtual_time
async def test_a_get_whose_client_left_has_no_status(thor: ThorEmulator, client: Client) -> None:
    thor.faults = Faults(latency=(60.0, 60.0))
    task = asyncio.create_task(client.ask("GET", "chargeboxes"))
    await wait_until(lambda: thor.ledger.reads)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(61)
    (read,) = thor.ledger.reads
    assert read == Read("chargeboxes", None, read.at)


@under_virtual_time
async def test_a_late_list_shows_an_earlier_state(thor: ThorEmulator, client: Client) -> None:
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
async def test_a_late_list_has_an_older_charge_since_its_begin(
    thor: ThorEmulator, client: Client
) -> None:
    thor.lists = Lists(lag=(30.0, 30.0))
    thor.clock_offset = 3600.0
    for number, age in enumerate((20, 40), 1):
        thor.start_charge("A", number, "T", number, date_started=seconds_ago(thor, age))
    thor.start_charge("A", 3, "T", 3)
    assert await listed(client) == (1, [2])
    await asyncio.sleep(15)
    assert await listed(client) == (2, [1, 2])
    await asyncio.sleep(20)
    assert await listed(client) == (3, [1, 2, 3])


@under_virtual_time
async def test_a_late_list_has_the_charges_of_fill(thor: ThorEmulator, client: Client) -> None:
    thor.lists = Lists(lag=(30.0, 30.0))
    thor.fill([StopCharge("A", 1, "T", 7)])
    assert await listed(client) == (1, [7])


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
async def test_a_partial_list_has_a_count_that_agrees(thor: ThorEmulator, client: Client) -> None:
    thor.lists = Lists(partial=1.0)
    assert await listed(client) == (0, [])
    start(thor, 4)
    seen = set()
    for _ in range(60):
        count, shown = await listed(client)
        assert count == len(shown) == len(set(shown))
        seen.add(frozenset(shown))
    assert {len(shown) for shown in seen} == {0, 1, 2, 3}
    assert {frozenset({number}) for number in (1, 2, 3, 4)} <= seen  # not only the last are missing
    assert await listed(client, "?chargebox=box-2") == (0, [])


@under_virtual_time
async def test_broken_json_is_a_complete_answer(thor: ThorEmulator, client: Client) -> None:
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
    assert all((b == error_body("InternalServerError")) == (s == 500) for s, b in answers)
    assert {read.status for read in thor.ledger.reads} == {500, 502, 503}
    assert (await client.ask("GET", "chargeboxes"))[0] == 200


@under_virtual_time
async def test_the_key_is_checked_before_a_fault(thor: ThorEmulator, client: Client) -> None:
    thor.lists = Lists(error=1.0)
    client.headers = {}
    assert await client.ask("GET", "charges/running") == (403, error_body("APIKeyNotFound"))


async def list_answers(seed: int) -> list[tuple[int, bytes]]:
    async with running_emulator(seed=seed) as (thor, client):
        thor.lists = Lists(cut=0.2, empty=0.2, foreign=0.2, error=0.2, broken=0.1)
        start(thor, 1)
        answers = [await raw(client) for _ in range(200)]
        return [(status, body[:10]) for status, body in answers]


def test_list_faults_are_drawn_by_the_seed() -> None:
    first = virtual_time.run(partial(list_answers, 1))
    assert virtual_time.run(partial(list_answers, 1)) == first
    assert virtual_time.run(partial(list_answers, 2)) != first
    honest = first.count((200, b'{"count":1'))
    assert 10 < honest < 150


@under_virtual_time
async def test_a_true_list_follows_the_chargebox(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours[None] = Behaviour(delay=(10.0, 10.0))
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    assert await listed(client) == (1, [7])
    await asyncio.sleep(11)
    assert await listed(client) == (0, [])


@under_virtual_time
async def test_dates_follow_the_time_of_the_loop(thor: ThorEmulator, client: Client) -> None:
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
        ({"partial": 1.1}, "partial=1.1"),
        ({"cut": 0.6, "partial": 0.6}, "1.2"),
        ({"empty": 0.6, "foreign": 0.6}, "1.2"),
    ],
)
def test_bad_lists(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Lists(**settings)
