"""Bytes that answer no request: before the first one, behind an answer, and on an idle connection.

Where the order of two sides matters, the server runs in a thread, and the client's loop is held
until the server has done its part.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest
from aiohttp.connector import Connection

from thor_async import (
    ChargeboxNotFound,
    ConnectionLost,
    NotSentError,
    RejectedError,
    StopCharge,
    ThorClient,
    ThorError,
)
from thor_async._transport import connections
from thor_async._transport.guard import let_loop_read

from ..conftest import KEY
from ..fault_server import FaultServer, Line, SplittingRelay, close, fin, in_thread, read
from .test_connections import NOT_FOUND, OK, tls_contexts

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
Tls = tuple[ssl.SSLContext, ssl.SSLContext] | None


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> Tls:
    return tls_contexts() if request.param else None


def client(url: str, tls: Tls, **settings: Any) -> ThorClient:
    return ThorClient(
        KEY, base_url=url, ssl=tls[0] if tls else None, attempt_timeout=10.0, **settings
    )


async def error_of(thor: ThorClient, command: StopCharge) -> ThorError | None:
    try:
        await thor.stop_charge(command)
    except ThorError as error:
        return error
    return None


class Signal:
    """A step of a script that tells another thread that the steps before it are done."""

    def __init__(self) -> None:
        self._done = threading.Event()

    async def __call__(self, line: Line) -> None:
        # What was written last may still be on its way through the loop.
        await asyncio.sleep(0.02)
        self._done.set()

    def wait(self) -> None:
        assert self._done.wait(10)


@pytest.fixture
def after_connecting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Holds the loop after each new connection until a function returns, or its result."""
    connect = aiohttp.TCPConnector.connect

    def install(wait: Callable[[], object]) -> None:
        async def connect_and_wait(*args: Any) -> Connection:
            connection = await connect(*args)
            waiting = wait()
            if isinstance(waiting, Coroutine):
                await waiting
            return connection

        monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_wait)

    return install


# Before the first request


@pytest.mark.parametrize("spoken", [OK, NOT_FOUND, TIMED_OUT, BUSY, b"H", b"\r\n"])
@pytest.mark.parametrize("end", [None, fin], ids=["open", "ended"])
def test_what_is_there_before_the_first_request_is_no_answer(
    command: StopCharge,
    spoken: bytes,
    end: Callable[[Line], Coroutine[Any, Any, None]] | None,
    tls: Tls,
    after_connecting: Callable[[Callable[[], object]], None],
) -> None:
    has_spoken = Signal()
    after_connecting(has_spoken.wait)

    async def speak(line: Line) -> None:
        line.writer.write(spoken)
        if end is not None:
            await end(line)
        await has_spoken(line)

    server = FaultServer([speak], tls=tls[1] if tls else None)

    async def case() -> None:
        async with client(server.url, tls) as thor:
            error = await error_of(thor, command)
        assert isinstance(error, NotSentError)
        assert error.reason == "connect"

    with in_thread(server):
        asyncio.run(case())
    assert server.requests == []
    assert server.connections == 1


def test_a_new_connection_that_has_ended_is_replaced_by_another(
    command: StopCharge, after_connecting: Callable[[Callable[[], object]], None]
) -> None:
    """A balancer that is being reloaded accepts, and closes."""
    after_connecting(lambda: time.sleep(0.05))
    server = FaultServer([close], [read, OK])

    async def case() -> None:
        async with client(server.url, None) as thor:
            assert await error_of(thor, command) is None

    with in_thread(server):
        asyncio.run(case())
    assert (server.connections, len(server.requests)) == (2, 1)


def test_a_server_that_ends_each_new_connection_is_asked_twice_at_most(
    command: StopCharge, after_connecting: Callable[[Callable[[], object]], None]
) -> None:
    after_connecting(lambda: time.sleep(0.05))
    server = FaultServer([close])

    async def case() -> None:
        async with client(server.url, None) as thor:
            assert type(await error_of(thor, command)) is ConnectionLost

    with in_thread(server):
        asyncio.run(case())
    assert server.connections == 2


def test_a_handshakes_tickets_are_no_answer(
    command: StopCharge, after_connecting: Callable[[Callable[[], object]], None]
) -> None:
    tls = tls_contexts()
    after_connecting(lambda: time.sleep(0.05))
    server = FaultServer([read, OK], tls=tls[1])

    async def case() -> None:
        async with client(server.url, tls) as thor:
            assert await error_of(thor, command) is None

    with in_thread(server):
        asyncio.run(case())
    assert (server.connections, len(server.requests)) == (1, 1)


