"""aiohttp's connections and requests as a client's own session has them: sound, and cheap."""

from __future__ import annotations

import asyncio
import select
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace

# The second defence against an answer that nobody asked for; the first is the guard.
_REUSE_WITHIN = 1.0
_READ_AT_ONCE = 16_384


class NoConnectionError(aiohttp.ClientConnectionError):
    """Whatever went wrong before there was a connection, as when a proxy fails its CONNECT."""


class GuardedConnector(aiohttp.TCPConnector):
    """Hands out no connection on which anything has arrived since the last answer was complete.

    aiohttp takes an unsolicited answer on an idle connection for the next request's (its issue
    13656; seen with 3.14.5): a false `relayed`, or a hang.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(limit=0, keepalive_timeout=_REUSE_WITHIN, **settings)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            try:
                connection = await super().connect(req, traces, timeout)
            except (aiohttp.ClientConnectorError, aiohttp.ServerFingerprintMismatch, TimeoutError):
                raise
            except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
                failure = error
                break
            transport, handler = connection.transport, connection.protocol
            guard = transport and transport.get_protocol()
            if not isinstance(guard, _Guard):
                if transport is None or handler is None or handler.should_close:
                    connection.close()
                    raise NoConnectionError("ended, or spoken on, before it was used")
                connection.add_callback(_Guard(transport, handler).shut)
                return connection
            if guard.is_blind:
                try:
                    await _let_loop_read()
                except BaseException:
                    connection.close()
                    raise
            if guard.open():
                connection.add_callback(guard.shut)
                return connection
            connection.close()
        raise NoConnectionError(type(failure).__name__)


class _Guard(asyncio.BufferedProtocol):
    """Between one connection and aiohttp: whatever arrives between two requests ends it.

    Buffered, because asyncio makes and returns 256 KiB for each read otherwise, which takes a tenth
    of a request's time.
    """

    __slots__ = ("_buffer", "_handler", "_is_shut", "_transport", "_unread")

    def __init__(self, transport: asyncio.Transport, handler: ResponseHandler) -> None:
        self._transport = transport
        self._handler = handler
        self._buffer = memoryview(bytearray(_READ_AT_ONCE))
        self._unread = _watch_unread(transport)
        self._is_shut = False
        transport.set_protocol(self)

    @property
    def is_blind(self) -> bool:
        """Whether the kernel cannot be asked for what a busy loop has not read yet."""
        return self._unread is None

    def open(self) -> bool:
        """Lets an answer through again, unless something has arrived, or is still to be sent."""
        if (
            self._transport.is_closing()
            # An answer's end releases it before aiohttp has looked at what came right behind.
            or self._handler.should_close
            or self._transport.get_write_buffer_size()
            or (self._unread is not None and self._unread.poll(0))
        ):
            return False
        self._is_shut = False
        return True

    def shut(self) -> None:
        """Lets nothing through: aiohttp is about to release the connection."""
        self._is_shut = True

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_shut:
            self._handler.force_close()
            # Not from here: TLS reads on while it is closed, and fails if aborted meanwhile.
            asyncio.get_running_loop().call_soon(self._transport.abort)
        else:
            self._handler.data_received(bytes(self._buffer[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.connection_lost(exc)


def _watch_unread(transport: asyncio.Transport) -> select.poll | None:
    """Tells of bytes, or an end, in the kernel; None where nobody can, as on Windows, or by TLS."""
    number = transport.get_extra_info("socket").fileno()
    is_plain = transport.get_extra_info("ssl_object") is None
    if not hasattr(select, "poll") or not is_plain or type(number) is not int or number < 0:
        return None
    unread = select.poll()
    unread.register(number, select.POLLIN)
    return unread


async def _let_loop_read() -> None:
    """In two rounds the loop has read what is there, also through TLS."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class SingleWriteRequest(aiohttp.ClientRequest):
    """Writes head and body at once, in the task that asks.

    On Python 3.11 aiohttp starts a task for each body, which takes a sixth of a request's time (its
    pull request 8510 ends that for later Pythons only).
    """

    _whole = b""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        if body is not None:
            self._whole = body
            self.headers["Content-Length"] = str(len(body))

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        handler = conn.protocol
        if handler is None or (transport := handler.transport) is None:
            return await super().send(conn)
        adding: Any = BodyAppendingTransport(transport, self._whole)
        handler.transport = adding
        try:
            return await super().send(conn)
        finally:
            handler.transport = transport


class BodyAppendingTransport:
    """A transport, but that the body follows what is written, which is the head."""

    __slots__ = ("_body", "_transport")

    def __init__(self, transport: asyncio.Transport, body: bytes) -> None:
        self._transport = transport
        self._body = body

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def write(self, head: bytes) -> None:
        self._transport.write(head + self._body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
