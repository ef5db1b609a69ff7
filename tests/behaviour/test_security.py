"""Keys and tags do not leak; sessions, hosts and servers cannot change what the client does."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import logging
import pickle
import socket
import ssl
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import loguru
import msgspec
import pytest
import rich.console
import rich.traceback
import sentry_sdk
import sentry_sdk.transport
import trustme
import yarl
from sentry_sdk.utils import event_from_exception

from tests.conftest import KEY, TAG, shown, wait_until
from tests.fake_transport import fleet
from thor_async import (
    ConnectionLost,
    NotInTransaction,
    NotSentError,
    RejectedError,
    RetryPolicy,
    ServerError,
    StopCharge,
    ThorClient,
    ThorError,
    UnexpectedResponse,
    Verdict,
)
from thor_async._transport.connections import GuardedConnector

ONCE = RetryPolicy(max_attempts=1)
USER, PASSWORD = "proxy-user", "proxy-p4ss"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
REDIRECTS = [301, 302, 303, 307, 308]


def answer(status: int = 200, body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


NOT_RUNNING = answer(400, b'{"message": "NotInTransaction"}')


OK = answer()


class Recorder:
    """A server that keeps every request, head and body, and answers from it; None is a reset."""

    def __init__(
        self,
        reply: bytes | Callable[[bytes], bytes | None] | None = OK,
        *,
        tls: ssl.SSLContext | None = None,
        delay: float = 0.0,
    ) -> None:
        self.reply = reply if callable(reply) else lambda _: reply
        self.requests: list[bytes] = []
        self.connections = 0
        self._tls = tls
        self._delay = delay
        self._handlers: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        # A session that outlives the server keeps its connections.
        for writer in self._writers:
            writer.transport.abort()
        async with asyncio.timeout(5):
            await asyncio.gather(*self._handlers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        self.connections += 1
        self._writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = await read_request(reader)
                self.requests.append(request)
                await asyncio.sleep(self._delay)
                await self.answer(request, reader, writer)
        writer.close()

    async def answer(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if (reply := self.reply(request)) is None:
            reset(writer)
        else:
            writer.write(reply)

    @property
    def one(self) -> str:
        """Returns the head of the only request."""
        (request,) = self.requests
        return request.partition(b"\r\n\r\n")[0].decode()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return head + await reader.readexactly(int(length or 0))


def reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Tunnel(Recorder):
    """A proxy that connects every CONNECT to one port of this machine."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._to = port

    async def answer(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pour(reader, far_writer), pour(far_reader, writer))


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


def thor_at(url: str, **settings: Any) -> ThorClient:
    given: dict[str, Any] = {"api_key": KEY, "base_url": url, "retry": ONCE}
    return ThorClient(**(given | settings))


async def error_of(thor: ThorClient, command: StopCharge) -> ThorError:
    with pytest.raises(ThorError) as failed:
        await thor.stop_charge(command)
    return failed.value


def check_silent(error: BaseException, *secrets: str) -> None:
    """Checks that no text and no pickle of the error has a secret."""
    text = shown(error) + str({k: v for k, v in vars(error).items() if k != "command"})
    for secret in (KEY, TAG, PASSWORD, BASIC, *secrets):
        assert secret not in text
        assert repr(secret)[1:-1] not in text
    assert KEY.encode() not in pickle.dumps(error)
    assert error.__context__ is None


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def hostile() -> AsyncIterator[aiohttp.ClientSession]:
    """A session with every default that could harm a stop."""
    async with aiohttp.ClientSession(
        raise_for_status=True,
        middlewares=(Counting(),),
        timeout=aiohttp.ClientTimeout(total=0.001),
        auto_decompress=True,
        headers={"X-Api-Key": "the-owners", "Content-Type": "text/plain", "X-Own": "kept"},
        read_bufsize=64,
    ) as session:
        yield session


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        self.calls += 1
        return await handler(request)


# where the key goes


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
@pytest.mark.parametrize("status", REDIRECTS)
async def test_no_redirect_is_followed_and_the_key_stays(
    status: int, given: bool, command: StopCharge
) -> None:
    async with Recorder() as other, Recorder() as origin, aiohttp.ClientSession() as session:
        for place in (other.url, f"{origin.url}/elsewhere", "/elsewhere"):
            origin.requests.clear()
            origin.reply = lambda _, at=place: answer(status, b"", f"Location: {at}")
            async with thor_at(origin.url, session=session if given else None) as thor:
                error = await error_of(thor, command)
            assert type(error) is UnexpectedResponse
            check_silent(error)
            assert len(origin.requests) == 1
            assert origin.one.startswith("POST /charges/stop HTTP/1.1")
        assert other.connections == 0


