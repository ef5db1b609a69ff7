"""One request over aiohttp, and what came back. Takes no decisions."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Awaitable

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from .._errors import ConnectionLost, NotSentError, ResponseTimeout, ThorError, UnexpectedResponse
from .._protocol.stop import ANSWER_LIMIT, Answer, Request, sanitize
from .connections import GuardedConnector, NoConnectionError, SingleWriteRequest

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
            connector=GuardedConnector(ssl=context or True),
            request_class=SingleWriteRequest,
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
            async with scope:
                response = await self._ask(request, key, seconds)
                content = response.content
                try:
                    if response.version not in _VERSIONS:
                        return UnexpectedResponse("an HTTP version that nobody asked for")
                    answer = _head(response)
                    limit = request.limit if answer.status == 200 else ANSWER_LIMIT
                    if content.is_eof():
                        # It came with the head, as nearly always.
                        body = content.read_nowait()
                        answer.body = body if len(body) <= limit else None
                    else:
                        answer.body = await _read(content, limit)
                    return answer
                finally:
                    # At its end aiohttp has released it, unless it is a 101.
                    if not response.closed:
                        response.close()
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            failure = error
        except asyncio.CancelledError as cancelled:
            # A given session that is closed by its owner cancels what still looks for its address.
            task = asyncio.current_task()
            if not self.is_closed or (task is not None and task.cancelling()):
                raise
            failure = aiohttp.ClientConnectionError(*cancelled.args)
        return answer or _translate(failure)

    def _ask(self, request: Request, key: str, seconds: float) -> Awaitable[aiohttp.ClientResponse]:
        return self._session.request(
            request.method,
            request.url,
            data=request.body,
            headers={**_HEADERS, "X-Api-Key": key},
            timeout=self._connect_within(seconds),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=False,
            middlewares=(),
        )

    def _connect_within(self, seconds: float) -> aiohttp.ClientTimeout:
        """Bounds the connect phase, whose failures are told apart; the scope bounds the rest."""
        connect = min(_CONNECT_AT_MOST, seconds / 2)
        if self._timeout.connect != connect:
            # Not rounded up to whole seconds.
            self._timeout = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)
        return self._timeout


def _head(response: aiohttp.ClientResponse) -> Answer:
    return Answer(
        response.status,
        content_type=response.headers.get("Content-Type", ""),
        retry_after=response.headers.get("Retry-After"),
    )


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes | None:
    """The whole body, or None if it is longer than the limit: then it is left unread."""
    body = bytearray()
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
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError() | NoConnectionError():
            return NotSentError(_say("could not connect", failure), reason="connect")
    return None


def _say(what: str, failure: Exception) -> str:
    """Never all of the failure's text: aiohttp's may print the request."""
    why = getattr(failure, "certificate_error", None) or getattr(failure, "strerror", None)
    return f"{what}: {sanitize(str(why))}" if why else what
