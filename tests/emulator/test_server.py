"""The server starts, refuses, accepts and stops."""

from __future__ import annotations

import asyncio
import socket
import time

import aiohttp
import pytest

from tests.conftest import wait_until
from tests.emulator.harness import GONE, Client, error_body, logged, under_virtual_time
from thor_async.emulator import Faults, ScriptedAnswer, ThorEmulator


async def test_refuse_and_accept_on_the_same_port(thor: ThorEmulator, client: Client) -> None:
    url = thor.base_url
    thor.always(ScriptedAnswer(delay=60))
    hanging = asyncio.create_task(client.stop())
    await wait_until(lambda: thor.ledger.requests)
    await asyncio.gather(thor.refuse(), thor.refuse())
    with pytest.raises(GONE):
        await hanging
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.stop()
    assert logged(thor) == [(None, None, None)]
    thor.always(None)
    await thor.accept()
    await thor.accept()
    assert thor.base_url == url
    assert await client.stop() == (404, error_body("ChargeboxNotFound"))


async def test_refuse_aborts_idle_and_brand_new_connections(
    thor: ThorEmulator, client: Client
) -> None:
    await client.stop()
    port = int(thor.base_url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await thor.refuse()
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.stop()


@under_virtual_time
async def test_refuse_abandons_requests_in_progress(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    thor.faults = Faults(latency=(60.0, 60.0))
    hanging = asyncio.create_task(client.stop())
    await wait_until(lambda: thor.ledger.requests)
    await thor.refuse()
    with pytest.raises(GONE):
        await hanging
    await asyncio.sleep(61)
    assert thor.charges


async def test_refuse_aborts_a_request_that_is_arriving(thor: ThorEmulator, client: Client) -> None:
    thor.faults = Faults(latency=(60.0, 60.0))
    for step in range(30):
        refusing = asyncio.create_task(thor.refuse())
        start = asyncio.get_running_loop().time() + step * 0.00005
        while asyncio.get_running_loop().time() < start:
            await asyncio.sleep(0)
        arriving = asyncio.create_task(client.stop())
        await refusing
        entered = len(thor.ledger.requests)
        assert not thor._handlers
        await asyncio.gather(arriving, return_exceptions=True)
        assert isinstance(arriving.exception(), GONE)
        assert len(thor.ledger.requests) == entered
        await thor.accept()


async def test_closing_does_not_wait_for_hanging_requests() -> None:
    async with aiohttp.ClientSession() as session:
        thor = ThorEmulator(faults=Faults(latency=(60.0, 60.0)))
        async with thor:
            client = Client(thor, session)
            hanging = [asyncio.create_task(client.stop()) for _ in range(20)]
            hanging.append(asyncio.create_task(client.ask("GET", "charges/running")))
            await wait_until(lambda: len(thor._handlers) == 21)
            started = time.monotonic()
        assert time.monotonic() - started < 30  # half of the latency
        results = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(result, GONE) for result in results)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(thor.ledger.requests) == 20


async def test_a_second_start_keeps_the_state(client: Client) -> None:
    thor = ThorEmulator()
    thor.start_charge("A", 1, "T")
    async with thor:
        pass
    async with thor:
        client.thor = thor
        assert await client.stop() == (200, {})


async def test_it_listens_on_a_bound_socket() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    async with ThorEmulator(sock=sock) as thor, aiohttp.ClientSession() as session:
        assert thor.base_url == f"http://127.0.0.1:{port}/latest/integration"
        assert (await Client(thor, session).stop())[0] == 404
        await thor.refuse()
        await thor.accept()
        assert (await Client(thor, session).stop())[0] == 404


@under_virtual_time
async def test_it_listens_on_a_socket_in_memory(thor: ThorEmulator, client: Client) -> None:
    assert thor.base_url.startswith("http://127.0.0.1:")
    await thor.refuse()
    with pytest.raises(GONE):
        await client.stop()
    await thor.accept()
    assert (await client.stop())[0] == 404


async def test_base_url_needs_a_running_emulator() -> None:
    thor = ThorEmulator()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="async with"):
            assert thor.base_url
        with pytest.raises(RuntimeError, match="async with"):
            await thor.accept()
        async with thor:
            assert thor.base_url.startswith("http://127.0.0.1:")


async def test_a_port_in_use_fails_and_leaves_nothing(thor: ThorEmulator) -> None:
    port = int(thor.base_url.split(":")[2].split("/")[0])
    with pytest.raises(OSError, match="address"):
        async with ThorEmulator(port=port):
            pass