async def test_the_key_is_sent_once_in_its_header_and_the_tag_only_in_the_body(
    command: StopCharge,
) -> None:
    async with Recorder() as origin, thor_at(origin.url) as thor:
        await thor.stop_charge(command)
    (request,) = origin.requests
    assert request.count(KEY.encode()) == 1
    assert origin.one.count(f"\r\nX-Api-Key: {KEY}\r\n") == 1
    assert TAG not in origin.one
    assert request.count(TAG.encode()) == 1


async def test_nothing_is_taken_from_the_environment(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Recorder() as proxy, Recorder() as origin:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        async with thor_at(origin.url) as thor:
            await thor.stop_charge(command)
        assert proxy.connections == 0
    assert "authorization" not in origin.one.lower()


async def test_no_cookie_is_sent_back(command: StopCharge) -> None:
    async with Recorder(answer(200, b"{}", "Set-Cookie: a=b; Path=/")) as origin:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as other:
            await (await other.get(origin.url)).read()
            await (await other.get(origin.url)).read()
        assert b"\r\nCookie: a=b" in origin.requests.pop()  # one that takes it sends it
        async with thor_at(origin.url) as thor:
            for _ in range(2):
                await thor.stop_charge(command)
    assert not any(b"cookie" in request.lower() for request in origin.requests)


PLAIN = [
    "http://thor.example",
    "HTTP://thor.example",
    "http://127.0.0.1.thor.example",
    "http://localhost.thor.example",
    "http://thor.example/127.0.0.1",
    "http://0.0.0.0",
    "http://192.168.0.1",
    "http://[2001:db8::1]",
    "http://[::]",
]
TRICKS = [
    "http://127.0.0.1@thor.example",
    "http://thor.example@127.0.0.1",
    "http://127.0.0.1:80@thor.example",
    "http://thor.example\\@127.0.0.1",
    "http://127.0.0.1\\.thor.example",
    "http://127.0.0.1\\@thor.example",
    "http://thor.example#@127.0.0.1",
    "http://thor.example?@127.0.0.1",
    "http://thor.example;@127.0.0.1",
    "http://127.0.0.1#.thor.example",
    "http://[::1].thor.example",
    "http://[::1]thor.example",
    "http://thor.example[::1]",
    "http://thor.example\t@127.0.0.1",
    "http://127.0.0.1\n.thor.example",
    "http://127.0.0.1%2ethor.example",
    "http://127.0.0.1%00.thor.example",
    "http:///thor.example",
    "http:thor.example",
    "http://127.0.0.1\uff0fthor.example",
    "http://127.0.0.1\u3002thor.example",
    "http://\uff11\uff12\uff17.0.0.1.thor.example",
    "//127.0.0.1",
    "ftp://127.0.0.1",
]


@pytest.mark.parametrize("url", PLAIN)
def test_http_leaves_the_machine_only_on_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="API key in the clear: use https, or pass allow_http="):
        ThorClient(KEY, base_url=url)
    with pytest.raises(ValueError, match=r"read_url .* in the clear"):
        ThorClient(KEY, read_url=url)
    ThorClient(KEY, base_url=url, allow_http=True)
    ThorClient(KEY, base_url=url.lower().replace("http:", "https:"))
    monkeypatch.setenv("THOR_BASE_URL", url)
    with pytest.raises(ValueError, match=r"base_url .* in the clear"):
        ThorClient(KEY)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3:8080", "localhost:1", "[::1]", "LOCALHOST"]
)
def test_http_is_fine_on_loopback(host: str) -> None:
    ThorClient(KEY, base_url=f"http://{host}/latest")


@pytest.mark.parametrize("url", TRICKS)
def test_what_looks_like_loopback_is_loopback_to_aiohttp_too(url: str) -> None:
    """Two parsers read the address: if they differed, the key could go to another host."""
    try:
        ThorClient(KEY, base_url=url)
    except ValueError:
        return
    # What aiohttp cannot read at all has to be refused here too: a ValueError below.
    assert yarl.URL(url + "/charges/stop").host in ("127.0.0.1", "::1", "localhost")


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{PASSWORD}@thor.example",
        f"https://{PASSWORD}@thor.example",
        f"https://thor.example/?key={PASSWORD}",
        f"https://thor.example/#{PASSWORD}",
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(url: str) -> None:
    for setting in ({"base_url": url}, {"read_url": url}):
        with pytest.raises(ValueError, match="scheme, host and path only") as refused:
            ThorClient(KEY, **setting)  # type: ignore[arg-type]
        check_silent(refused.value)


