"""The connections and the requests of a client's own session.

They override parts of aiohttp, so they are used only with versions that the tests have run on.
"""

from __future__ import annotations

import asyncio
import re
import select
import ssl
from collections.abc import Iterable
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError
from aiohttp.tracing import Trace

# 3.14 from 3.14.4 on. CI runs the tests with the lowest and with the newest version.
_TESTED_VERSIONS = re.compile(r"3\.14\.([4-9]|[1-9]\d+)")

# Seconds. The second defence against an unsolicited answer; the guard is the first.
_REUSE_WITHIN = 1.0
_READ_SIZE = 16_384

_AUTO_HEADERS = ((hdrs.ACCEPT, "*/*"), (hdrs.USER_AGENT, SERVER_SOFTWARE))
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] \d{3}[ \r\n]")
_STATUS_LINE_EXAMPLE = b"HTTP/1.1 200 "


def session_parts(
    context: ssl.SSLContext | None,
) -> tuple[aiohttp.TCPConnector, type[aiohttp.ClientRequest]]:
    """Returns a connector and a request class for a `ClientSession`.

    With any other version of aiohttp both are aiohttp's own, and no connection is used twice:
    without the guard an unsolicited answer would be taken for the answer to the next request.
    """
    if _TESTED_VERSIONS.fullmatch(aiohttp.__version__):
        return GuardedConnector(ssl=context or True), SingleWriteRequest
    connector = aiohttp.TCPConnector(limit=0, force_close=True, ssl=context or True)
    return connector, aiohttp.ClientRequest


class NoConnectionError(aiohttp.ClientConnectionError):
    """Any failure before a connection existed, for example a proxy that refuses CONNECT."""


