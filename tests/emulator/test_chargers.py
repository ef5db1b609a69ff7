"""The emulator's chargeboxes: slow, stubborn, offline, and what is told of them."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from tests import virtual_time
from tests.emulator.test_emulator import Client, outcome, refused
from thor_async.emulator import Behaviour, Faults, Notifications, ScriptedAnswer, ThorEmulator

TAGLESS = {"accepted", "unlocked", "chargebox", "connector", "transaction_id", "time", "payment"}


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[tuple[ThorEmulator, Client]]:
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        ThorEmulator(sock=virtual_time.listener(), **settings) as thor,
        aiohttp.ClientSession(timeout=timeout) as http,
    ):
        yield thor, Client(thor, http)


def under_virtual_time(
    scenario: Callable[[ThorEmulator, Client], Awaitable[None]],
) -> Callable[[], None]:
    async def run() -> None:
        async with opened() as (thor, client):
            await scenario(thor, client)

    return lambda: virtual_time.run(run)


def ignore(body: bytes) -> None:
    pass


def now() -> float:
    return asyncio.get_running_loop().time()


def ends(thor: ThorEmulator) -> dict[int, Any]:
    """What ended, and how many seconds ago."""
    return {number: pytest.approx(now() - at, abs=0.1) for number, at in thor.ledger.ended.items()}


def listen(thor: ThorEmulator, **options: Any) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    thor.notifications = Notifications(
        lambda body: heard.append(msgspec.json.decode(body)), **options
    )
    return heard


# Slow, stubborn, and whoever comes next


@under_virtual_time
async def test_by_default_the_charge_ends_before_the_answer(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T", 7)
    thor.script(ScriptedAnswer(200, effect=True, delay=60))
    task = asyncio.create_task(client.stop())
    await asyncio.sleep(1)
    assert not task.done()
    assert thor.charges == {}
    assert ends(thor) == {7: 1}
    await task


@under_virtual_time
async def test_a_slow_chargebox_ends_the_charge_by_itself(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(delay=(20.0, 40.0))
    thor.start_charge("A", 1, "T", 7)
    begun = now()
    assert await client.stop() == (200, {})
    assert now() - begun < 1
    await asyncio.sleep(19)
    assert thor.charges
    assert thor.ledger.ended == {}
    await asyncio.sleep(22)
    assert thor.charges == {}
    assert 20 <= thor.ledger.ended[7] - begun < 41
    assert thor.ledger.refused == {}


@under_virtual_time
async def test_each_stop_is_handed_on_while_the_charge_runs(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(delay=(30.0, 30.0))
    thor.start_charge("A", 1, "T", 7)
    heard = listen(thor)
    assert [(await client.stop())[0] for _ in range(2)] == [200, 200]
    assert [request.effect for request in thor.ledger.effects] == [7, 7]
    await asyncio.sleep(31)
    assert await client.stop() == (400, refused("NotInTransaction"))
    await asyncio.sleep(31)
    assert [message["transaction_id"] for message in heard] == [7]
    assert thor.ledger.refused == {}


@under_virtual_time
async def test_a_late_stop_spares_the_next_charge(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours[None] = Behaviour(delay=(30.0, 30.0))
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    thor.end_charge("A", 1)
    following = thor.start_charge("A", 1, "T")
    await asyncio.sleep(60)
    assert thor.charges == {("A", 1): following}
    assert thor.ledger.ended.keys() == {7}


@under_virtual_time
async def test_a_chargebox_that_refuses(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours["A"] = Behaviour(delay=(5.0, 5.0), refuses=1.0)
    charge = thor.start_charge("A", 1, "T", 7)
    assert await client.stop() == (200, {})
    assert thor.ledger.effects[0].effect == 7
    assert thor.ledger.refused == {}
    await asyncio.sleep(6)
    first = thor.ledger.refused[7]
    assert thor.charges == {("A", 1): charge}
    await client.stop()
    await asyncio.sleep(6)
    assert thor.ledger.refused[7] > first + 5
    assert thor.ledger.ended == {}


@under_virtual_time
async def test_a_behaviour_is_one_chargeboxes_own_and_may_change(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours = {"A": Behaviour(refuses=1.0), None: Behaviour(delay=(9.0, 9.0))}
    for chargebox in "AB":
        thor.start_charge(chargebox, 1, "T")
        await client.stop(chargebox=chargebox)
    assert (len(thor.ledger.refused), len(thor.charges)) == (1, 2)
    thor.behaviours[None] = Behaviour(refuses=1.0)
    await asyncio.sleep(10)
    assert (len(thor.ledger.refused), len(thor.charges)) == (2, 2)
    thor.behaviours.clear()
    await client.stop(chargebox="A")
    assert thor.charges.keys() == {("B", 1)}


async def refusals(seed: int) -> list[int]:
    async with opened(seed=seed) as (thor, client):
        thor.behaviours[None] = Behaviour(refuses=0.5)
        for connector in range(1, 101):
            thor.start_charge("A", connector, "T")
            await client.stop(connector=connector)
        return list(thor.ledger.refused)


def test_refusals_are_drawn_by_the_seed() -> None:
    first = virtual_time.run(partial(refusals, 1))
    assert 30 < len(first) < 70
    assert virtual_time.run(partial(refusals, 1)) == first
    assert virtual_time.run(partial(refusals, 2)) != first


async def statuses(behaviour: Behaviour, gets: int) -> list[int | None]:
    async with opened(faults=Faults(error_before=0.5, latency=(0.0, 1.0))) as (thor, client):
        thor.behaviours[None] = behaviour
        thor.notifications = Notifications(ignore, delay=(0.0, 1.0))
        for connector in range(1, 31):
            thor.start_charge("A", connector, "T")
            await client.stop(connector=connector)
            for _ in range(gets):
                await client.ask("GET", "charges/running")
        return [request.status for request in thor.ledger.requests]


def test_the_faults_of_stops_are_independent_of_everything_else() -> None:
    slow = Behaviour(delay=(0.0, 1.0), refuses=0.5)
    assert virtual_time.run(partial(statuses, slow, 2)) == virtual_time.run(
        partial(statuses, Behaviour(), 0)
    )


@under_virtual_time
async def test_the_next_driver_comes_after_every_end(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours[None] = Behaviour(next_driver=30.0)
    thor.start_charge("A", 1, "T", 7, mode="remote")
    await client.stop()
    await asyncio.sleep(29)
    assert thor.charges == {}
    await asyncio.sleep(2)
    charge = thor.charges["A", 1]
    assert (charge.id_tag, charge.transaction, charge.mode) == ("T", 8, "remote")
    for end in (thor.end_charge, thor.unlock):
        end("A", 1)
        await asyncio.sleep(31)
    assert thor.charges["A", 1].transaction == 10


@under_virtual_time
async def test_the_next_driver_finds_the_connector_taken(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(next_driver=30.0)
    thor.start_charge("A", 1, "T")
    thor.end_charge("A", 1)
    other = thor.start_charge("A", 1, "X")
    await asyncio.sleep(60)
    assert thor.charges == {("A", 1): other}


# Offline


@under_virtual_time
async def test_an_offline_chargebox_stops_late(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T", 7)
    thor.behaviours["A"] = Behaviour(delay=(5.0, 5.0))
    heard = listen(thor)
    thor.go_offline("A")
    assert thor.offline == {"A"}
    assert (await client.ask("GET", "chargeboxes/A"))[1]["connected"] is False
    assert await client.stop() == (200, {})
    assert thor.ledger.effects[0].effect == 7
    await asyncio.sleep(3600)
    assert (await client.ask("GET", "charges/running"))[1]["count"] == 1
    thor.come_back("A")
    assert (await client.ask("GET", "chargeboxes/A"))[1]["connected"] is True
    await asyncio.sleep(4)
    assert (thor.ledger.ended, heard) == ({}, [])
    await asyncio.sleep(2)
    assert ends(thor) == {7: 1}
    assert [message["type"] for message in heard] == ["stop_transaction"]


@under_virtual_time
async def test_a_stop_on_its_way_waits_too(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T", 7)
    thor.behaviours["A"] = Behaviour(delay=(5.0, 5.0))
    await client.stop()
    thor.go_offline("A")
    await asyncio.sleep(60)
    assert thor.ledger.ended == {}
    thor.come_back("A")
    assert ends(thor) == {7: 0}


@under_virtual_time
async def test_thor_learns_late_of_what_ended_offline(thor: ThorEmulator, client: Client) -> None:
    thor.behaviours["A"] = Behaviour(next_driver=10.0)
    thor.start_charge("A", 1, "T", 7)
    heard = listen(thor)
    thor.go_offline("A")
    thor.end_charge("A", 1)
    await asyncio.sleep(60)
    assert ends(thor) == {7: 60}
    with pytest.raises(ValueError, match="no charge runs"):
        thor.end_charge("A", 1)
    assert (await client.ask("GET", "charges/running"))[1]["items"][0]["id"] == 7
    assert await client.stop() == (200, {})
    assert heard == []
    thor.come_back("A")
    await asyncio.sleep(1)
    assert [(m["type"], m["transaction_id"]) for m in heard] == [
        ("stop_transaction", 7),
        ("start", 8),
    ]
    assert thor.charges["A", 1].transaction == 8
    assert ends(thor) == {7: 61}


@under_virtual_time
async def test_a_stop_that_waits_is_too_late_for_what_ended_offline(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T", 7)
    heard = listen(thor)
    thor.go_offline("A")
    await client.stop()
    await asyncio.sleep(60)
    thor.end_charge("A", 1)
    await asyncio.sleep(60)
    thor.come_back("A")
    await asyncio.sleep(1)
    assert ends(thor) == {7: 61}
    assert [message["type"] for message in heard] == ["stop_transaction"]


@under_virtual_time
async def test_nothing_is_told_from_offline_and_nothing_twice(
    thor: ThorEmulator, client: Client
) -> None:
    heard = listen(thor)
    thor.go_offline("A")
    thor.start_charge("A", 1, "T", 7)
    thor.refuse_start("A", 2, "X")
    await asyncio.sleep(60)
    assert heard == []
    for _ in range(2):
        thor.come_back("A")
        await asyncio.sleep(60)
        assert [message["transaction_id"] for message in heard] == [7, 0]
        thor.go_offline("A")


@under_virtual_time
async def test_a_chargebox_may_go_and_come_at_any_time(thor: ThorEmulator, client: Client) -> None:
    thor.come_back("A")
    thor.go_offline("A")
    thor.go_offline("A")
    thor.come_back("A")
    thor.come_back("A")
    assert thor.offline == set()
    assert (await client.ask("GET", "chargeboxes/A"))[0] == 200


# Changes from outside


@under_virtual_time
async def test_a_charge_that_was_changed_is_still_the_same(
    thor: ThorEmulator, client: Client
) -> None:
    heard = listen(thor)
    thor.behaviours[None] = Behaviour(delay=(5.0, 5.0))
    charge = thor.start_charge("A", 1, "T", 7)
    await client.stop()
    thor.charges["A", 1] = msgspec.structs.replace(charge, energy=12_400.0)
    await asyncio.sleep(6)
    assert thor.charges == {}
    assert heard[-1]["kwh"] == 12


@under_virtual_time
async def test_a_charge_that_was_taken_away_does_not_end(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(delay=(5.0, 5.0))
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    del thor.charges["A", 1]
    await asyncio.sleep(6)
    assert thor.ledger.ended == {}


@under_virtual_time
async def test_what_was_put_in_the_place_of_an_ended_charge_stays(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T", 7)
    thor.go_offline("A")
    thor.end_charge("A", 1)
    del thor.charges["A", 1]
    other = thor.start_charge("A", 1, "T", 8)
    thor.come_back("A")
    assert thor.charges == {("A", 1): other}
    thor.end_charge("A", 1)
    assert thor.ledger.ended.keys() == {7, 8}


# Other ends


@pytest.mark.parametrize("end", ["end_charge", "unlock"])
async def test_an_end_needs_a_charge(end: str) -> None:
    thor = ThorEmulator()
    with pytest.raises(ValueError, match="no charge runs at 'A', 1"):
        getattr(thor, end)("A", 1)
    thor.start_charge("A", 1, "T", 7)
    getattr(thor, end)("A", 1)
    assert thor.charges == {}
    assert thor.ledger.ended == {7: -math.inf}


# The judge


@under_virtual_time
async def test_a_refused_stop_was_handed_on_all_the_same(
    thor: ThorEmulator, client: Client
) -> None:
    thor.behaviours[None] = Behaviour(refuses=1.0)
    thor.start_charge("A", 1, "T")
    thor.script(ScriptedAnswer(500, effect=True), "NotInTransaction")
    await client.stop()
    await client.stop()
    assert thor.ledger.overclaims([outcome("rejected", True)]) == []
    lie = outcome("rejected")
    assert thor.ledger.overclaims([lie]) == [lie]


# Notifications


def start(**changes: Any) -> dict[str, Any]:
    return {
        "type": "start",
        "accepted": True,
        "chargebox": "A",
        "id": "T",
        "connector": 1,
        "transaction_id": 7,
        "mode": "local",
    } | changes


@under_virtual_time
async def test_starts_are_told(thor: ThorEmulator, client: Client) -> None:
    heard = listen(thor)
    for connector, mode in enumerate(("local", "remote", "api"), 1):
        thor.start_charge("A", connector, "T", 6 + connector, mode=mode)
    thor.refuse_start("A", 4, "X")
    _, body = await client.ask("POST", "charges/start", json={"chargebox": "A", "connector": 5})
    await asyncio.sleep(1)
    assert heard == [
        start(),
        start(connector=2, transaction_id=8, mode="remote"),
        start(connector=3, transaction_id=9, mode="api"),
        start(connector=4, transaction_id=0, id="X", accepted=False),
        start(connector=5, transaction_id=10, id=body["id_tag"], mode="api"),
    ]
    assert thor.charges.keys() == {("A", 1), ("A", 2), ("A", 3), ("A", 5)}


@under_virtual_time
async def test_fill_tells_too(thor: ThorEmulator, client: Client) -> None:
    heard = listen(thor)
    thor.fill([outcome("relayed").command])
    await asyncio.sleep(1)
    assert heard == [start(transaction_id=1)]


@pytest.mark.parametrize("by_driver", [True, False])
def test_a_normal_end_is_told(by_driver: bool) -> None:
    @under_virtual_time
    async def scenario(thor: ThorEmulator, client: Client) -> None:
        thor.start_charge("A", 1, "T", 7)
        heard = listen(thor)
        await asyncio.sleep(90.5)
        if by_driver:
            thor.end_charge("A", 1)
        else:
            await client.stop()
        await asyncio.sleep(1)
        assert heard == [
            {
                "type": "stop_transaction",
                "accepted": True,
                "unlocked": False,
                "chargebox": "A",
                "idTag": "T",
                "connector": 1,
                "transaction_id": 7,
                "kwh": 0,
                "time": 90,
                "payment": None,
            }
        ]

    scenario()


@under_virtual_time
async def test_a_refusal_is_told_without_its_transaction(
    thor: ThorEmulator, client: Client
) -> None:
    charge = thor.start_charge("A", 1, "T", 7)
    thor.charges["A", 1] = msgspec.structs.replace(charge, energy=12_400.0)
    heard = listen(thor)
    thor.behaviours["A"] = Behaviour(refuses=1.0)
    await client.stop()
    await asyncio.sleep(1)
    (message,) = heard
    assert message.keys() == TAGLESS | {"msg", "energy", "idTag"}
    assert (message["msg"], message["accepted"], message["unlocked"]) == ("stop", False, False)
    assert (message["transaction_id"], message["idTag"], message["energy"]) == (0, "T", 12_400)


@under_virtual_time
async def test_an_unlocked_connector_is_told_without_transaction_and_tag(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T", 7)
    heard = listen(thor)
    thor.unlock("A", 1)
    await asyncio.sleep(1)
    (message,) = heard
    assert message.keys() == TAGLESS | {"msg", "energy", "idTag"}
    assert (message["msg"], message["unlocked"]) == ("stop", True)
    assert (message["transaction_id"], message["idTag"]) == (0, "")
    assert ends(thor) == {7: 1}


@under_virtual_time
async def test_notifications_overtake_each_other(thor: ThorEmulator, client: Client) -> None:
    heard = listen(thor, delay=(10.0, 20.0))
    for connector in range(1, 51):
        thor.start_charge("A", connector)
    await asyncio.sleep(9.9)
    assert heard == []
    await asyncio.sleep(10.2)
    arrived = [message["connector"] for message in heard]
    assert sorted(arrived) == list(range(1, 51))
    assert arrived != sorted(arrived)


@under_virtual_time
async def test_notifications_are_lost_and_doubled(thor: ThorEmulator, client: Client) -> None:
    heard = listen(thor, lost=0.3, doubled=0.5)
    for connector in range(1, 1001):
        thor.start_charge("A", connector)
    await asyncio.sleep(1)
    counted = Counter(message["connector"] for message in heard)
    assert 600 < len(counted) < 800
    assert 0.4 < sum(count == 2 for count in counted.values()) / len(counted) < 0.6
    assert set(counted.values()) == {1, 2}


@under_virtual_time
async def test_nobody_is_told_what_he_did_not_ask_for(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1)
    heard = listen(thor)
    await asyncio.sleep(60)
    thor.notifications = None
    thor.end_charge("A", 1)
    await asyncio.sleep(60)
    assert heard == []


async def test_what_happens_before_it_runs_is_told_to_nobody() -> None:
    thor = ThorEmulator()
    heard = listen(thor)
    thor.start_charge("A", 1)
    async with thor:
        await asyncio.sleep(0)
        assert heard == []


async def test_a_function_that_raises_is_heard_of() -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with ThorEmulator() as thor:
        thor.notifications = Notifications(lambda body: exec("raise KeyError(7)"))
        thor.start_charge("A", 1)
        await asyncio.sleep(0.01)
    loop.set_exception_handler(handler)
    assert [repr(complaint["exception"]) for complaint in complaints] == ["KeyError(7)"]


@asynccontextmanager
async def receiver(status: int, heard: list[Any]) -> AsyncIterator[str]:
    async def receive(request: web.BaseRequest) -> web.Response:
        heard.append((request.content_type, request.path, await request.read()))
        headers = {"Location": "/elsewhere"}
        return web.Response(status=status, text="x" * 100_000, headers=headers)

    runner = web.ServerRunner(web.Server(receive))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/thor"
    await runner.cleanup()


async def patiently(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("status", [200, 302, 500])
async def test_notifications_are_posted(status: int) -> None:
    heard: list[Any] = []
    async with receiver(status, heard) as to, ThorEmulator() as thor:
        thor.notifications = Notifications(to)
        thor.start_charge("A", 1, "T", 7)
        await patiently(lambda: heard)
        await patiently(lambda: not thor._post._tasks)
        ((content_type, path, body),) = heard
        assert (content_type, path) == ("application/json", "/thor")
        assert msgspec.json.decode(body) == start()


async def test_nobody_answers() -> None:
    async with receiver(200, []) as to:
        pass
    async with ThorEmulator() as thor:
        thor.notifications = Notifications(to)
        thor.start_charge("A", 1)
        await patiently(lambda: thor._post._tasks)
        await patiently(lambda: not thor._post._tasks)


async def test_the_end_cuts_a_notification_under_way() -> None:
    connected, left = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()
        left.set()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with ThorEmulator() as thor:
            thor.notifications = Notifications(f"http://127.0.0.1:{port}/")
            thor.start_charge("A", 1)
            await connected.wait()
            (task,) = thor._post._tasks
        assert task.cancelled()
        await left.wait()


# Its end


@under_virtual_time
async def test_a_crash_of_thor_does_not_stop_the_chargeboxes(
    thor: ThorEmulator, client: Client
) -> None:
    heard = listen(thor, delay=(1.0, 1.0))
    thor.behaviours[None] = Behaviour(delay=(30.0, 30.0), next_driver=30.0)
    thor.start_charge("A", 1, "T", 7)
    await client.stop()
    await thor.refuse()
    await asyncio.sleep(62)
    assert thor.charges["A", 1].transaction == 8
    assert [message["type"] for message in heard] == ["start", "stop_transaction", "start"]


def test_what_is_due_after_the_end_never_happens() -> None:
    async def scenario() -> None:
        async with opened() as (thor, client):
            heard = listen(thor, delay=(5.0, 5.0))
            thor.behaviours = {
                "A": Behaviour(delay=(5.0, 5.0)),
                "B": Behaviour(next_driver=5.0),
            }
            for chargebox in "AB":
                thor.start_charge(chargebox, 1, "T")
                await client.stop(chargebox=chargebox)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(60)
        assert thor.charges.keys() == {("A", 1)}
        assert heard == []

    virtual_time.run(scenario)


def test_thousands_at_the_same_moment_take_no_long_time() -> None:
    async def scenario() -> None:
        async with opened() as (thor, _):
            heard = listen(thor, delay=(60.0, 60.0))
            for number in range(20_000):
                thor.start_charge(f"box-{number}", 1, "T")
            await asyncio.sleep(61)
            assert len(heard) == 20_000
            assert not thor._clock._due

    begun = time.process_time()
    virtual_time.run(scenario)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Behaviour(delay=(2.0, 1.0)), "delay"),
        (lambda: Behaviour(refuses=1.1), "refuses=1.1"),
        (lambda: Behaviour(next_driver=-1.0), "next_driver -1"),
        (lambda: Behaviour(next_driver=math.nan), "next_driver nan"),
        (lambda: Notifications("box.example"), "box.example"),
        (lambda: Notifications(ignore, delay=(0.0, math.inf)), "delay"),
        (lambda: Notifications(ignore, lost=-0.1), "lost=-0.1"),
        (lambda: Notifications(ignore, doubled=2), "doubled=2"),
    ],
)
def test_bad_values(build: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build()


def test_the_dice_of_a_seed_are_not_the_same() -> None:
    thor = ThorEmulator(seed=5)
    dice = (thor._random, thor._whims, thor._get_dice, thor._post._dice)
    assert len({die.random() for die in dice}) == 4
    assert random.Random(5).random() == ThorEmulator(seed=5)._random.random()
