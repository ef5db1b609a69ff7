"""Notifications of starts and stops, and their delivery."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from tests.conftest import wait_until
from tests.emulator.harness import (
    Client,
    collect_notifications,
    outcome,
    seconds_since_end,
    under_virtual_time,
)
from thor_async.emulator import Behaviour, Notifications, ThorEmulator

STOP_FIELDS = {
    "accepted",
    "unlocked",
    "chargebox",
    "connector",
    "transaction_id",
    "time",
    "payment",
}


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
async def test_starts_are_notified(thor: ThorEmulator, client: Client) -> None:
    received = collect_notifications(thor)
    for connector, mode in enumerate(("local", "remote", "api"), 1):
        thor.start_charge("A", connector, "T", 6 + connector, mode=mode)
    thor.refuse_start("A", 4, "X")
    _, body = await client.ask("POST", "charges/start", json={"chargebox": "A", "connector": 5})
    await asyncio.sleep(1)
    assert received == [
        start(),
        start(connector=2, transaction_id=8, mode="remote"),
        start(connector=3, transaction_id=9, mode="api"),
        start(connector=4, transaction_id=0, id="X", accepted=False),
        start(connector=5, transaction_id=10, id=body["id_tag"], mode="api"),
    ]
    assert thor.charges.keys() == {("A", 1), ("A", 2), ("A", 3), ("A", 5)}


@under_virtual_time
async def test_fill_notifies(thor: ThorEmulator, client: Client) -> None:
    received = collect_notifications(thor)
    thor.fill([outcome("relayed").command])
    await asyncio.sleep(1)
    assert received == [start(transaction_id=1)]


@pytest.mark.parametrize("by_driver", [True, False])
def test_a_normal_end_is_notified(by_driver: bool) -> None:
    @under_virtual_time
    async def scenario(thor: ThorEmulator, client: Client) -> None:
        thor.start_charge("A", 1, "T", 7)
        received = collect_notifications(thor)
        await asyncio.sleep(90.5)
        if by_driver:
            thor.end_charge("A", 1)
        else:
            await client.stop()
        await asyncio.sleep(1)
        assert received == [
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
async def test_the_notification_of_a_refusal_has_no_transaction(
    thor: ThorEmulator, client: Client
) -> None:
    charge = thor.start_charge("A", 1, "T", 7)
    thor.charges["A", 1] = msgspec.structs.replace(charge, energy=12_400.0)
    received = collect_notifications(thor)
    thor.behaviours["A"] = Behaviour(refuses=1.0)
    await client.stop()
    await asyncio.sleep(1)
    (message,) = received
    assert message.keys() == STOP_FIELDS | {"msg", "energy", "idTag"}
    assert (message["msg"], message["accepted"], message["unlocked"]) == ("stop", False, False)
    assert (message["transaction_id"], message["idTag"], message["energy"]) == (0, "T", 12_400)


@under_virtual_time
async def test_the_notification_of_an_unlock_has_no_transaction_and_no_tag(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T", 7)
    received = collect_notifications(thor)
    thor.unlock("A", 1)
    await asyncio.sleep(1)
    (message,) = received
    assert message.keys() == STOP_FIELDS | {"msg", "energy", "idTag"}
    assert (message["msg"], message["unlocked"]) == ("stop", True)
    assert (message["transaction_id"], message["idTag"]) == (0, "")
    assert seconds_since_end(thor) == {7: 1}


@under_virtual_time
async def test_notifications_overtake_each_other(thor: ThorEmulator, client: Client) -> None:
    received = collect_notifications(thor, delay=(10.0, 20.0))
    for connector in range(1, 51):
        thor.start_charge("A", connector)
    await asyncio.sleep(9.9)
    assert received == []
    await asyncio.sleep(10.2)
    arrived = [message["connector"] for message in received]
    assert sorted(arrived) == list(range(1, 51))
    assert arrived != sorted(arrived)


@under_virtual_time
async def test_notifications_are_lost_and_doubled(thor: ThorEmulator, client: Client) -> None:
    received = collect_notifications(thor, lost=0.3, doubled=0.5)
    for connector in range(1, 1001):
        thor.start_charge("A", connector)
    await asyncio.sleep(1)
    counted = Counter(message["connector"] for message in received)
    assert 600 < len(counted) < 800
    assert 0.4 < sum(count == 2 for count in counted.values()) / len(counted) < 0.6
    assert set(counted.values()) == {1, 2}


@under_virtual_time
async def test_nothing_is_sent_without_a_receiver(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1)
    received = collect_notifications(thor)
    await asyncio.sleep(60)
    thor.notifications = None
    thor.end_charge("A", 1)
    await asyncio.sleep(60)
    assert received == []


async def test_nothing_is_sent_before_the_start() -> None:
    thor = ThorEmulator()
    received = collect_notifications(thor)
    thor.start_charge("A", 1)
    async with thor:
        await asyncio.sleep(0)
        assert received == []


async def test_the_exception_of_a_receiver_reaches_the_loop() -> None:
    errors: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    async with ThorEmulator() as thor:
        thor.notifications = Notifications(lambda body: exec("raise KeyError(7)"))
        thor.start_charge("A", 1)
        await asyncio.sleep(0.01)
    loop.set_exception_handler(handler)
    assert [repr(error["exception"]) for error in errors] == ["KeyError(7)"]


@asynccontextmanager
async def receiver(status: int, received: list[Any]) -> AsyncIterator[str]:
    async def receive(request: web.BaseRequest) -> web.Response:
        received.append((request.content_type, request.path, await request.read()))
        headers = {"Location": "/elsewhere"}
        return web.Response(status=status, text="x" * 100_000, headers=headers)

    runner = web.ServerRunner(web.Server(receive))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/thor"
    await runner.cleanup()


@pytest.mark.parametrize("status", [200, 302, 500])
async def test_notifications_are_posted(status: int) -> None:
    received: list[Any] = []
    async with receiver(status, received) as to, ThorEmulator() as thor:
        thor.notifications = Notifications(to)
        thor.start_charge("A", 1, "T", 7)
        await wait_until(lambda: received)
        await wait_until(lambda: not thor._webhook_sender._tasks)
        ((content_type, path, body),) = received
        assert (content_type, path) == ("application/json", "/thor")
        assert msgspec.json.decode(body) == start()


async def test_a_missing_receiver_is_ignored() -> None:
    async with receiver(200, []) as to:
        pass
    async with ThorEmulator() as thor:
        thor.notifications = Notifications(to)
        thor.start_charge("A", 1)
        async with asyncio.timeout(60):
            while not thor._webhook_sender._tasks:  # it ends soon: look after each turn of the loop
                await asyncio.sleep(0)
        await wait_until(lambda: not thor._webhook_sender._tasks)


async def test_the_end_cancels_a_running_notification() -> None:
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
            (task,) = thor._webhook_sender._tasks
        assert task.cancelled()
        await left.wait()
