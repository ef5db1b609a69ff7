"""A client's own connections: a request goes out whole, and only a clean one is used again."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
import trustme

from thor_async import (
    ChargeboxNotFound,
    NotSentError,
    RejectedError,
    StopCharge,
    ThorClient,
    UnexpectedResponse,
)

from ..conftest import KEY
from ..fault_server import FaultServer, Line, Script, read

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\nChargeboxNotFound"


async def first_bytes(line: Line) -> None:
    """Reads the begin of a request only; the reader's buffer stops the rest."""
    await line.reader.read(1)


def client(server: FaultServer) -> ThorClient:
    return ThorClient(KEY, base_url=server.url, attempt_timeout=1.0)


async def test_a_request_starts_no_task(command: StopCharge) -> None:
    async with FaultServer([read, OK]) as server, client(server) as thor:
        await thor.stop_charge(command)  # opens the connection
        started: list[Coroutine[Any, Any, Any]] = []

        def note(
            loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **more: Any
        ) -> asyncio.Task[Any]:
            started.append(work)
            return asyncio.Task(work, loop=loop, **more)

        asyncio.get_running_loop().set_task_factory(note)  # type: ignore[arg-type]
        try:
            await thor.stop_charge(command)
        finally:
            asyncio.get_running_loop().set_task_factory(None)
    assert started == []
    assert server.connections == 1
    assert server.requests[0].body == server.requests[1].body != b""


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
async def test_a_body_of_any_size_arrives_whole(size: int) -> None:
    async with FaultServer([read, OK]) as server, client(server) as thor:
        await thor.stop_many([StopCharge("box", 1, str(n) * size) for n in range(4)])
    bodies = sorted(request.body for request in server.requests)
    assert bodies == [
        b'{"chargebox":"box","connector":1,"id_tag":"%b"}' % (b"%d" % n * size) for n in range(4)
    ]
    lengths = {int(request.headers["content-length"]) for request in server.requests}
    assert lengths == {len(bodies[0])}


@pytest.mark.parametrize(
    ("begin", "end"),
    [(OK[:-1], b"}"), (CHUNKED, b"0\r\n\r\n"), (CHUNKED + b"0\r\n", b"A: b\r\n\r\n")],
)
async def test_what_comes_right_behind_the_end_of_an_answer_answers_nothing(
    command: StopCharge, begin: bytes, end: bytes
) -> None:
    """aiohttp releases the connection at that end, before it looks at the rest of the bytes."""
    spoken_on: Script = [read, begin, 0.05, end + OK, 1.0]
    async with FaultServer(spoken_on, [read, NOT_FOUND]) as server, client(server) as thor:
        await thor.stop_charge(command)
        with pytest.raises(ChargeboxNotFound):
            await thor.stop_charge(command)
    assert server.connections == 2


@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_an_answer_over_the_limit_is_left_also_in_the_midst_of_tls(
    command: StopCharge, size: int
) -> None:
    """TLS reads on while it is closed, and hands over what it has."""
    authority = trustme.CA()
    own, theirs = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(own)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    large = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with (
        FaultServer([read, large], [read, OK], tls=theirs) as server,
        ThorClient(KEY, base_url=server.url, ssl=own) as thor,
    ):
        with pytest.raises(RejectedError):
            await thor.stop_charge(command)
        await thor.stop_charge(command)


async def test_a_connection_that_would_become_another_is_closed(command: StopCharge) -> None:
    """Not by the collector, which complains of it in the loop's debug mode."""
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    asyncio.get_running_loop().set_debug(True)
    async with FaultServer([read, upgrade]) as server, client(server) as thor:
        with pytest.raises(UnexpectedResponse):
            await thor.stop_charge(command)
        await server.emptied()


async def test_a_connection_with_something_left_to_send_is_not_used_again(
    command: StopCharge,
) -> None:
    large = StopCharge("box", 1, "t" * 24_000_000)  # more than the kernel takes
    async with FaultServer([first_bytes, OK, 1.0], [read, OK]) as server, client(server) as thor:
        await thor.stop_charge(large)
        await thor.stop_charge(command)
    assert server.connections == 2
    assert len(server.requests) == 1


async def test_a_new_connection_that_cannot_be_used_is_given_up_at_once(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a server that ends or speaks at once would be connected to without a pause."""
    connect = aiohttp.TCPConnector.connect

    async def spoilt(*args: Any) -> Any:
        connection = await connect(*args)
        assert connection.protocol is not None
        connection.protocol.force_close()
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", spoilt)
    async with FaultServer([read, OK]) as server, client(server) as thor:
        with pytest.raises(NotSentError) as caught:
            await thor.stop_charge(command)
        await server.emptied()
    assert caught.value.reason == "connect"
    assert server.connections == 1


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Every session is traced, as OpenTelemetry does it, by a hook that waits for this."""
    may_go_on = asyncio.Event()
    init = aiohttp.ClientSession.__init__

    async def hook(*_: Any) -> None:
        await may_go_on.wait()

    def traced_init(self: aiohttp.ClientSession, *args: Any, **more: Any) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(hook)
        init(self, *args, trace_configs=[trace], **more)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", traced_init)
    return may_go_on


async def test_a_hook_that_waits_changes_nothing(
    command: StopCharge, traced: asyncio.Event
) -> None:
    async with FaultServer([read, OK]) as server, client(server) as thor:
        asyncio.get_running_loop().call_later(0.05, traced.set)
        await thor.stop_charge(command)
        await thor.stop_charge(command)
    assert server.connections == 1
    assert server.requests[0].body == server.requests[1].body != b""


@pytest.mark.parametrize("ending", ["cancel", "close", "server"])
async def test_what_ends_while_a_hook_waits_leaves_nothing_behind(
    command: StopCharge, traced: asyncio.Event, ending: str
) -> None:
    end: list[Callable[[Line], Any]] = []

    async def leave(line: Line) -> None:
        await asyncio.sleep(0.05)
        line.writer.transport.abort()

    if ending == "server":
        end.append(leave)
    async with FaultServer([*end, read, OK]) as server, client(server) as thor:
        stop = asyncio.create_task(thor.stop_charge(command))
        await asyncio.sleep(0.1)
        if ending == "cancel":
            stop.cancel()
        elif ending == "close":
            with suppress(TimeoutError):
                await asyncio.wait_for(thor.aclose(), 0.05)
        else:
            traced.set()
        await asyncio.wait([stop], timeout=5)
        assert stop.cancelled() if ending == "cancel" else stop.exception() is not None
        async with asyncio.timeout(5):
            await server.emptied()
    assert server.requests == []
