"""Answers with foreign bytes before, inside and behind them: no command gets another's answer.

Hypothesis chooses the bytes and their borders: those of packets, of chunks and of TLS records. A
failing case is shrunk and printed. `HYPOTHESIS_PROFILE=soak` runs many more, by chance.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple
from unittest import mock

import aiohttp
import pytest
import uvloop
from aiohttp.connector import Connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thor_async import (
    NotSentError,
    RejectedError,
    RetryPolicy,
    ServerError,
    StopCharge,
    ThorClient,
    ThorError,
)

from ..conftest import KEY, TAG
from ..transport.test_connections import tls_contexts

IS_SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
PATIENCE = 0.02
"""Seconds after which the server ends a connection whose client still waits for an answer."""


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def chunked(status: int, body: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (body[:1], body[1:]))
    return b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (status, chunks)


ANSWERS = [
    make(status, body)
    for make in (answer, chunked)
    for status, body in [
        (200, b"{}"),
        (404, b'{"message": "ChargeboxNotFound"}'),
        (500, b'{"message": "InternalServerError"}'),
    ]
]
FOREIGN = st.sampled_from(
    [
        *ANSWERS,
        answer(400, b'{"message": "WrongTransaction"}'),
        answer(408, b""),
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 2",
        b"\r\n",
        b"0\r\n\r\n",
        b"H",
    ]
) | st.binary(min_size=1, max_size=8)


class Turn(NamedTuple):
    """What the server does to one request: an answer in pieces, and what comes behind it.

    Each piece is a TLS record of its own. Of the last record `held` bytes are kept back, but never
    all that is foreign. Bytes leave in packets of at most `packet` bytes.
    """

    pieces: list[bytes]
    is_cut: bool
    behind: bytes
    is_behind_apart: bool
    held: int
    packet: int


@st.composite
def turns(draw: Callable[[Any], Any]) -> Turn:
    whole: bytes = draw(st.sampled_from(ANSWERS))
    at = draw(st.integers(0, len(whole)))
    to = draw(st.integers(at, len(whole)))
    change = draw(st.sampled_from(["none", "none", "cut", "doubled", "left out", "inserted"]))
    changed = {
        "none": whole,
        "cut": whole[:at],
        "doubled": whole[:to] + whole[at:],
        "left out": whole[:at] + whole[to:],
        "inserted": whole[:at] + (draw(FOREIGN) if change == "inserted" else b"") + whole[at:],
    }[change]
    border = draw(st.integers(0, len(changed)))
    pieces = [piece for piece in (changed[:border], changed[border:]) if piece]
    behind = draw(st.just(b"") | FOREIGN)
    return Turn(
        pieces,
        is_cut=change == "cut" and at < len(whole) and not behind,
        behind=behind,
        is_behind_apart=draw(st.booleans()),
        held=draw(st.integers(0, 30)),
        packet=draw(st.sampled_from([1, 7, 100_000])),
    )


class Peer:
    """The server's side of one connection; it decides on each byte, also those of TLS."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext | None,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        while self._tls is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send(self._outgoing.read())
                self._incoming.write(await self._receive())
            else:
                await self.send(self._outgoing.read())
                return

    def seal(self, data: bytes) -> bytes:
        """Returns the bytes for the wire: with TLS one record."""
        if self._tls is None or not data:
            return data
        self._tls.write(data)
        return self._outgoing.read()

    async def send(self, data: bytes, packet: int = 100_000) -> None:
        for at in range(0, len(data), packet):
            if self._writer.is_closing():
                raise ConnectionResetError
            self._writer.write(data[at : at + packet])
            await self._writer.drain()
            # uvloop hands it to the kernel only at the end of the round.
            await asyncio.sleep(0)

    async def read_request(self) -> int:
        """Returns the transaction of the next request."""
        data = b""
        while not (found := re.search(rb'\r\n\r\n.*"transaction":(\d+)}', data)):
            data += await self._read()
        return int(found[1])

    async def _read(self) -> bytes:
        while True:
            if self._tls is None:
                return await self._receive()
            try:
                if not (data := self._tls.read(65_536)):
                    raise EOFError
            except ssl.SSLWantReadError:
                self._incoming.write(await self._receive())
            else:
                return data

    async def _receive(self) -> bytes:
        if not (data := await self._reader.read(65_536)):
            raise EOFError
        return data