# a given session


async def test_the_defaults_of_a_given_session_have_no_effect_and_are_not_changed(
    hostile: aiohttp.ClientSession, command: StopCharge
) -> None:
    before = dict(vars(hostile))
    async with Recorder(NOT_RUNNING, delay=0.1) as origin:
        async with thor_at(origin.url, session=hostile) as thor:
            assert type(await error_of(thor, command)) is NotInTransaction
        assert origin.one.count("\r\nX-Api-Key: ") == 1
        assert f"\r\nX-Api-Key: {KEY}" in origin.one
        assert "\r\nContent-Type: application/json" in origin.one
        assert "\r\nX-Own: kept" in origin.one
        assert not hostile.closed
        assert dict(vars(hostile)) == before
        assert middleware_of(hostile).calls == 0
        with pytest.raises(TimeoutError):
            await hostile.get(origin.url)
        assert middleware_of(hostile).calls == 1


def middleware_of(session: aiohttp.ClientSession) -> Counting:
    (counting,) = session._middlewares
    assert isinstance(counting, Counting)
    return counting


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
async def test_an_encoded_answer_is_not_decoded(
    given: bool, hostile: aiohttp.ClientSession, command: StopCharge
) -> None:
    zipped = gzip.compress(b'{"message": "NotInTransaction"}')
    async with (
        Recorder(answer(400, zipped, "Content-Encoding: gzip")) as origin,
        thor_at(origin.url, session=hostile if given else None) as thor,
    ):
        error = await error_of(thor, command)
        origin.reply = lambda _: answer(500, b"no gzip", "Content-Encoding: gzip")
        assert type(await error_of(thor, command)) is ServerError
    assert (type(error), error.code) == (RejectedError, None)
    assert b"\r\nAccept-Encoding: identity\r\n" in origin.requests[0]


async def test_a_sessions_own_address_gets_nothing(command: StopCharge) -> None:
    async with Recorder() as other, Recorder() as origin:
        async with (
            aiohttp.ClientSession(base_url=f"{other.url}/") as session,
            thor_at(origin.url, session=session) as thor,
        ):
            await thor.stop_charge(command)
        assert (len(origin.requests), other.connections) == (1, 0)


async def test_a_session_serves_its_owner_after_the_client_is_closed(command: StopCharge) -> None:
    async with Recorder() as origin, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with thor_at(origin.url, session=session) as thor:
                await thor.stop_charge(command)
        async with session.get(origin.url) as response:
            assert response.status == 200
        assert b"api-key" not in origin.requests[-1].lower()
        assert origin.connections == 1


async def test_a_session_closed_between_two_tries_leaves_the_error_of_the_first(
    command: StopCharge,
) -> None:
    """The 500 may have worked, and only its own error says so."""
    session = aiohttp.ClientSession()
    policy = RetryPolicy(sleep=lambda _: session.close())
    async with (
        Recorder(answer(500)) as origin,
        thor_at(origin.url, session=session, retry=policy) as thor,
    ):
        error = await error_of(thor, command)
    assert type(error) is ServerError
    assert error.maybe_applied
    assert len(origin.requests) == 1


async def test_a_session_closed_during_a_batch_leaves_one_outcome_each() -> None:
    session = aiohttp.ClientSession()
    policy = RetryPolicy(sleep=lambda _: session.close())
    async with (
        Recorder(answer(500)) as origin,
        thor_at(origin.url, session=session, retry=policy, max_in_flight=1) as thor,
    ):
        outcomes = await thor.stop_many(fleet(5))
    assert len(outcomes) == 5
    assert outcomes[0].verdict is Verdict.INDETERMINATE
    unsent = [outcome.verdict for outcome in outcomes].count(Verdict.NOT_SENT)
    assert unsent == 5 - len(origin.requests)


# TLS


