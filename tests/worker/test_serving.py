"""A worker is never deaf: whatever is deleted or goes away, it serves again, or says why not."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import nats.errors
import pytest
from faststream import FastStream
from faststream.nats import NatsBroker
from faststream.specification import AsyncAPI
from nats.js.api import ConsumerConfig

from tests.conftest import KEY, TAG, wait_until
from tests.worker.conftest import Place, connect, run_server, serving
from tests.worker.test_service import fleet
from thor_async import ThorClient
from thor_async.emulator import Faults, ThorEmulator
from thor_async.worker.service import StopWorker, add_worker
from thor_async.worker.serving import ServingLoop
from thor_async.worker.streams import Subjects

pytestmark = pytest.mark.broker


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


async def requests_of(worker: StopWorker, seconds: float) -> float:
    """Returns how many messages a second the worker sends to NATS."""
    assert worker._client is not None
    before = worker._client.stats["out_msgs"]
    await asyncio.sleep(seconds)
    return float(worker._client.stats["out_msgs"] - before) / seconds


async def is_served(place: Place, emulator: ThorEmulator, within: float) -> None:
    command = fleet(emulator, 1)[0]
    async with asyncio.timeout(within):
        await place.send(command)
        await wait_until(lambda: not emulator.charges)


@pytest.mark.parametrize("what", ["consumer", "stream"])
async def test_what_a_worker_had_created_is_created_again(
    what: str, place: Place, emulator: ThorEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(place, emulator) as worker:
        await is_served(place, emulator, 10)
        if what == "consumer":
            await place.jetstream.delete_consumer(place.names["stream"], place.durable)
        else:
            await place.jetstream.delete_stream(place.names["stream"])
            await wait_until(lambda: worker.reason)
            async with asyncio.timeout(10):
                while what == "stream":
                    what = await find_stream(place)
        await is_served(place, emulator, 10)
        await wait_until(lambda: worker.state == "running")
        assert await requests_of(worker, 2.0) < 10
    assert len(errors(caplog)) == 1
    assert errors(caplog)[0].startswith("not serving: ")


async def find_stream(place: Place) -> str:
    try:
        await place.jetstream.stream_info(place.names["stream"])
    except nats.errors.Error:
        await asyncio.sleep(0.05)
        return "stream"
    return "found"


async def test_what_another_had_created_is_waited_for(
    place: Place, emulator: ThorEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    await place.make(ack_wait=30.0)
    async with serving(place, emulator) as worker:
        await is_served(place, emulator, 10)
        await place.jetstream.delete_consumer(place.names["stream"], place.durable)
        await wait_until(lambda: worker.reason and "create it again" in worker.reason)
        assert worker.state == "not_serving"
        assert await requests_of(worker, 3.0) < 10
        config = ConsumerConfig(
            durable_name=place.durable, filter_subject=place.names["subject"], ack_wait=7.0
        )
        await place.jetstream.add_consumer(place.names["stream"], config)
        await is_served(place, emulator, 10)
    [_, reason] = errors(caplog)
    assert reason.startswith(f"not serving: the consumer {place.durable!r} was deleted")


async def test_a_consumer_that_is_changed_to_all_subjects_is_refused(
    place: Place, emulator: ThorEmulator
) -> None:
    """The worker would take its own outcomes and dead letters for commands."""
    await place.make(ack_wait=30.0)
    stream, config = place.names["stream"], ConsumerConfig(durable_name=place.durable)
    async with serving(place, emulator) as worker:
        await is_served(place, emulator, 10)
        await place.jetstream.add_consumer(stream, config)
        await place.send(b"no command")
        await wait_until(lambda: worker.reason and "set its filter_subject" in worker.reason)
        await place.jetstream.add_consumer(
            stream, config.evolve(filter_subject=place.names["subject"])
        )
        await wait_until(lambda: worker.state == "running")
    assert len(await place.outcomes()) == 1
    assert len(await place.dead()) == 1
    await place.jetstream.add_consumer(stream, config)
    with pytest.raises(RuntimeError, match=r"delivers >, not only t\d+\.stop: set its filter"):
        async with serving(place, emulator):
            pass


async def test_a_store_that_comes_back_empty_is_served(
    emulator: ThorEmulator, tmp_path: Path
) -> None:
    """A command in hand ends in the new stream, and takes no message of it with it."""
    commands = fleet(emulator, 3)
    emulator.faults = Faults(latency=(3.0, 3.0))
    emulator.script("APIKeyNotFound", chargebox=commands[1].chargebox)
    with run_server(tmp_path) as server:
        async with connect(server.url) as place:
            async with serving(place, emulator) as worker:
                await place.send(*commands[:2])
                await wait_until(lambda: len(emulator.ledger.requests) == 2)
                server.stop()
                server.remove_store()
                await wait_until(lambda: worker.state == "disconnected")
                server.start()
                await wait_until(lambda: worker.state == "paused")  # by the refused key
                emulator.faults = Faults()
                await place.send(*commands[2:], *commands[:1])  # numbers 1 and 2 again
                await wait_until(lambda: not worker.in_hand)
                await place.emptied()
            rows, dead = await place.outcomes(), await place.dead()
    assert sorted(row["chargebox"] for row in rows) == ["box-0", "box-0", "box-2"]
    assert [message.data for message in dead] == [msgspec.json.encode(commands[1])]
    assert (dead[0].headers or {})["Thor-Reason"].startswith("its stream was deleted: ")
    assert (dead[0].headers or {})["Thor-Maybe-Applied"] == "false"


async def test_a_broker_that_was_away_is_served_again(
    emulator: ThorEmulator, tmp_path: Path
) -> None:
    with run_server(tmp_path) as server:
        async with connect(server.url) as place, serving(place, emulator) as worker:
            await is_served(place, emulator, 10)
            server.stop()
            await wait_until(lambda: worker.state == "disconnected")
            await asyncio.sleep(5.0)
            server.start()
            await is_served(place, emulator, 15)


class Loop:
    """A serving loop whose stream cannot be found, and the rests between its looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: list[Exception]) -> None:
        self.client: Any = mock.Mock(is_connected=True, is_closed=False, stats={"reconnects": 0})
        self.client.jetstream.return_value.stream_info = mock.AsyncMock(side_effect=failures)
        self.loop = ServingLoop(self.client, Subjects(), lambda: 1, mock.Mock())
        self.delays: list[float] = []
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, delay: float) -> None:
        self.delays.append(delay)


