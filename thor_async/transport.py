"""One request over aiohttp, and what came back. Takes no decisions."""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace

from .errors import ConnectionLost, NotSentError, ResponseTimeout, ThorError, UnexpectedResponse
from .protocol import ANSWER_LIMIT, Answer, Request, show

# The second defence against an answer that nobody asked for; the first is _CleanConnector.
_REUSE_WITHIN = 1.0
_CONNECT_AT_MOST = 5.0

# None is a mock's: aioresponses gives its responses no version.
_VERSIONS = (aiohttp.HttpVersion10, aiohttp.HttpVersion11, None)
_HEADERS = {"Accept-Encoding": "identity", "Content-Type": "application/json"}


class Transport:
    """Sends through a session of its own, or through a given one, which is never changed.

    Its own has no limit of connections (a second, hidden queue), no cookies, nothing from the
    environment, and never hands out a connection on which something arrived unasked.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession | None,
        context: ssl.SSLContext | None,
        proxy: str | None,
    ) -> None:
        self._is_owner = session is None
        self._session = session or aiohttp.ClientSession(
            connector=_CleanConnector(ssl=context or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
        )
        self._timeout = aiohttp.ClientTimeout()

    @property
    def is_closed(self) -> bool:
        return self._session.closed

    async def close(self) -> None:
        if self._is_owner:
            await self._session.close()

    async def send(
        self, request: Request, key: str, scope: asyncio.Timeout, seconds: float
    ) -> Answer | ThorError:
        """The answer that came before the scope ended, in so many seconds; else why none came.

        With its status known, an answer counts even when its body is cut, stalls or has more bytes
        than the limit: then `body` is None. Errors are returned without a chain, because aiohttp's
        exceptions carry the headers of the request, and so the key.
        """
        if self.is_closed:
            return NotSentError("the session was closed by its owner", reason="closed")
        answer: Answer | None = None
        failure: Exception
        try:
            async with (
                scope,
                self._session.request(
                    request.method,
                    request.url,
                    data=request.body,
                    headers={**_HEADERS, "X-Api-Key": key},
                    timeout=self._connect_within(seconds),
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=False,
                    middlewares=(),
                ) as response,
            ):
                if response.version not in _VERSIONS:
                    return UnexpectedResponse("an HTTP version that nobody asked for")
                answer = _head(response)
                limit = request.limit if answer.status == 200 else ANSWER_LIMIT
                answer.body = await _read(response.content, limit)
                return answer
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            failure = error
        except asyncio.CancelledError as cancelled:
            # A given session that is closed by its owner cancels what still looks for its address.
            task = asyncio.current_task()
            if not self.is_closed or (task is not None and task.cancelling()):
                raise
            failure = aiohttp.ClientConnectionError(*cancelled.args)
        return answer or _translate(failure)

    def _connect_within(self, seconds: float) -> aiohttp.ClientTimeout:
        """Bounds the connect phase, whose failures are told apart; the scope bounds the rest."""
        connect = min(_CONNECT_AT_MOST, seconds / 2)
        if self._timeout.connect != connect:
            # Not rounded up to whole seconds.
            self._timeout = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)
        return self._timeout


def _head(response: aiohttp.ClientResponse) -> Answer:
    return Answer(
        status=response.status,
        content_type=response.headers.get("Content-Type", ""),
        retry_after=response.headers.get("Retry-After"),
    )


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes | None:
    """The whole body, or None if it is longer than the limit: then it is left unread."""
    body = bytearray(await content.readany())
    while not content.at_eof():
        if len(body) > limit:
            return None
        body += await content.readany()
    return bytes(body) if len(body) <= limit else None


def _translate(failure: Exception) -> ThorError:
    """The one table from what aiohttp raises to what it means."""
    if (error := _translate_connect(failure)) is not None:
        return error
    match failure:
        case TimeoutError():
            return ResponseTimeout("no answer in time")
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError() | OSError():
            return ConnectionLost(_say("the connection was lost", failure))
    return UnexpectedResponse(f"not HTTP as it should be ({type(failure).__name__})")


def _translate_connect(failure: Exception) -> NotSentError | None:
    """What aiohttp raises only before it has a connection to write to."""
    match failure:
        case aiohttp.ClientConnectorDNSError():
            return NotSentError(_say("no address for the host", failure), reason="dns")
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return NotSentError(_say("no safe connection", failure), reason="tls")
        case aiohttp.ConnectionTimeoutError():
            return NotSentError("could not connect in time", reason="connect")
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError() | _NoConnection():
            return NotSentError(_say("could not connect", failure), reason="connect")
    return None


def _say(what: str, failure: Exception) -> str:
    """Never all of the failure's text: aiohttp's may print the request."""
    why = getattr(failure, "certificate_error", None) or getattr(failure, "strerror", None)
    return f"{what}: {show(str(why))}" if why else what


class _NoConnection(aiohttp.ClientConnectionError):
    """Whatever went wrong before there was a connection, as when a proxy fails its CONNECT."""


class _Sentry(asyncio.Protocol):
    """Stands in on a connection between two requests: whatever arrives there ends it."""

    __slots__ = ("_transport", "handler")

    def __init__(self, handler: asyncio.BaseProtocol, transport: asyncio.Transport) -> None:
        self.handler = handler
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.handler.connection_lost(exc)


class _CleanConnector(aiohttp.TCPConnector):
    """Hands out no connection on which anything has arrived since the last answer was complete.

    aiohttp takes an unsolicited answer on an idle connection for the next request's (its issue
    13656; seen with 3.14.5): a false `relayed`, or a hang.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(limit=0, keepalive_timeout=_REUSE_WITHIN, **settings)
        self._unread = select.poll() if hasattr(select, "poll") else None

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            try:
                connection = await super().connect(req, traces, timeout)
            except (aiohttp.ClientConnectorError, aiohttp.ServerFingerprintMismatch, TimeoutError):
                raise
            except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
                failure = error
                break
            try:
                is_clean = await self._is_clean(connection)
            except BaseException:
                connection.close()
                raise
            if is_clean:
                connection.add_callback(partial(_post_sentry, connection))
                return connection
            connection.close()
        raise _NoConnection(type(failure).__name__)

    async def _is_clean(self, connection: Connection) -> bool:
        transport, handler = connection.transport, connection.protocol
        if transport is None or handler is None:
            return False
        if transport.get_protocol() is not handler:
            if await self._has_unread(transport) or transport.is_closing():
                return False
            transport.set_protocol(handler)
        return not connection.closed and not handler.should_close

    async def _has_unread(self, transport: asyncio.Transport) -> bool:
        """Whether bytes, or an end, are there that a busy loop has not read yet."""
        number = transport.get_extra_info("socket").fileno()
        is_plain = transport.get_extra_info("ssl_object") is None
        if self._unread is None or not is_plain or type(number) is not int or number < 0:
            # Nobody to ask, as on Windows, or TLS between: in two rounds the loop reads them.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return False
        self._unread.register(number, select.POLLIN)
        try:
            return bool(self._unread.poll(0))
        finally:
            self._unread.unregister(number)


def _post_sentry(connection: Connection) -> None:
    transport, handler = connection.transport, connection.protocol
    if transport is not None and handler is not None and not transport.is_closing():
        transport.set_protocol(_Sentry(handler, transport))
