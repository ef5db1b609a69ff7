"""A client's own connections: a request is written whole, and only a clean one is used again."""

from __future__ import annotations

import asyncio
import re
import ssl
import tomllib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import trustme
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from thor_async import (
    ChargeboxNotFound,
    ConnectionLost,
    NotSentError,
    RejectedError,
    StopCharge,
    ThorClient,
    UnexpectedResponse,
    Verdict,
)
from thor_async._transport.connections import (
    BodyAppendingTransport,
    GuardedConnector,
    SingleWriteRequest,
    session_parts,
)
from thor_async._transport.guard import Guard
from thor_async.emulator import ThorEmulator

from ..conftest import KEY
from ..fault_server import FaultServer, Line, Script, close, fin, read

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\nChargeboxNotFound"


async def read_first_byte(line: Line) -> None:
    """Reads one byte of a request; the rest stays in the buffers."""
    await line.reader.read(1)


def client(server: FaultServer, **settings: Any) -> ThorClient:
    return ThorClient(KEY, base_url=server.url, attempt_timeout=5.0, **settings)


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Returns the context of a client, and that of a server that it trusts."""
    authority = trustme.CA()
    trusting, certified = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(trusting)
    authority.issue_cert("127.0.0.1").configure_cert(certified)
    return trusting, certified


def record_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[Any]:
    """Records the arguments of each call of a method, without `self`."""
    original, calls = getattr(owner, name), []

    def recorded(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(args)
        return original(self, *args, **options)

    monkeypatch.setattr(owner, name, recorded)
    return calls


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (GuardedConnector, "connect"),
        (SingleWriteRequest, "update_headers"),
        (SingleWriteRequest, "update_auto_headers"),
        (SingleWriteRequest, "update_body_from_data"),
        (SingleWriteRequest, "send"),
        (BodyAppendingTransport, "write"),
        (Guard, "get_buffer"),
        (Guard, "buffer_updated"),
        (Guard, "expect_nothing"),
    ],
)
async def test_aiohttp_calls_once_what_is_overridden(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    calls = record_calls(monkeypatch, owner, name)
    async with FaultServer([read, OK]) as server, client(server) as thor:
        for number in (1, 2):
            await thor.stop_charge(command)
            assert len(calls) == number


async def test_aiohttp_writes_a_whole_head_at_once_and_nothing_else(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = record_calls(monkeypatch, BodyAppendingTransport, "write")
    async with FaultServer([read, OK]) as server, client(server) as thor:
        await thor.stop_charge(command)
    [(head,)] = writes
    assert head.startswith(b"POST /charges/stop HTTP/1.1\r\nHost: 127.0.0.1:")
    lines = head.rstrip().split(b"\r\n")[1:]
    assert sorted(line.partition(b":")[0].lower() for line in lines) == [
        b"accept",
        b"accept-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"user-agent",
        b"x-api-key",
    ]
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1
    assert b"\r\nContent-Length: %d\r\n" % len(server.requests[0].body) in head


async def test_a_request_starts_no_task(command: StopCharge) -> None:
    async with FaultServer([read, OK]) as server, client(server) as thor:
        await thor.stop_charge(command)  # opens the connection
        started: list[Coroutine[Any, Any, Any]] = []

        def start(
            loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
        ) -> asyncio.Task[Any]:
            started.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **options)

        asyncio.get_running_loop().set_task_factory(start)  # type: ignore[arg-type]
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
    ("beginning", "end"),
    [(OK[:-1], b"}"), (CHUNKED, b"0\r\n\r\n"), (CHUNKED + b"0\r\n", b"A: b\r\n\r\n")],
)
async def test_bytes_in_the_packet_of_an_answers_end_answer_no_later_request(
    command: StopCharge, beginning: bytes, end: bytes
) -> None:
    """aiohttp releases the connection at that end, before it looks at the rest of the packet."""
    two_answers: Script = [read, beginning, 0.05, end + OK, 1.0]
    async with FaultServer(two_answers, [read, NOT_FOUND]) as server, client(server) as thor:
        await thor.stop_charge(command)
        with pytest.raises(ChargeboxNotFound):
            await thor.stop_charge(command)
    assert server.connections == 2


@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_an_answer_over_the_limit_is_left_unread_over_tls(
    command: StopCharge, size: int
) -> None:
    """TLS reads on while it closes, and passes on what it has."""
    trusting, certified = tls_contexts()
    large = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with (
        FaultServer([read, large], [read, OK], tls=certified) as server,
        ThorClient(KEY, base_url=server.url, ssl=trusting) as thor,
    ):
        with pytest.raises(RejectedError):
            await thor.stop_charge(command)
        await thor.stop_charge(command)


async def test_a_client_is_closed_beside_a_connection_that_was_closed_twice(
    command: StopCharge,
) -> None:
    trusting, certified = tls_contexts()
    async with FaultServer([read, OK], [read, OK], tls=certified) as server:
        async with ThorClient(KEY, base_url=server.url, ssl=trusting) as thor:
            await asyncio.gather(thor.stop_charge(command), thor.stop_charge(command))
            transport = thor._check_open()._transport
            connector = transport.session.connector
            assert isinstance(connector, GuardedConnector)
            guards = list(connector._guards)
            assert len(guards) == 2
            guards[0]._transport.close()
            guards[0]._transport.close()
        assert all(guard._transport.is_closing() for guard in guards)


async def test_a_connection_that_was_upgraded_is_closed(command: StopCharge) -> None:
    """Not by the garbage collector, which reports it in the loop's debug mode."""
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    asyncio.get_running_loop().set_debug(True)
    async with FaultServer([read, upgrade]) as server, client(server) as thor:
        with pytest.raises(UnexpectedResponse):
            await thor.stop_charge(command)
        await server.emptied()


