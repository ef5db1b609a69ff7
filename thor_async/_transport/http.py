"""One request over aiohttp, and what came back. Takes no decisions."""

from __future__ import annotations

import asyncio
import io
import math
import re
import ssl
from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import hdrs
from aiohttp.http_exceptions import BadHttpMessage

from .._errors import NotSentError, ThorError, UnexpectedResponse
from .._models import MaskedText
from .._protocol.http_messages import ANSWER_LIMIT, Answer, Request, build_headers
from .connections import session_parts
from .deadlines import Deadlines
from .failures import refused_by_proxy, translate

_CONNECT_AT_MOST = 5.0

# None is a mock's: aioresponses gives its responses no version.
_VERSIONS = (aiohttp.HttpVersion10, aiohttp.HttpVersion11, None)
_REQUEST_IDS = ("x-amzn-requestid", "x-request-id", "x-correlation-id")
_LENGTH = re.compile(r"[0-9]{1,18}")


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
        self._has_proxy = proxy is not None
        self._proxy_headers: dict[str, str] = {}
        if proxy is not None:
            proxy, self._proxy_headers = _split_credentials(proxy)
        # In its address aiohttp would keep them, and print them with a connection.
        self._options: dict[str, Any] = (
            {"proxy_headers": self._proxy_headers} if self._proxy_headers else {}
        )
        if session is None:
            connector, request_class = session_parts(context)
            session = aiohttp.ClientSession(
                connector=connector,
                request_class=request_class,
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=proxy,
            )
        self.session = session
        self._timeout = aiohttp.ClientTimeout()

    async def close(self) -> None:
        if self._is_owner:
            await self.session.close()

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer | ThorError:
        """Sends one request, and returns its answer, or the error why none came in `seconds`.

        With its status known, an answer counts even when its body is cut, stalls or is over the
        limit: then `body` is None. Errors are returned without a chain, because aiohttp's
        exceptions carry the headers of the request, and so the key. Ends early when `deadlines`
        are aborted.
        """
        if self.session.closed:
            return NotSentError("the session was closed by its owner", reason="closed")
        answer: Answer | None = None
        failure: Exception
        try:
            with deadlines.limit(seconds):
                # The connect phase has its own limit, so that its failures can be told apart.
                connect = min(_CONNECT_AT_MOST, seconds / 2)
                if self._timeout.connect != connect:
                    # Not rounded up to whole seconds.
                    self._timeout = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)
                headers = build_headers(key)
                is_plain_by_proxy = self._has_proxy and request.url.startswith("http:")
                if is_plain_by_proxy:
                    headers |= self._proxy_headers
                held = _Held(
                    await self.session.request(
                        request.method,
                        request.url,
                        data=request.body,
                        headers=headers,
                        timeout=self._timeout,
                        allow_redirects=False,
                        raise_for_status=False,
                        auto_decompress=False,
                        middlewares=(),
                        **self._options,
                    )
                )
                try:
                    if held.response.version not in _VERSIONS:
                        return UnexpectedResponse("an HTTP version that was not asked for")
                    answer = _head(held.response)
                    if answer.status == 407 and is_plain_by_proxy:
                        return NotSentError(refused_by_proxy(407), reason="proxy", status=407)
                    limit = request.limit if answer.status == 200 else ANSWER_LIMIT
                    content = held.response.content
                    if content.is_eof():
                        # It came with the head, as nearly always.
                        body = content.read_nowait()
                        answer.body = body if len(body) <= limit else None
                    else:
                        answer.body = await _read(content, limit)
                    return answer
                finally:
                    # At the end of the body aiohttp has released it, unless it is a 101.
                    if not held.response.closed:
                        held.response.close()
        except Exception as error:
            # Of any type: the connector, the resolver or a hook may be somebody else's.
            failure = error
        except asyncio.CancelledError as cancelled:
            # An owner who closes a given session cancels the lookup of an address in it.
            task = asyncio.current_task()
            if not self.session.closed or (task is not None and task.cancelling()):
                raise
            failure = aiohttp.ClientConnectionError(*cancelled.args)
        return answer or translate(failure, self.session.connector)


class _Held:
    """Holds a response. The repr of one shows its headers, which may echo the request."""

    __slots__ = ("response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response


def _split_credentials(proxy: str) -> tuple[str, dict[str, str]]:
    """Returns the address of a proxy without user and password, and the header with them."""
    parts = urlsplit(proxy)
    if parts.username is None and parts.password is None:
        return proxy, {}
    credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    value = MaskedText(f"Basic {b64encode(credentials.encode()).decode()}")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return address, {hdrs.PROXY_AUTHORIZATION: value}


def _head(response: aiohttp.ClientResponse) -> Answer:
    """Returns status and headers; raises `BadHttpMessage` if the end of the body is ambiguous.

    RFC 9112 6.3. aiohttp's parser in C checks most of this itself, its parser in Python does not.
    """
    headers = response.headers
    lengths = headers.getall(hdrs.CONTENT_LENGTH, ())
    codings = headers.getall(hdrs.TRANSFER_ENCODING, ())
    if len(lengths) + len(codings) > 1:
        raise BadHttpMessage("the length of the body is given more than once")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise BadHttpMessage("no length")
    if codings and not _is_clear(codings[0]):
        raise BadHttpMessage("unclear transfer coding")
    return Answer(
        response.status,
        None,
        headers.get(hdrs.CONTENT_TYPE, ""),
        headers.get(hdrs.RETRY_AFTER),
        next((headers[name] for name in _REQUEST_IDS if name in headers), None),
    )


def _is_clear(coding: str) -> bool:
    """Whether `chunked` is in it once and last, or not at all."""
    return coding.isascii() and "chunked" not in coding.lower().rpartition(",")[0]


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes | None:
    """Returns the whole body, or None if it has more than `limit` bytes: the rest stays unread."""
    # Not bytes, which a repr shows: an answer may echo the request, and so key and tag.
    body = io.BytesIO()
    while not content.at_eof():
        if body.tell() > limit:
            return None
        body.write(await content.readany())
    return body.getvalue() if body.tell() <= limit else None
