"""A stream of a real broker, for commands that run an event loop of their own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import msgspec
import pytest
from nats.aio.msg import Msg

from tests.worker.conftest import Place, connect, run_server
from thor_async import StopCharge

T = TypeVar("T")
NUMBERS = itertools.count(1)


class Broker:
    """The stream of one test. `options` are those of the command."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.number = 100_000 + next(NUMBERS)
        self.options: list[str] = []

        async def find_names(place: Place) -> dict[str, str]:
            return place.names

        self.names = self.do(find_names)
        for name, value in {"nats": url, **self.names}.items():
            self.options += [f"--{name.replace('_', '-')}", value]

    def do(self, action: Callable[[Place], Awaitable[T]]) -> T:
        async def run() -> T:
            async with connect(self.url) as place:
                place.use_number(self.number)
                return await action(place)

        return asyncio.run(run())

    def make(self, **settings: Any) -> None:
        self.do(lambda place: place.make(30.0, **settings))

    def publish(self, kind: str, body: StopCharge | bytes, headers: dict[str, str]) -> int:
        """Stores a message, and returns its number."""
        encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)

        async def publish(place: Place) -> int:
            stored = await place.jetstream.publish(self.names[kind], encoded, headers=headers)
            return stored.seq

        return self.do(publish)

    def read(self, kind: str) -> list[Msg]:
        return self.do(lambda place: place.read(kind))

    def commands(self) -> list[StopCharge]:
        return [msgspec.json.decode(m.data, type=StopCharge) for m in self.read("subject")]


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Runs a nats-server for all tests of commands, and yields its address."""
    with run_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@pytest.fixture
def broker(nats_url: str) -> Broker:
    return Broker(nats_url)