def unverified(**changes: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    for name, value in changes.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize(
    "context",
    [
        False,
        True,
        0,
        ssl._create_unverified_context(),
        unverified(),
        unverified(verify_mode=ssl.CERT_OPTIONAL),
        unverified(verify_mode=ssl.CERT_NONE),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        aiohttp.Fingerprint(b"\0" * 32),
        "ca.pem",
    ],
)
def test_verification_cannot_be_switched_off(context: Any) -> None:
    with pytest.raises(ValueError, match="an SSLContext that verifies certificate and host name"):
        ThorClient(KEY, ssl=context)


async def test_a_private_authority_is_trusted_only_where_it_is_given(
    authority: trustme.CA, command: StopCharge
) -> None:
    async with Recorder(tls=serving(authority)) as origin:
        async with thor_at(origin.url, ssl=trusting(authority)) as thor:
            assert (await thor.stop_charge(command)).verdict is Verdict.RELAYED
        async with thor_at(origin.url) as thor:
            error = await error_of(thor, command)
        assert isinstance(error, NotSentError)
        assert error.reason == "tls"
        check_silent(error)
        assert len(origin.requests) == 1


# a proxy


def by_way_of(proxy: Recorder) -> str:
    return f"http://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}"


async def test_a_proxy_is_used_for_http(command: StopCharge) -> None:
    async with (
        Recorder() as proxy,
        thor_at("http://thor.test/x", allow_http=True, proxy=by_way_of(proxy)) as thor,
    ):
        await thor.stop_charge(command)
        assert PASSWORD not in repr(thor) + str(thor)
    assert proxy.one.startswith("POST http://thor.test/x/charges/stop HTTP/1.1")
    assert f"\r\nProxy-Authorization: Basic {BASIC}" in proxy.one


async def test_a_proxy_for_https_sees_neither_key_nor_command(
    authority: trustme.CA, command: StopCharge
) -> None:
    async with (
        Recorder(tls=serving(authority, "thor.test")) as origin,
        Tunnel(origin.port) as proxy,
        thor_at("https://thor.test", ssl=trusting(authority), proxy=by_way_of(proxy)) as thor,
    ):
        await thor.stop_charge(command)
    assert proxy.one.startswith("CONNECT thor.test:443 HTTP/1.1")
    assert f"\r\nProxy-Authorization: Basic {BASIC}" in proxy.one
    assert "api-key" not in proxy.one.lower()
    assert f"\r\nX-Api-Key: {KEY}" in origin.one
    assert "proxy" not in origin.one.lower()


@pytest.mark.parametrize(
    "reply",
    [
        answer(407, b"who?", "Proxy-Authenticate: Basic"),
        answer(403, f"{BASIC} {KEY}".encode()),
        answer(502),
        b"garbage\r\n\r\n",
        None,
    ],
)
async def test_a_proxy_that_fails_shows_nothing_of_its_credentials(
    reply: bytes | None, command: StopCharge
) -> None:
    async with Recorder(reply) as proxy:
        async with thor_at("https://thor.test", proxy=by_way_of(proxy)) as thor:
            error = await error_of(thor, command)
        check_silent(error)
        # Without a tunnel no request can have left, and the proxy itself never sees one.
        assert isinstance(error, NotSentError)
        assert all(request.startswith(b"CONNECT ") for request in proxy.requests)


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
@pytest.mark.parametrize(("status", "attempts"), [(403, 1), (407, 1), (502, 3), (503, 3)])
async def test_a_proxy_that_refuses_is_the_proxy_and_never_thor(
    status: int, attempts: int, given: bool, command: StopCharge
) -> None:
    policy = RetryPolicy(retry_not_sent=True, initial_delay=0.001)
    body = b'{"message": "NotInTransaction"}'
    async with (
        Recorder(answer(status, body)) as proxy,
        aiohttp.ClientSession(proxy=by_way_of(proxy)) as session,
        thor_at(
            "https://thor.test",
            retry=policy,
            **({"session": session} if given else {"proxy": by_way_of(proxy)}),
        ) as thor,
    ):
        error = await error_of(thor, command)
        assert isinstance(error, NotSentError)
        assert (error.reason, error.status, error.code) == ("proxy", status, None)
        assert f"the proxy answered {status}" in error.message
        assert (error.attempts, error.answered, len(proxy.requests)) == (attempts, False, attempts)
        assert pickle.loads(pickle.dumps(error)).status == status
        check_silent(error)


async def test_a_plain_proxy_that_wants_a_password_has_sent_nothing_on(command: StopCharge) -> None:
    async with (
        Recorder(answer(407, b'{"message": "NotInTransaction"}')) as proxy,
        thor_at("http://thor.test", allow_http=True, proxy=by_way_of(proxy)) as thor,
    ):
        error = await error_of(thor, command)
        assert isinstance(error, NotSentError)
        assert (error.reason, error.status) == ("proxy", 407)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_repr_of_a_connection_has_the_password_of_its_proxy(
    command: StopCharge, monkeypatch: pytest.MonkeyPatch, scheme: str, authority: trustme.CA
) -> None:
    """aiohttp prints that when it finds a connection that was not closed."""
    connect, seen = GuardedConnector.connect, []

    async def connect_and_show(*args: Any, **options: Any) -> Any:
        connection = await connect(*args, **options)
        seen.append(repr(connection) + repr(args[1].proxy) + repr(args[1].proxy_headers))
        return connection

    monkeypatch.setattr(GuardedConnector, "connect", connect_and_show)
    async with (
        Recorder(tls=serving(authority, "thor.test")) as origin,
        Recorder() if scheme == "http" else Tunnel(origin.port) as proxy,
        thor_at(
            f"{scheme}://thor.test",
            allow_http=True,
            ssl=trusting(authority),
            proxy=by_way_of(proxy),
        ) as thor,
    ):
        await thor.stop_charge(command)
    assert f"\r\nProxy-Authorization: Basic {BASIC}" in proxy.one
    assert len(seen) == 1
    for secret in (USER, PASSWORD, BASIC):
        assert secret not in seen[0]


@pytest.mark.parametrize(
    ("user", "credentials"),
    [
        ("u:p", b"u:p"),
        ("u", b"u:"),
        ("u:", b"u:"),
        (":p", b":p"),
        ("a%40b:c%3Ad", b"a@b:c:d"),
        ("%C3%BC:%E2%82%AC", "\xfc:\u20ac".encode()),
    ],
)
async def test_a_proxy_gets_any_user_and_password(
    user: str, credentials: bytes, command: StopCharge
) -> None:
    async with (
        Recorder() as proxy,
        thor_at(
            "http://thor.test", allow_http=True, proxy=f"http://{user}@127.0.0.1:{proxy.port}/"
        ) as thor,
    ):
        await thor.stop_charge(command)
    encoded = base64.b64encode(credentials).decode()
    assert f"\r\nProxy-Authorization: Basic {encoded}\r\n" in f"{proxy.one}\r\n"


async def test_a_plain_proxys_echo_shows_nothing_of_its_credentials(command: StopCharge) -> None:
    async with (
        Recorder(lambda request: answer(403, request)) as proxy,
        thor_at("http://thor.test", allow_http=True, proxy=by_way_of(proxy)) as thor,
    ):
        check_silent(await error_of(thor, command))


async def test_a_proxy_that_is_away_shows_nothing_of_its_credentials(command: StopCharge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with thor_at(
        "https://thor.test", proxy=f"http://{USER}:{PASSWORD}@127.0.0.1:{port}"
    ) as t:
        error = await error_of(t, command)
    check_silent(error)
    assert isinstance(error, NotSentError)


@pytest.mark.parametrize(
    "proxy",
    [
        f"socks5://u:{PASSWORD}@proxy.example",
        f"http://u:{PASSWORD}@",
        f"http://u:{PASSWORD}@proxy.example\r\nX-Evil: 1",
        f"http://u:{PASSWORD}@proxy.example:99999",
        f"u:{PASSWORD}@proxy.example",
        "",
        b"http://proxy.example",
    ],
)
def test_a_bad_proxy_is_refused_without_showing_it(proxy: Any) -> None:
    with pytest.raises(ValueError, match="proxy must be an address like") as refused:
        ThorClient(KEY, proxy=proxy)
    check_silent(refused.value)


# injection

BAD_KEYS = [
    f"{KEY}\r\nX-Evil: 1",
    f"{KEY}\n",
    f" {KEY}",
    f"{KEY}\0",
    f"{KEY}\x7f",
    f"{KEY}\N{LATIN SMALL LETTER E WITH ACUTE}",
    f"{KEY}\N{LINE SEPARATOR}",
    f"{KEY} {KEY}",
    KEY.encode(),
    "",
]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_no_header_can_be_injected_by_the_key(
    key: Any, command: StopCharge, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="API key") as refused:
        ThorClient(key)
    check_silent(refused.value)
    if isinstance(key, str) and "\0" not in key:
        monkeypatch.setenv("THOR_API_KEY", key)
        with pytest.raises(ValueError, match="API key"):
            ThorClient()
    async with Recorder() as origin, thor_at(origin.url, api_key=lambda: key) as thor:
        with pytest.raises(ValueError, match="API key") as late:
            await thor.stop_charge(command)
        check_silent(late.value)
        (outcome,) = await thor.stop_many([command])
        assert isinstance(outcome.error, NotSentError)
        assert KEY not in shown(outcome.error)
        assert origin.connections == 0


@pytest.mark.parametrize("bad", ["a\r\nERROR forged", "a\x1b[2J", "a\u2028b", "a\x85b", "a\0"])
def test_no_log_line_can_be_forged_by_a_chargebox(bad: str) -> None:
    with pytest.raises(ValueError, match="control characters") as refused:
        StopCharge(bad, 1, TAG)
    assert str(refused.value).isprintable()


FORGED = "a\r\n2026 ERROR forged\x1b[2J\u2028\u202e\x85\0\ud800"


@pytest.mark.parametrize(
    "reply",
    [
        answer(400, msgspec.json.encode({"message": FORGED[:-1] + "x" * 9000})),
        answer(400, rb'{"message": "\ud800\u001b[2J' + b"x" * 9000 + b'"}'),
        answer(500, FORGED[:-1].encode() + b"\xff" * 9000),
        answer(429, b"", "Content-Type: text/\x1b[2J" + "x" * 5000),
        answer(503, b"", "Content-Type: text/\xe9\x9b"),
        answer(400, b"").replace(b"Said", b"\x1b[2J\xff" + b"x" * 5000),
        answer(302, b"", "Location: /\x1b[2J"),
        b"HTTP/1.1 \x1b[2J forged\r\n\r\n",
        b"\x1b[2J" * 50 + b"\r\n\r\n",
    ],
)
async def test_text_from_the_server_is_escaped_and_cut(reply: bytes, command: StopCharge) -> None:
    async with Recorder(reply) as origin, thor_at(origin.url) as thor:
        error = await error_of(thor, command)
    for text in (str(error), error.message, str(error.code)):
        assert text.isprintable()
    prefix = f"Thor answered {error.status}: "
    assert len(error.message.removeprefix(prefix)) <= 200


# the errors of connections that fail


def echo_as(status: int, form: str) -> Callable[[bytes], bytes]:
    """Returns a reply that repeats the whole request, as debugging servers and firewalls do."""

    def reply(request: bytes) -> bytes:
        text = request.decode()
        bodies = {
            "text": request,
            "message": msgspec.json.encode({"message": text}),
            "nested": msgspec.json.encode({"error": {"code": "Odd", "message": text}}),
            "headers": msgspec.json.encode({"headers": text, "message": KEY, "code": TAG}),
            "string": msgspec.json.encode(text),
            "cut": b"-" * 185 + request.partition(b"X-Api-Key: ")[2],
            "body": b"bad: " + request.partition(b"\r\n\r\n")[2],
            "head": b"",
        }
        secrets = {"Content-Type": f"a/{KEY}; b={TAG}", "Retry-After": KEY, "X-Key": KEY}
        headers = [f"{name}: {value}" for name, value in secrets.items()]
        return answer(status, bodies[form], *(headers if form == "head" else []))

    return reply


ECHOES = ["text", "message", "nested", "headers", "string", "cut", "body", "head"]


@pytest.mark.parametrize("form", ECHOES)
@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
async def test_a_server_that_echoes_the_request_puts_no_secret_into_the_error(
    status: int, form: str, command: StopCharge
) -> None:
    async with Recorder(echo_as(status, form)) as origin, thor_at(origin.url) as thor:
        error = await error_of(thor, command)
        check_silent(error)
        (outcome,) = await thor.stop_many([command])
    written = msgspec.json.encode(outcome.record()).decode() + repr(outcome)
    assert KEY not in written
    assert TAG not in written


@pytest.mark.parametrize("tag", ['5e"cret\\tag', "s/ecr\N{LATIN SMALL LETTER E WITH ACUTE}t"])
@pytest.mark.parametrize("form", ["text", "body", "message"])
async def test_a_tag_is_masked_also_in_the_form_that_json_gives_it(form: str, tag: str) -> None:
    """JSON escapes some of its characters: an echo of the raw body has it in that form."""
    command = StopCharge("EaJ7cU9NJ3YkTNgy", 2, tag, 52)
    async with Recorder(echo_as(400, form)) as origin, thor_at(origin.url) as thor:
        error = await error_of(thor, command)
    check_silent(error, tag, msgspec.json.encode(tag).decode()[1:-1])


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (None, ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n", UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\n" + f"{KEY}\0: {TAG}\r\n\r\n".encode(), UnexpectedResponse),
        (f"{KEY} {TAG}\r\n\r\n".encode(), UnexpectedResponse),
        (answer(302, b"", f"Location: /?{KEY}&{TAG}"), UnexpectedResponse),
        (answer(200, f"<html>{KEY} {TAG}</html>".encode()), UnexpectedResponse),
        (answer(200, b"{}", "Transfer-Encoding: chunked"), UnexpectedResponse),
        (answer(299, f"{KEY} {TAG}".encode()), UnexpectedResponse),
    ],
)
@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
async def test_a_connection_that_fails_puts_no_secret_into_the_error(
    reply: bytes | None, expected: type[ThorError], given: bool, command: StopCharge
) -> None:
    async with (
        Recorder(reply) as origin,
        aiohttp.ClientSession() as session,
        thor_at(origin.url, session=session if given else None) as thor,
    ):
        error = await error_of(thor, command)
        assert type(error) is expected
        check_silent(error)
        (outcome,) = await thor.stop_many([command])
        assert outcome.error is not None
        check_silent(outcome.error)