async def test_half_a_record_before_the_first_request_is_no_answer(
    command: StopCharge, after_connecting: Callable[[Callable[[], object]], None]
) -> None:
    tls = tls_contexts()
    may_speak = asyncio.Event()

    async def wait(line: Line) -> None:
        await may_speak.wait()

    server = FaultServer([wait, OK, read], tls=tls[1])
    async with server, SplittingRelay(server.port) as relay:

        async def split() -> None:
            await asyncio.sleep(0.05)  # the tickets pass
            relay.is_splitting = True
            may_speak.set()
            await relay.has_split.wait()

        after_connecting(split)
        async with client(f"https://127.0.0.1:{relay.port}", tls) as thor:
            error = await error_of(thor, command)
    assert isinstance(error, NotSentError)
    assert server.requests == []


# Behind an answer

LEFTOVERS = [
    b"HTTP/1.1 500 Oops\r\nX-A: ",
    b"HTTP/1.1 2",
    b"HTTP/1.1 100 Continue\r\n",
    b"\r\n",
    b"H",
    OK[:-1],
    OK,
]


@pytest.mark.parametrize("leftover", LEFTOVERS)
@pytest.mark.parametrize("first", [OK, CHUNKED, NOT_FOUND])
async def test_the_rest_of_what_began_behind_an_answer_is_no_answer(
    command: StopCharge, leftover: bytes, first: bytes, tls: Tls
) -> None:
    """aiohttp's parser drops the beginning, and would take the rest for the next answer."""
    server = FaultServer(
        [read, first + leftover, read, OK], [read, NOT_FOUND], tls=tls[1] if tls else None
    )
    async with server, client(server.url, tls) as thor:
        error = await error_of(thor, command)
        assert error is None or type(error) is ChargeboxNotFound
        assert type(await error_of(thor, command)) is ChargeboxNotFound
    assert server.connections == 2


@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize("answer", [OK, CHUNKED, NOT_FOUND])
async def test_an_answer_in_any_packets_leaves_its_connection_for_the_next(
    command: StopCharge, answer: bytes, size: int, tls: Tls
) -> None:
    packets = [answer[at : at + size] for at in range(0, len(answer), size)]
    server = FaultServer([read, *packets], tls=tls[1] if tls else None)
    async with server, client(server.url, tls) as thor:
        for _ in range(3):
            error = await error_of(thor, command)
            assert error is None or isinstance(error, RejectedError)
    assert server.connections == 1


# On an idle connection


async def test_half_a_record_on_an_idle_connection_is_no_answer(command: StopCharge) -> None:
    tls = tls_contexts()
    answered = asyncio.Event()

    async def wait(line: Line) -> None:
        await answered.wait()

    server = FaultServer([read, OK, wait, OK, read], [read, NOT_FOUND], tls=tls[1])
    async with (
        server,
        SplittingRelay(server.port) as relay,
        client(f"https://127.0.0.1:{relay.port}", tls) as thor,
    ):
        assert await error_of(thor, command) is None
        relay.is_splitting = True
        answered.set()
        await relay.has_split.wait()
        assert type(await error_of(thor, command)) is ChargeboxNotFound
    assert server.connections == 2


def test_bytes_that_come_after_the_loop_has_read_are_seen_in_the_kernel(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch, tls: Tls
) -> None:
    answered, has_spoken = threading.Event(), Signal()

    async def wait(line: Line) -> None:
        while not answered.is_set():
            await asyncio.sleep(0.001)

    server = FaultServer(
        [read, OK, wait, OK, has_spoken, read], [read, NOT_FOUND], tls=tls[1] if tls else None
    )

    async def read_too_early() -> None:
        await let_loop_read()
        answered.set()
        has_spoken.wait()

    async def case() -> None:
        async with client(server.url, tls) as thor:
            assert await error_of(thor, command) is None
            if tls is None:  # then the loop is not given the time to read
                answered.set()
                has_spoken.wait()
            monkeypatch.setattr(connections, "let_loop_read", read_too_early)
            assert type(await error_of(thor, command)) is ChargeboxNotFound

    with in_thread(server):
        asyncio.run(case())
    assert server.connections == 2