class FuzzServer:
    """Follows one turn for each request, and says `greetings` on new connections, in order.

    `sent` holds what was sent on the connection of each transaction's request, from that request
    on. `violations` are the requests that came on a connection after foreign bytes.
    """

    def __init__(
        self, plan: list[Turn], greetings: list[bytes], context: ssl.SSLContext | None
    ) -> None:
        self._plan, self._greetings, self._context = iter(plan), iter(greetings), context
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready: set[int] = set()
        self.sent: dict[int, bytes] = {}
        self.violations: list[int] = []
        self.is_quiet = asyncio.Event()
        self.is_answered = asyncio.Event()
        self.is_quiet.set()

    async def __aenter__(self) -> FuzzServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        assert [end for end in ends if isinstance(end, Exception)] == []

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, self._context)
        port = writer.get_extra_info("peername")[1]
        try:
            await peer.shake_hands()
            greeting = next(self._greetings, b"")
            await peer.send(peer.seal(greeting))
            self.ready.add(port)
            is_foreign = bool(greeting)
            while True:
                number = await peer.read_request()
                if is_foreign:
                    self.violations.append(number)
                is_foreign = await self._answer(peer, number, next(self._plan))
        except (EOFError, ssl.SSLError, ConnectionError):
            pass
        finally:
            self.ready.add(port)
            self.is_quiet.set()
            writer.transport.abort()

    async def _answer(self, peer: Peer, number: int, turn: Turn) -> bool:
        """Answers one request; returns whether foreign bytes have left."""
        self.is_quiet.clear()
        pieces = turn.pieces if turn.is_behind_apart else [*turn.pieces[:-1], _last(turn)]
        self.sent[number] = b"".join(turn.pieces) + turn.behind
        await peer.send(b"".join(map(peer.seal, pieces)), turn.packet)
        if turn.is_behind_apart and turn.behind:
            await self._wait_until_answered()
            raw = peer.seal(turn.behind)
            await peer.send(raw[: max(1, len(raw) - turn.held)], turn.packet)
        self.is_quiet.set()
        if not await self._wait_until_answered():
            raise EOFError
        return bool(turn.behind)

    async def _wait_until_answered(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                await self.is_answered.wait()
        except TimeoutError:
            return False
        return True


def _last(turn: Turn) -> bytes:
    return b"".join(turn.pieces[-1:]) + turn.behind


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return tls_contexts()


async def stop_all(
    server: FuzzServer, count: int, *, is_secure: bool
) -> dict[int, ThorError | None]:
    """Sends one stop after the other, each when what the server sends has arrived."""
    connect = aiohttp.TCPConnector.connect

    async def connect_and_wait(*args: Any) -> Connection:
        connection = await connect(*args)
        transport = connection.transport
        # A closed one knows nothing any more.
        is_open = transport is not None and not transport.is_closing()
        sock = transport.get_extra_info("sockname") if transport and is_open else None
        while sock and sock[1] not in server.ready:
            await asyncio.sleep(0.001)
        return connection

    ends: dict[int, ThorError | None] = {}
    scheme = "https" if is_secure else "http"
    thor = ThorClient(
        KEY,
        base_url=f"{scheme}://127.0.0.1:{server.port}",
        ssl=contexts()[0] if is_secure else None,
        retry=RetryPolicy(max_attempts=1),
        # aiohttp's parser in C is silent about a bad chunk: the attempt takes all its time.
        attempt_timeout=0.2,
    )
    with mock.patch.object(aiohttp.TCPConnector, "connect", connect_and_wait):
        async with thor:
            for number in range(1, count + 1):
                server.is_answered.clear()
                ends[number] = None
                try:
                    await thor.stop_charge(StopCharge("box", 1, TAG, number))
                except ThorError as error:
                    ends[number] = error
                server.is_answered.set()
                await server.is_quiet.wait()
    return ends


_INTERIM = rb"HTTP/1\.1 1\d\d[^\n]*\n(?:[^\n]+\n)*?\r?\n"
_FIRST_STATUS = re.compile(rb"[\r\n]*(?:%b)*HTTP/1\.1 (\d{3})" % _INTERIM)


def check(number: int, error: ThorError | None, turn: Turn | None, sent: bytes | None) -> None:
    """Checks an outcome against the bytes that answered its own request."""
    if isinstance(error, NotSentError):
        assert sent is None
        return
    found = _FIRST_STATUS.match(sent or b"")
    status = int(found[1]) if found else None
    if error is None:
        assert status == 200
        assert turn is not None
        assert not turn.is_cut
    elif isinstance(error, RejectedError | ServerError):
        assert error.status == status
        assert error.code is None or error.code.encode() in (sent or b"")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
@given(
    plan=st.lists(turns(), min_size=4, max_size=4),
    greetings=st.lists(st.just(b"") | st.just(b"") | FOREIGN, max_size=4),
)
@settings(
    max_examples=5000 if IS_SOAK else 50,
    derandomize=not IS_SOAK,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_no_command_gets_the_answer_of_another(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    is_secure: bool,
    plan: list[Turn],
    greetings: list[bytes],
) -> None:
    async def case() -> None:
        server = FuzzServer(plan, greetings, contexts()[1] if is_secure else None)
        async with server:
            ends = await stop_all(server, len(plan), is_secure=is_secure)
        assert server.violations == []
        turn_of = dict(zip(server.sent, plan, strict=False))
        for number, error in ends.items():
            check(number, error, turn_of.get(number), server.sent.get(number))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(case())
