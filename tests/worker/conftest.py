"""A real broker on a free port, shared by all tests. Each test has its own stream."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from faststream.nats import NatsBroker
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, StreamConfig
from nats.js.errors import NotFoundError

from tests.conftest import KEY
from thor_async import RetryPolicy, StopCharge, ThorClient
from thor_async.emulator import ThorEmulator
from thor_async.worker.service import StopWorker, add_worker

NUMBERS = itertools.count(1)


class Server:
    """A nats-server with JetStream on loopback. It keeps its port when it is started again."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.port = -1
        self.config = folder / "config"
        self.config.write_text(config)

    def start(self) -> None:
        for file in self.folder.glob("*.ports"):
            file.unlink()
        server = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or "nats-server"
        where = [
            "-c",
            str(self.config),
            "-sd",
            str(self.folder),
            "--ports_file_dir",
            str(self.folder),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [server, "-js", "-a", "127.0.0.1", "-p", str(self.port), *where],
                stdout=log,
                stderr=log,
            )
        self.url = find_port(self.folder, self.process)
        self.port = int(self.url.rsplit(":", 1)[1])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def remove_store(self) -> None:
        """Removes all streams of a server that was stopped."""
        shutil.rmtree(self.folder / "jetstream")


@contextlib.contextmanager
def run_server(folder: Path, config: str = "") -> Iterator[Server]:
    """Runs a server with the settings of the file `config`."""
    server = Server(folder, config)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Runs a nats-server for all tests, and yields its address."""
    with run_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


def find_port(folder: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, (folder / "log").read_text()[-500:]
        for file in folder.glob("*.ports"):
            with contextlib.suppress(msgspec.DecodeError):
                return str(msgspec.json.decode(file.read_bytes())["nats"][0])
        time.sleep(0.02)
    raise AssertionError("no nats-server within 60 s")


class Place:
    """The stream of one test, and its messages."""

    def __init__(self, url: str, jetstream: JetStreamContext) -> None:
        self.url = url
        self.jetstream = jetstream
        self.use_number(next(NUMBERS))

    def use_number(self, number: int) -> None:
        """Uses the stream of this number, which another connection may have created."""
        self.number = number
        self.names: dict[str, Any] = {
            "stream": f"THOR{self.number}",
            "subject": f"t{self.number}.stop",
            "dead_letter": f"t{self.number}.stop.dead",
            "outcomes": f"t{self.number}.stop.outcomes",
        }
        self.durable = f"worker-t{self.number}-stop"

    async def make(
        self, ack_wait: float, max_msgs: int = -1, duplicate_window: float = 120.0
    ) -> None:
        """Creates stream and consumer before a worker does. A full stream takes no message."""
        await self.jetstream.add_stream(self._stream(max_msgs, duplicate_window))
        consumer = ConsumerConfig(
            durable_name=self.durable, filter_subject=self.names["subject"], ack_wait=ack_wait
        )
        await self.jetstream.add_consumer(self.names["stream"], consumer)

    async def make_room(self) -> None:
        """Removes the limit of the stream."""
        await self.jetstream.update_stream(self._stream(-1))

    def _stream(self, max_msgs: int, duplicate_window: float = 120.0) -> StreamConfig:
        return StreamConfig(
            name=self.names["stream"],
            subjects=[f"t{self.number}.>"],
            max_msgs=max_msgs,
            discard=DiscardPolicy.NEW,
            duplicate_window=duplicate_window,
        )

    async def deliver_to_a_dead_worker(self, count: int = 1) -> None:
        """Takes messages as a worker that dies: they are delivered again after ack_wait."""
        subscription = await self.jetstream.pull_subscribe_bind(self.durable, self.names["stream"])
        taken = 0
        while taken < count:
            taken += len(await subscription.fetch(count - taken))
        await subscription.unsubscribe()

    async def send(self, *commands: StopCharge | bytes) -> None:
        for command in commands:
            body = command if isinstance(command, bytes) else msgspec.json.encode(command)
            await self.jetstream.publish(self.names["subject"], body, stream=self.names["stream"])

    async def read(self, kind: str) -> list[Msg]:
        """Returns all messages of one subject, in order."""
        subject, stream = self.names[kind], self.names["stream"]
        info = await self.jetstream.stream_info(stream, subjects_filter=subject)
        count = (info.state.subjects or {}).get(subject, 0)
        plain = ConsumerConfig(ack_policy=AckPolicy.NONE)
        subscription = await self.jetstream.pull_subscribe(subject, stream=stream, config=plain)
        messages: list[Msg] = []
        while len(messages) < count:
            messages += await subscription.fetch(min(500, count - len(messages)))
        await subscription.unsubscribe()
        return messages

    async def outcomes(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(message.data) for message in await self.read("outcomes")]

    async def dead(self) -> list[Msg]:
        return await self.read("dead_letter")

    async def left(self) -> int:
        """Returns the number of commands that have not ended."""
        info = await self.jetstream.consumer_info(self.names["stream"], self.durable)
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def emptied(self, within: float = 120.0) -> None:
        """Waits until every command has ended."""
        async with asyncio.timeout(within):
            while True:
                # Before the worker has begun there is no consumer.
                with contextlib.suppress(NotFoundError):
                    if not await self.left():
                        return
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def connect(url: str, **login: Any) -> AsyncIterator[Place]:
    client = await nats.connect(
        url,
        **login,
        connect_timeout=60,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        error_cb=_ignore_error,
    )
    try:
        yield Place(url, client.jetstream(timeout=60))
    finally:
        await client.close()


async def _ignore_error(error: Exception) -> None:
    pass


@pytest.fixture
async def place(nats_url: str) -> AsyncIterator[Place]:
    async with connect(nats_url) as place:
        yield place


@contextlib.asynccontextmanager
async def serving(
    place: Place,
    emulator: ThorEmulator,
    key: Any = KEY,
    *,
    drain: float = 5.0,
    max_rate: float | None = None,
    retry_throttled: bool = False,
    **settings: Any,
) -> AsyncIterator[StopWorker]:
    """Runs a worker in this process."""
    broker = NatsBroker(
        place.url,
        logger=None,
        graceful_timeout=drain,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        error_cb=_ignore_error,
    )
    quick = RetryPolicy(max_attempts=3, initial_delay=0.01, retry_throttled=retry_throttled)
    thor = ThorClient(
        key,
        base_url=emulator.base_url,
        retry=quick,
        attempt_timeout=5.0,
        max_rate=max_rate,
        max_in_flight=settings.get("max_in_flight", 32),
    )
    worker = add_worker(broker, thor, **place.names | settings)
    async with worker.lifespan():
        await broker.start()
        try:
            yield worker
        finally:
            await broker.stop()