class GuardedConnector(aiohttp.TCPConnector):
    """Uses no connection again on which bytes have arrived since the last answer was complete.

    aiohttp takes an unsolicited answer on an idle connection for the answer to the next request
    (its issue 13656; seen with 3.14.5): a false `relayed`, or a hang.
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
                    raise NoConnectionError("closed, or spoken on, before it was used")
                connection.add_callback(_Guard(transport, handler).expect_nothing)
                return connection
            if not guard.can_ask_kernel:
                try:
                    await _let_loop_read()
                except BaseException:
                    connection.close()
                    raise
            if guard.expect_answer():
                connection.add_callback(guard.expect_nothing)
                return connection
            connection.close()
        # Not inside `except`: aiohttp's errors hold the headers of the request, and so the key.
        raise NoConnectionError(type(failure).__name__)


class _Guard(asyncio.BufferedProtocol):
    """Stands between a transport and aiohttp's protocol, its handler.

    While it expects an answer, it passes everything on. Between two requests it expects nothing,
    and whatever arrives closes the connection. It is buffered, because otherwise asyncio allocates
    256 KiB for each read, which takes a tenth of a request's time.
    """

    __slots__ = (
        "_buffer",
        "_expects_nothing",
        "_first_bytes",
        "_handler",
        "_transport",
        "_unread",
        "can_ask_kernel",
    )

    def __init__(self, transport: asyncio.Transport, handler: ResponseHandler) -> None:
        self._transport = transport
        self._handler = handler
        self._buffer = memoryview(bytearray(_READ_SIZE))
        self._unread = _watch_unread(transport)
        # For bytes that a busy loop has not read yet.
        self.can_ask_kernel = self._unread is not None
        self._expects_nothing = False
        # Of the answer; None once they are known to begin a status line.
        self._first_bytes: bytes | None = b""
        transport.set_protocol(self)

    def expect_answer(self) -> bool:
        """Expects the next answer; False if bytes have arrived, or have still to be sent."""
        if (
            self._transport.is_closing()
            # aiohttp releases a connection before it looks at the bytes behind an answer's end.
            or self._handler.should_close
            or self._transport.get_write_buffer_size()
            or (self._unread is not None and self._unread.poll(0))
        ):
            return False
        self._expects_nothing = False
        self._first_bytes = b""
        return True

    def expect_nothing(self) -> None:
        """Passes no more bytes on: aiohttp is about to release the connection."""
        self._expects_nothing = True

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._expects_nothing:
            self._handler.force_close()
            # Not at once: TLS reads on while it closes, and fails if it is aborted meanwhile.
            asyncio.get_running_loop().call_soon(self._transport.abort)
            return
        data = bytes(self._buffer[:nbytes])
        if self._first_bytes == b"" and _STATUS_LINE.match(data):
            self._first_bytes = None
        elif self._first_bytes is not None:
            data = self._check_status_line(self._first_bytes, data)
        if data:
            self._handler.data_received(data)

    def _check_status_line(self, before: bytes, data: bytes) -> bytes:
        """Returns what to pass on: nothing of an answer that begins with no HTTP/1 status line.

        aiohttp's parser in Python waits for the end of the line; its parser in C believes RTSP.
        """
        if not before:
            data = data.lstrip(b"\r\n")
        first = (before + data)[: len(_STATUS_LINE_EXAMPLE)]
        rest = _STATUS_LINE_EXAMPLE[len(first) :]
        self._first_bytes = first if rest else None
        if _STATUS_LINE.match(first + rest):
            return data
        self._expects_nothing = True
        self._handler.set_exception(BadStatusLine())
        return b""

    def eof_received(self) -> None:
        # The transport closes itself then.
        if self._expects_nothing:
            self._handler.force_close()
        else:
            self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.connection_lost(exc)


def _watch_unread(transport: asyncio.Transport) -> select.poll | None:
    """Asks the kernel for unread bytes, or an end; None where it cannot: on Windows, under TLS."""
    number = transport.get_extra_info("socket").fileno()
    is_plain = transport.get_extra_info("ssl_object") is None
    if not hasattr(select, "poll") or not is_plain or type(number) is not int or number < 0:
        return None
    unread = select.poll()
    unread.register(number, select.POLLIN)
    return unread


async def _let_loop_read() -> None:
    """In two rounds the loop reads what has arrived, also through TLS."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class SingleWriteRequest(aiohttp.ClientRequest):
    """Writes head and body at once, in the task that sends the request.

    On Python 3.11 aiohttp starts a task for each body, which takes a sixth of a request's time (its
    pull request 8510 ends that for later Pythons only).
    """

    _whole_body = b""

    def update_headers(self, headers: Any) -> None:
        """Sets all headers at once; aiohttp goes through them four times."""
        host = (hdrs.HOST, self.url.host_port_subcomponent)
        self.headers = type(headers)([host, *headers.items(), *_AUTO_HEADERS])

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """Does nothing: `update_headers` has set them."""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        if body is not None:
            self._whole_body = body
            self.headers[hdrs.CONTENT_LENGTH] = str(len(body))

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Sends the request; raises `ClientConnectionError` if its body was not written."""
        handler = conn.protocol
        if handler is None or (transport := handler.transport) is None:
            raise aiohttp.ClientConnectionError("the connection was closed before the request")
        appending: Any = BodyAppendingTransport(transport, self._whole_body)
        handler.transport = appending
        try:
            response = await super().send(conn)
        finally:
            handler.transport = transport
        if self._whole_body and not appending.is_body_written:
            # aiohttp would write the head later, and alone. On this error it closes the connection.
            response.close()
            raise aiohttp.ClientConnectionError("the body was not written with the head")
        return response


class BodyAppendingTransport:
    """Passes everything to a transport, and appends the body to the first write, the head."""

    __slots__ = ("_body", "_transport", "is_body_written", "is_closing")

    def __init__(self, transport: asyncio.Transport, body: bytes) -> None:
        self._transport = transport
        self._body = body
        self.is_body_written = False
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self.is_body_written:
            self._transport.write(data)
        else:
            self.is_body_written = True
            self._transport.write(b"".join((data, self._body)))

    def writelines(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
