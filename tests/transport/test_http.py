"""One attempt over a session that is no socket: its request, its answer, its errors."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast
from unittest import mock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import BadHttpMessage
from multidict import CIMultiDict, CIMultiDictProxy

from tests.conftest import KEY, TAG, shown
from thor_async import ConnectionLost, NotSentError, ResponseTimeout, ThorError, UnexpectedResponse
from thor_async._protocol.http_messages import ANSWER_LIMIT, Answer, Request
from thor_async._transport.connections import GuardedConnector
from thor_async._transport.deadlines import Deadlines
from thor_async._transport.failures import NoConnectionError
from thor_async._transport.http import Transport

BODY = f'{{"id_tag":"{TAG}"}}'.encode()
REQUEST = Request("POST", "http://thor.example/charges/stop", BODY, ANSWER_LIMIT)
HTTP11 = aiohttp.HttpVersion11
PLACE = ConnectionKey("thor.example", 443, True, True, None, None, None)
BROKEN = OSError(111, "Connect call failed")


class FakeResponse:
    """Gives its body in pieces; an exception among them is raised in its place."""

    def __init__(
        self,
        *pieces: bytes | Exception | None,
        status: int = 200,
        headers: list[tuple[str, str]] | None = None,
        version: aiohttp.HttpVersion | None = HTTP11,
    ) -> None:
        self.status, self.version = status, version
        self.headers = CIMultiDictProxy(CIMultiDict(headers or []))
        self.content = self
        self.closed = False
        self.pieces = list(pieces)

    def is_eof(self) -> bool:
        """Whether the whole body came with the head: there is one piece at most."""
        return len(self.pieces) < 2

    def at_eof(self) -> bool:
        return not self.pieces

    def read_nowait(self) -> bytes:
        piece = self.pieces.pop() if self.pieces else b""
        assert isinstance(piece, bytes)
        return piece

    async def readany(self) -> bytes:
        piece = self.pieces.pop(0)
        if piece is None:
            await asyncio.sleep(3600)
        if isinstance(piece, Exception):
            raise piece
        return piece or b""

    def close(self) -> None:
        self.closed = True


class FakeSession:
    """Returns one response, or raises; keeps the arguments of each request."""

    def __init__(self, result: FakeResponse | BaseException | None) -> None:
        self.result = result
        self.closed = False
        self.connector = None
        self.requests: list[dict[str, Any]] = []
        self.on_request: Callable[[], Awaitable[object]] | None = None

    async def request(self, method: str, url: str, **arguments: Any) -> FakeResponse:
        self.requests.append({"method": method, "url": url, **arguments})
        if self.on_request is not None:
            await self.on_request()
        if isinstance(self.result, BaseException):
            raise self.result
        if self.result is None:
            await asyncio.sleep(3600)
        assert self.result is not None
        return self.result

    async def close(self) -> None:
        self.closed = True


def transport_over(session: FakeSession) -> Transport:
    return Transport(cast("aiohttp.ClientSession", session), None, None)


@pytest.fixture
async def deadlines() -> AsyncIterator[Deadlines]:
    deadlines = Deadlines(asyncio.get_running_loop())
    yield deadlines
    assert not deadlines._times
    deadlines.abort_all()


async def send(
    result: FakeResponse | BaseException | None, request: Request = REQUEST, seconds: float = 10.0
) -> Answer | ThorError:
    deadlines = Deadlines(asyncio.get_running_loop())
    try:
        return await transport_over(FakeSession(result)).send(request, KEY, seconds, deadlines)
    finally:
        assert not deadlines._times
        deadlines.abort_all()


# The request


async def test_a_request_has_its_key_and_takes_no_default_of_the_session(
    deadlines: Deadlines,
) -> None:
    session = FakeSession(FakeResponse(b"{}"))
    transport = transport_over(session)
    await transport.send(REQUEST, KEY, 4.0, deadlines)
    [sent] = session.requests
    assert sent.pop("headers") == {
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "X-Api-Key": KEY,
    }
    assert sent.pop("timeout") == aiohttp.ClientTimeout(connect=2.0, ceil_threshold=math.inf)
    assert sent == {
        "method": "POST",
        "url": REQUEST.url,
        "data": BODY,
        "allow_redirects": False,
        "raise_for_status": False,
        "auto_decompress": False,
        "middlewares": (),
    }


async def test_connecting_takes_at_most_half_of_the_time(deadlines: Deadlines) -> None:
    session = FakeSession(FakeResponse(b"{}"))
    transport = transport_over(session)
    for seconds in (1.0, 10.0, 60.0, 4.0):
        await transport.send(REQUEST, KEY, seconds, deadlines)
    assert [sent["timeout"].connect for sent in session.requests] == [0.5, 5.0, 5.0, 2.0]


async def test_an_own_session_is_guarded_and_closed() -> None:
    transport = Transport(None, None, None)
    session = transport.session
    assert isinstance(session.connector, GuardedConnector)
    assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
    assert not session.trust_env
    assert not transport.session.closed
    await transport.close()
    assert transport.session.closed


async def test_a_given_session_is_never_closed() -> None:
    session = FakeSession(None)
    transport = transport_over(session)
    await transport.close()
    assert not session.closed
    session.closed = True
    assert transport.session.closed


async def test_through_a_session_that_its_owner_closed_nothing_is_sent(
    deadlines: Deadlines,
) -> None:
    session = FakeSession(None)
    session.closed = True
    error = await transport_over(session).send(REQUEST, KEY, 1.0, deadlines)
    assert isinstance(error, NotSentError)
    assert error.reason == "closed"
    assert not session.requests


# The answer


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ((b"{}",), b"{}"),
        ((), b""),
        ((b"{", b"}"), b"{}"),
        ((b"", b"{}", b""), b"{}"),
    ],
)
async def test_an_answer_has_its_body_and_two_headers(
    pieces: tuple[bytes, ...], body: bytes
) -> None:
    headers = [("Content-Type", "text/plain"), ("Retry-After", "7"), ("X-Other", "1")]
    response = FakeResponse(*pieces, status=503, headers=headers)
    assert await send(response) == Answer(503, body, "text/plain", "7")
    assert response.closed


async def test_a_response_that_aiohttp_has_closed_is_not_closed_again() -> None:
    response = FakeResponse(b"{}")
    response.closed = True
    with mock.patch.object(response, "close", side_effect=AssertionError):
        assert await send(response) == Answer(200, b"{}")


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize(
    ("status", "limit", "size", "is_whole"),
    [
        (200, 100, 100, True),
        (200, 100, 101, False),
        (200, ANSWER_LIMIT * 2, ANSWER_LIMIT + 1, True),
        (400, 100, 101, True),
        (500, ANSWER_LIMIT * 2, ANSWER_LIMIT, True),
        (500, ANSWER_LIMIT * 2, ANSWER_LIMIT + 1, False),
    ],
)
async def test_a_body_over_its_limit_is_none(
    status: int, limit: int, size: int, is_whole: bool, pieces: int
) -> None:
    """The limit of a request is for its 200 only; any other answer has the limit of a stop."""
    body = b"x" * size
    parts = [body] if pieces == 1 else [body[:-2], body[-2:-1], body[-1:]]
    request = Request("GET", "http://thor.example/charges", None, limit)
    answer = await send(FakeResponse(*parts, status=status), request)
    assert answer == Answer(status, body if is_whole else None)


async def test_what_is_over_the_limit_is_not_read() -> None:
    pieces = [b"x" * ANSWER_LIMIT, b"x", b"x", b"x"]
    response = FakeResponse(*pieces, status=500)
    assert await send(response) == Answer(500, None)
    assert len(response.pieces) == 2
    assert response.closed


@pytest.mark.parametrize(
    "end",
    [
        aiohttp.ClientPayloadError("cut"),
        aiohttp.ServerDisconnectedError(),
        ConnectionResetError(104, "reset"),
        ValueError("bad chunk"),
        None,
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_status_counts_without_its_body(end: Exception | None, status: int) -> None:
    response = FakeResponse(b"{", end, status=status)
    assert await send(response, seconds=0.05) == Answer(status, None)
    assert response.closed


@pytest.mark.parametrize("version", [aiohttp.HttpVersion(2, 0), aiohttp.HttpVersion(0, 9)])
async def test_another_http_version_is_unexpected(version: aiohttp.HttpVersion) -> None:
    response = FakeResponse(b"{}", version=version)
    error = await send(response)
    assert type(error) is UnexpectedResponse
    assert response.closed


LENGTH, CODING = "Content-Length", "Transfer-Encoding"


@pytest.mark.parametrize(
    ("headers", "is_clear"),
    [
        ([], True),
        ([(LENGTH, "2")], True),
        ([(LENGTH, "9" * 18)], True),
        ([(CODING, "chunked")], True),
        ([(CODING, "Chunked")], True),
        ([(CODING, "gzip, chunked")], True),
        ([(CODING, "gzip")], True),
        ([(LENGTH, "9" * 19)], False),
        ([(LENGTH, "+2")], False),
        ([(LENGTH, " 2")], False),
        ([(LENGTH, "2, 2")], False),
        ([(LENGTH, "0x2")], False),
        ([(LENGTH, "\u0662")], False),
        ([(LENGTH, "")], False),
        ([(LENGTH, "2"), (LENGTH, "2")], False),
        ([(LENGTH, "2"), (CODING, "chunked")], False),
        ([(CODING, "chunked"), (CODING, "chunked")], False),
        ([(CODING, "chunked, gzip")], False),
        ([(CODING, "chunked, chunked")], False),
        ([(CODING, "chun\u212aed")], False),
    ],
)
async def test_the_end_of_the_body_must_be_clear(
    headers: list[tuple[str, str]], is_clear: bool
) -> None:
    result = await send(FakeResponse(b"{}", headers=headers))
    if is_clear:
        assert result == Answer(200, b"{}")
    else:
        assert type(result) is UnexpectedResponse
        assert result.message == "not HTTP as it should be (BadHttpMessage)"


# The errors


def connector_error(kind: type[aiohttp.ClientConnectorError], error: OSError) -> Exception:
    return kind(PLACE, error)


CERTIFICATE = ssl.SSLCertVerificationError("certificate verify failed")
PROXY = aiohttp.ClientHttpProxyError(mock.Mock(), (), status=407, message=KEY)
RESPONSE_ERROR = aiohttp.ClientResponseError(mock.Mock(), (), status=400, message=KEY)


@pytest.mark.parametrize(
    ("failure", "error_class", "reason"),
    [
        (connector_error(aiohttp.ClientConnectorDNSError, BROKEN), NotSentError, "dns"),
        (connector_error(aiohttp.ClientConnectorSSLError, BROKEN), NotSentError, "tls"),
        (aiohttp.ClientConnectorCertificateError(PLACE, CERTIFICATE), NotSentError, "tls"),
        (aiohttp.ServerFingerprintMismatch(b"a", b"b", "h", 1), NotSentError, "tls"),
        (aiohttp.ConnectionTimeoutError(), NotSentError, "connect"),
        (connector_error(aiohttp.ClientConnectorError, BROKEN), NotSentError, "connect"),
        (connector_error(aiohttp.ClientProxyConnectionError, BROKEN), NotSentError, "connect"),
        (PROXY, NotSentError, "proxy"),
        (NoConnectionError("none was clean"), NotSentError, "connect"),
        (TimeoutError(), ResponseTimeout, None),
        (aiohttp.SocketTimeoutError(), ResponseTimeout, None),
        (aiohttp.ServerDisconnectedError(), ConnectionLost, None),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), ConnectionLost, None),
        (aiohttp.ClientPayloadError("cut"), ConnectionLost, None),
        (BrokenPipeError(32, "Broken pipe"), ConnectionLost, None),
        (RESPONSE_ERROR, UnexpectedResponse, None),
        (BadHttpMessage("bad"), UnexpectedResponse, None),
        (ValueError(KEY), UnexpectedResponse, None),
    ],
)
async def test_each_exception_of_aiohttp_has_its_error(
    failure: Exception, error_class: type[ThorError], reason: str | None
) -> None:
    error = await send(failure)
    assert type(error) is error_class
    assert getattr(error, "reason", None) == reason
    assert error.__cause__ is error.__context__ is None
    assert KEY not in shown(error)
    assert TAG not in shown(error)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            connector_error(aiohttp.ClientConnectorError, BROKEN),
            "could not connect: Connect call failed",
        ),
        (
            aiohttp.ClientConnectorCertificateError(PLACE, CERTIFICATE),
            "no safe connection: ('certificate verify failed',)",
        ),
        (aiohttp.ClientOSError(104, "reset\n"), r"the connection was lost: reset\n"),
        (aiohttp.ServerDisconnectedError(), "the connection was lost"),
        (RESPONSE_ERROR, "not HTTP as it should be (ClientResponseError)"),
    ],
)
async def test_the_message_has_only_the_reason_of_a_failure(
    failure: Exception, message: str
) -> None:
    error = await send(failure)
    assert isinstance(error, ThorError)
    assert error.message == message


async def test_any_other_exception_of_a_session_is_an_error_with_its_type_only() -> None:
    error = await send(LookupError(KEY))
    assert type(error) is ConnectionLost
    assert error.message == "the session failed (LookupError)"
    assert error.__cause__ is error.__context__ is None


# Its end


async def test_without_an_answer_in_time_it_is_a_timeout() -> None:
    error = await send(None, seconds=0.05)
    assert type(error) is ResponseTimeout
    assert error.message == "no answer in time"


async def test_aborted_deadlines_end_it(deadlines: Deadlines) -> None:
    session = FakeSession(None)
    sending = asyncio.ensure_future(transport_over(session).send(REQUEST, KEY, 60.0, deadlines))
    while not session.requests:
        await asyncio.sleep(0)
    deadlines.abort_all()
    assert type(await sending) is ResponseTimeout


async def test_a_cancelled_task_is_cancelled(deadlines: Deadlines) -> None:
    session = FakeSession(None)
    sending = asyncio.ensure_future(transport_over(session).send(REQUEST, KEY, 60.0, deadlines))
    while not session.requests:
        await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_an_owner_who_closes_the_session_is_no_cancellation(deadlines: Deadlines) -> None:
    """aiohttp then cancels the lookup of an address, and that is what `request` raises."""
    session = FakeSession(asyncio.CancelledError())
    session.on_request = session.close
    error = await transport_over(session).send(REQUEST, KEY, 60.0, deadlines)
    assert type(error) is ConnectionLost


async def test_a_task_that_is_cancelled_while_its_session_is_closed_is_cancelled(
    deadlines: Deadlines,
) -> None:
    session = FakeSession(None)
    sending = asyncio.ensure_future(transport_over(session).send(REQUEST, KEY, 60.0, deadlines))
    while not session.requests:
        await asyncio.sleep(0)
    session.closed = True
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