async def test_a_connection_that_is_never_made_puts_no_secret_into_the_error(
    authority: trustme.CA, command: StopCharge
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with Recorder(tls=serving(authority, "thor.test")) as other_name, Recorder() as plain:
        urls = [refusing, other_name.url, plain.url.replace("http", "https")]
        for url in urls:
            async with thor_at(url, ssl=trusting(authority)) as thor:
                error = await error_of(thor, command)
                assert isinstance(error, NotSentError)
                check_silent(error)
        assert other_name.requests == plain.requests == []


# logs


async def test_no_log_has_a_secret_even_when_everything_is_logged(
    authority: trustme.CA, command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a loop in debug mode, which logs every step with its arguments."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    for name in (
        "asyncio",
        "aiohttp.client",
        "aiohttp.internal",
        "aiohttp.connector",
        "thor_async",
    ):
        caplog.set_level(logging.DEBUG, name)
    odd = [answer(), NOT_RUNNING, answer(500), b"junk\r\n\r\n", None, echo_as(500, "text")]
    for reply in odd:
        async with Recorder(reply) as origin, thor_at(origin.url) as thor:
            await thor.stop_many([command] * 2)
    loop.set_debug(False)  # in it the test's own server complains of the handshake
    async with Recorder(tls=serving(authority)) as untrusted, thor_at(untrusted.url) as thor:
        await thor.stop_many([command])
    assert caplog.records  # the loop's own
    for record in caplog.records:
        line = logging.Formatter().format(record)
        assert KEY not in line
        assert TAG not in line


# local variables


RUNNING = {"id": 52, "chargebox": "EaJ7cU9NJ3YkTNgy", "connector": 2, "id_tag": TAG}
LISTED = answer(200, msgspec.json.encode({"count": 1, "items": [RUNNING]}))


class Stalling(Recorder):
    """Begins its answer to one method as given, and ends it only when it is left."""

    def __init__(self, method: str, begin: Callable[[bytes], bytes]) -> None:
        super().__init__(LISTED)
        self._method = method.encode()
        self._begin = begin
        self._is_left = asyncio.Event()

    def is_reached(self) -> bool:
        return any(request.startswith(self._method) for request in self.requests)

    async def __aexit__(self, *exc_info: object) -> None:
        self._is_left.set()
        await super().__aexit__(*exc_info)

    async def answer(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not request.startswith(self._method):
            writer.write(LISTED)
            return
        writer.write(self._begin(request))
        await self._is_left.wait()


def echo_in_part(request: bytes) -> bytes:
    """Returns the head of an answer of 9,000 bytes, and the first of them: the request."""
    return answer(500, request + b"-" * 9000, f"X-Echo: {KEY} {TAG}")[:-9000]


class KeptEvents(sentry_sdk.transport.Transport):
    """Keeps what a real transport would send to Sentry."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.events: list[Any] = []

    def capture_envelope(self, envelope: sentry_sdk.envelope.Envelope) -> None:
        self.events += [item.payload.json for item in envelope.items]


def printed_by_sentry(error: BaseException) -> str:
    kept = KeptEvents()
    options: Any = {"transport": kept, "default_integrations": False}
    with sentry_sdk.Client("http://public@127.0.0.1:9/1", **options) as client:
        client.capture_event(*event_from_exception(error, client.options))
    (event,) = kept.events
    return msgspec.json.encode(event).decode()


def printed_by_loguru(error: BaseException) -> str:
    lines = io.StringIO()
    loguru.logger.remove()
    handler = loguru.logger.add(lines)
    loguru.logger.opt(exception=error).error("a stop failed")
    loguru.logger.remove(handler)
    return lines.getvalue()


def printed_by_rich(error: BaseException) -> str:
    lines = io.StringIO()
    shows_all: Any = {"show_locals": True, "locals_max_length": 99, "locals_max_string": 9999}
    found = rich.traceback.Traceback.from_exception(
        type(error), error, error.__traceback__, **shows_all
    )
    rich.console.Console(file=lines, width=9999).print(found)
    return lines.getvalue()


def check_no_local_shows_a_secret(error: BaseException) -> None:
    """Checks the local variables of all frames, as trackers of errors and loggers print them."""
    by_stdlib = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = {
        "stdlib": "".join(by_stdlib.format()),
        "rich": printed_by_rich(error),
        "loguru": printed_by_loguru(error),
        "sentry": printed_by_sentry(error),
    }
    for name, text in texts.items():
        assert "Error" in text, name
        assert KEY not in text, name
        assert TAG not in text, name


Call = Callable[[ThorClient, StopCharge], Awaitable[object]]


async def read_stream(thor: ThorClient, command: StopCharge) -> None:
    async with thor.stop_stream([command]) as stream:
        async for _ in stream:
            pass


CALLS: dict[str, Call] = {
    "stop": lambda thor, command: thor.stop_charge(command),
    "pinned": lambda thor, command: thor.stop_charge(command, pin=True),
    "many": lambda thor, command: thor.stop_many([command] * 3),
    "stream": read_stream,
    "confirm": lambda thor, command: thor.stop_and_confirm(command),
    "ensure": lambda thor, command: thor.ensure_stopped(command),
    "list": lambda thor, _: thor.running_charges(),
    "look": lambda thor, command: thor.stop_charge(command, pin=True),
}


LOOKS = ("list", "look")
"""These are ended while they wait for a list, the others while they wait for their stop."""


async def end_by_timeout(call: Awaitable[object], begun: Callable[[], object]) -> None:
    async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
        group.create_task(expire_when(begun, limit))
        await call


async def expire_when(begun: Callable[[], object], limit: asyncio.Timeout) -> None:
    await wait_until(begun)
    await asyncio.sleep(0.02)  # what was sent of an answer has arrived
    limit.reschedule(asyncio.get_running_loop().time())


async def end_by_wait_for(call: Awaitable[object], begun: Callable[[], object]) -> None:
    await asyncio.wait_for(call, 0.2)


async def end_by_group(call: Awaitable[object], begun: Callable[[], object]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail_when(begun))
        await call


async def fail_when(begun: Callable[[], object]) -> None:
    await wait_until(begun)
    raise LookupError("Error of another task")


@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
@pytest.mark.parametrize("begin", [lambda _: b"", echo_in_part], ids=["silent", "echo"])
@pytest.mark.parametrize(
    ("call", "end"),
    [("stop", end_by_wait_for), ("stop", end_by_group), *((n, end_by_timeout) for n in CALLS)],
)
async def test_no_local_variable_of_a_call_that_is_ended_shows_key_or_tag(
    call: str, end: Any, begin: Any, given: bool
) -> None:
    is_pinned = call in ("pinned", "look", "ensure")
    command = StopCharge("EaJ7cU9NJ3YkTNgy", 2, TAG, None if is_pinned else 52)
    async with (
        Stalling("GET" if call in LOOKS else "POST", begin) as origin,
        aiohttp.ClientSession() as session,
        thor_at(origin.url, session=session if given else None) as thor,
    ):
        with pytest.raises((TimeoutError, ExceptionGroup)) as ended:
            await end(CALLS[call](thor, command), origin.is_reached)
        check_no_local_shows_a_secret(ended.value)


@pytest.mark.parametrize("call", ["stop", "confirm"])
async def test_no_local_variable_of_an_error_of_thor_shows_key_or_tag(
    call: str, command: StopCharge
) -> None:
    async with Recorder(echo_as(403, "text")) as origin, thor_at(origin.url) as thor:
        with pytest.raises(ThorError) as refused:
            await CALLS[call](thor, command)
        check_no_local_shows_a_secret(refused.value)