async def test_a_connection_with_unsent_bytes_is_not_used_again(
    command: StopCharge,
) -> None:
    large = StopCharge("box", 1, "t" * 24_000_000)  # more than the kernel takes
    async with (
        FaultServer([read_first_byte, OK, 1.0], [read, OK]) as server,
        client(server) as thor,
    ):
        await thor.stop_charge(large)
        await thor.stop_charge(command)
    assert server.connections == 2
    assert len(server.requests) == 1


async def test_a_new_connection_that_cannot_be_used_ends_the_attempt(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would connect again and again to a server that closes or speaks at once."""
    connect = aiohttp.TCPConnector.connect

    async def connect_and_spoil(*args: Any) -> Any:
        connection = await connect(*args)
        assert connection.protocol is not None
        connection.protocol.force_close()
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_spoil)
    async with FaultServer([read, OK]) as server, client(server) as thor:
        with pytest.raises(NotSentError) as caught:
            await thor.stop_charge(command)
        await server.emptied()
    assert caught.value.reason == "connect"
    assert server.connections == 1


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Traces every session, as OpenTelemetry does, by a hook that waits for this event."""
    event = asyncio.Event()
    init = aiohttp.ClientSession.__init__

    async def hook(*_: Any) -> None:
        await event.wait()

    def traced_init(self: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(hook)
        init(self, *args, trace_configs=[trace], **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", traced_init)
    return event


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
async def test_a_request_that_ends_while_a_hook_waits_leaves_nothing_behind(
    command: StopCharge, traced: asyncio.Event, ending: str
) -> None:
    first: list[Callable[[Line], Any]] = []

    async def abort(line: Line) -> None:
        await asyncio.sleep(0.05)
        line.writer.transport.abort()

    if ending == "server":
        first.append(abort)
    async with FaultServer([*first, read, OK]) as server, client(server) as thor:
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


class FakeTransport:
    """Records what is written; in `log`, what a guard does with it."""

    tls: object = None

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.log: list[object] = []
        self.unsent = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_protocol(self, protocol: object) -> None: ...

    def abort(self) -> None:
        self.log.append("abort")

    def get_extra_info(self, name: str) -> Any:
        class NoSocket:
            def fileno(self) -> int:
                return -1

        return NoSocket() if name == "socket" else self.tls


def appending(body: bytes) -> tuple[FakeTransport, BodyAppendingTransport]:
    transport = FakeTransport()
    return transport, BodyAppendingTransport(cast("asyncio.Transport", transport), body)


@pytest.mark.parametrize("head", [b"head", bytearray(b"head"), memoryview(b"head")])
def test_the_body_follows_the_first_write_only(head: bytes) -> None:
    transport, writing = appending(b"body")
    assert not writing.is_body_written
    writing.write(head)
    assert writing.is_body_written
    writing.write(b"more")
    writing.writelines([b"and ", b"more"])
    assert transport.written == [b"headbody", b"more", b"and more"]


def test_the_body_follows_the_first_writelines_only() -> None:
    transport, writing = appending(b"body")
    writing.writelines(iter([b"he", b"ad"]))
    assert writing.is_body_written
    writing.writelines([b"more"])
    writing.write(b"more")
    assert transport.written == [b"headbody", b"more", b"more"]


def test_all_else_of_a_transport_is_passed_on() -> None:
    transport, writing = appending(b"body")
    transport.unsent = 7
    assert cast("Any", writing).get_write_buffer_size() == 7
    assert not writing.is_closing()
    assert transport.written == []


async def test_a_head_that_aiohttp_would_write_later_is_never_sent_alone(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp leaves the head to a task while writing is paused."""
    write_bytes = aiohttp.ClientRequest.write_bytes

    async def write_later(*args: Any) -> None:
        await asyncio.sleep(0)
        await write_bytes(*args)

    monkeypatch.setattr(ResponseHandler, "writing_paused", True)
    monkeypatch.setattr(aiohttp.ClientRequest, "write_bytes", write_later)
    async with FaultServer([read, OK]) as server, client(server) as thor:
        with pytest.raises(ConnectionLost) as caught:
            await thor.stop_charge(command)
        await server.emptied()
    assert caught.value.maybe_applied
    assert server.requests == []


async def test_a_head_that_was_written_elsewhere_leaves_no_complete_request(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = aiohttp.ClientRequest.send

    async def send_past(self: aiohttp.ClientRequest, conn: Connection) -> Any:
        assert conn.protocol is not None
        conn.protocol.transport = cast("Any", conn.protocol.transport)._transport
        return await send(self, conn)

    monkeypatch.setattr(aiohttp.ClientRequest, "send", send_past)
    async with FaultServer([read, OK]) as server, client(server) as thor:
        with pytest.raises(ConnectionLost) as caught:
            await thor.stop_charge(command)
        await server.emptied()
    assert caught.value.maybe_applied
    assert server.requests == []


async def test_a_guard_tells_aiohttp_when_writing_is_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = record_calls(monkeypatch, ResponseHandler, "pause_writing")
    resumes = record_calls(monkeypatch, ResponseHandler, "resume_writing")
    large = StopCharge("box", 1, "t" * 24_000_000)  # more than the kernel takes
    async with FaultServer([read, OK]) as server, client(server) as thor:
        for number in (1, 2):
            await thor.stop_charge(large)
            assert len(pauses) == len(resumes) == number
    assert server.connections == 1


async def test_a_guard_tells_aiohttp_of_an_end(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = record_calls(monkeypatch, ResponseHandler, "eof_received")
    async with FaultServer([read, b"HTTP/1.1 200 OK\r\n\r\n{}", 0.02, fin]) as server:
        async with client(server) as thor:
            await thor.stop_charge(command)
        assert len(ends) == 1


UNTESTED = ["3.13.5", "3.14.3", "3.14.0", "3.14.4rc1", "3.14.5.dev0", "3.15.0", "4.0.0a2.dev0", ""]


@pytest.mark.parametrize("version", ["3.14.4", "3.14.5", "3.14.10"])
async def test_a_tested_aiohttp_is_used_with_the_guard(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp, "__version__", version)
    connector, request_class = session_parts(None)
    assert type(connector) is GuardedConnector
    assert request_class is SingleWriteRequest
    assert not connector.force_close
    await connector.close()


@pytest.mark.parametrize("version", UNTESTED)
async def test_any_other_aiohttp_is_used_as_it_is_and_no_connection_twice(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp, "__version__", version)
    connector, request_class = session_parts(None)
    assert type(connector) is aiohttp.TCPConnector
    assert request_class is aiohttp.ClientRequest
    assert connector.force_close
    assert connector.limit == 0
    await connector.close()


def test_this_run_has_a_tested_aiohttp() -> None:
    """Otherwise the tests of this file would not test the guard."""
    assert re.fullmatch(r"3\.14\.\d+", aiohttp.__version__)


def test_the_lowest_tested_aiohttp_is_the_lowest_allowed() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "aiohttp>=3.14.4,<4" in pyproject["project"]["dependencies"]


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    return tls_contexts() if request.param else None


async def test_an_untested_aiohttp_takes_no_unsolicited_answer(
    command: StopCharge,
    monkeypatch: pytest.MonkeyPatch,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None,
) -> None:
    monkeypatch.setattr(aiohttp, "__version__", UNTESTED[-2])
    trusting, certified = tls or (None, None)
    two_answers: Script = [read, OK, 0.01, OK, close]
    async with (
        FaultServer(two_answers, [read, NOT_FOUND, close], tls=certified) as server,
        client(server, ssl=trusting) as thor,
    ):
        await thor.stop_charge(command)
        with pytest.raises(ChargeboxNotFound):
            await thor.stop_charge(command)
    assert server.connections == 2
    assert {request.headers["connection"] for request in server.requests} == {"close"}
    assert server.requests[0].body == server.requests[1].body != b""


async def test_an_untested_aiohttp_serves_a_batch(
    emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp, "__version__", UNTESTED[-2])
    commands = [StopCharge(f"box-{n}", 1, "tag-1234", n) for n in range(1, 51)]
    emulator.fill(commands)
    async with ThorClient(KEY, base_url=emulator.base_url) as thor:
        assert len(await thor.running_charges()) == 50
        outcomes = await thor.stop_many(commands)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RELAYED}
