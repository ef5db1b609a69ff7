"""The connections and the requests of a client's own session.

They override parts of aiohttp, so they are used only with versions that the tests have run on.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.tracing import Trace

from .failures import NoConnectionError, describe_failed_connect
from .guard import Guard, let_loop_read
from .tls import RecordContext, make_context

# 3.14 from 3.14.4 on. CI runs the tests with the lowest and with the newest version.
_TESTED_VERSIONS = re.compile(r"3\.14\.([4-9]|[1-9]\d+)")

# Seconds. The second defence against an unsolicited answer; the guard is the first.
_REUSE_WITHIN = 1.0
_AUTO_HEADERS = ((hdrs.ACCEPT, "*/*"), (hdrs.USER_AGENT, SERVER_SOFTWARE))


def session_parts(
    context: ssl.SSLContext | None,
) -> tuple[aiohttp.TCPConnector, type[aiohttp.ClientRequest]]:
    """Returns a connector and a request class for a `ClientSession`.

    With any other version of aiohttp both are aiohttp's own, and no connection is used twice:
    without the guard an unsolicited answer would be taken for the answer to the next request.
    """
    if _TESTED_VERSIONS.fullmatch(aiohttp.__version__):
        return GuardedConnector(ssl=RecordContext(context)), SingleWriteRequest
    connector = aiohttp.TCPConnector(limit=0, force_close=True, ssl=context or make_context())
    return connector, aiohttp.ClientRequest


class GuardedConnector(aiohttp.TCPConnector):
    """Hands out no connection on which bytes have arrived to no request.

    aiohttp takes an unsolicited answer on a new or an idle connection for the answer to the next
    request (its issue 13656; seen with 3.14.5): a false `relayed`, or a hang.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(limit=0, keepalive_timeout=_REUSE_WITHIN, **settings)
        self._guards: WeakSet[Guard] = WeakSet()

    async def close(self, *, abort_ssl: bool = False) -> None:
        for guard in self._guards:
            guard.end()
        try:
            await super().close(abort_ssl=abort_ssl)
        except AttributeError:
            # asyncio's TLS transport has no info once it was closed twice. All connections have
            # ended above; now nothing is left to do but the resolver.
            await super().close(abort_ssl=abort_ssl)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        is_last = False
        while True:
            try:
                connection = await super().connect(req, traces, timeout)
            except (aiohttp.ClientConnectorError, aiohttp.ServerFingerprintMismatch, TimeoutError):
                raise
            except Exception as error:
                # Also what a resolver, or the hook of a trace, raises.
                failure = describe_failed_connect(error)
                break
            transport = connection.transport
            guard = transport and transport.get_protocol()
            try:
                if isinstance(guard, Guard):
                    if guard.must_read_first:
                        await let_loop_read()
                    is_taken = guard.expect_answer()
                else:
                    guard, is_taken = await self._guard_new(connection, is_last=is_last)
                    is_last = True
            except BaseException:
                connection.close()
                raise
            if is_taken:
                if guard is not None:
                    connection.add_callback(guard.expect_nothing)
                return connection
            connection.close()
        # Not inside `except`: aiohttp's errors hold the headers of the request, and so the key.
        raise failure

    async def _guard_new(
        self, connection: Connection, *, is_last: bool
    ) -> tuple[Guard | None, bool]:
        """Returns a guard, and whether to send: not if the connection has ended before a request.

        Raises `NoConnectionError` if the server has spoken before it was asked: another connection
        would be no better. The last one is used although it has ended, so that the request fails
        on it.
        """
        transport, handler = connection.transport, connection.protocol
        if transport is None or handler is None:
            return None, is_last
        guard = Guard(transport, handler)
        self._guards.add(guard)
        await guard.read_before_first()
        if guard.expect_answer():
            return guard, True
        if isinstance(failure := handler.exception(), NoConnectionError):
            raise failure
        if not guard.is_over:
            raise NoConnectionError("the server sent something before it was asked")
        if is_last:
            guard.expect_anything()
        return guard, is_last


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