async def test_it_looks_again_after_15_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So it serves within 15 s, however long the failure lasted, and says it once."""
    failures = [nats.errors.TimeoutError()] * 8
    loop = Loop(monkeypatch, [*failures, asyncio.CancelledError()])  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await loop.loop.run()
    assert loop.delays == [0, 1, 2, 4, 8, 15, 15, 15]
    assert errors(caplog) == ["not serving: TimeoutError"]
    assert loop.loop.failure == "TimeoutError"


async def test_a_client_that_has_closed_itself_ends_the_worker(
    place: Place, emulator: ThorEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="the worker has failed: ConnectionGoneError in"):
        async with serving(place, emulator) as worker:
            assert worker._client is not None
            await worker._client.close()
            await asyncio.sleep(30)
    assert errors(caplog)[-1].startswith("the worker has failed: ConnectionGoneError")


@pytest.mark.parametrize("name", ["_run_heartbeat", "_serve"])
async def test_a_task_that_dies_ends_the_app(
    name: str, place: Place, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(self: StopWorker) -> None:
        await asyncio.sleep(0.1)
        raise KeyError(TAG)

    monkeypatch.setattr(StopWorker, name, die)
    broker = NatsBroker(place.url, logger=None, max_reconnect_attempts=-1)
    worker = add_worker(broker, ThorClient(KEY, base_url=emulator.base_url), **place.names)
    app = FastStream(broker, lifespan=worker.lifespan, logger=None)
    with pytest.raises(RuntimeError, match="the worker has failed: KeyError in test_serving"):
        await app.run()
    assert worker.reason is not None
    assert TAG not in worker.reason


async def test_a_broker_that_gives_up_is_refused(place: Place, emulator: ThorEmulator) -> None:
    broker = NatsBroker(place.url, logger=None)
    worker = add_worker(broker, ThorClient(KEY, base_url=emulator.base_url), **place.names)
    with pytest.raises(RuntimeError, match="max_reconnect_attempts=-1"):
        async with worker.lifespan():
            pass


def test_the_commands_are_in_the_documentation_of_the_app() -> None:
    broker = NatsBroker("nats://127.0.0.1:1")
    add_worker(broker, ThorClient(KEY))
    text = AsyncAPI(broker).to_specification().to_json()
    assert '"address":"thor.stop"' in text


async def test_the_consumer_is_looked_at_while_it_is_idle(
    place: Place, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thor_async.worker.serving._CHECK_INTERVAL", 0.1)
    await place.make(ack_wait=30.0)
    stream = place.names["stream"]
    async with serving(place, emulator) as worker:
        config = ConsumerConfig(
            durable_name=place.durable, filter_subject=place.names["subject"], ack_wait=2.0
        )
        await place.jetstream.add_consumer(stream, config)
        await wait_until(lambda: (setup := worker._serving.setup) and setup.ack_wait == 2.0)
        await place.jetstream.add_consumer(stream, ConsumerConfig(durable_name=place.durable))
        await wait_until(lambda: worker.state == "not_serving")
