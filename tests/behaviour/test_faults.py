"""The verdict on one command for each fault of a hostile network or a sick Thor."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import gzip
import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import aiohttp
import aiohttp.abc
import aiohttp.connector
import aiohttp.http_parser
import msgspec
import pytest
import trustme
import uvloop

from tests.conftest import KEY, TAG, new_fast_loop, shown
from tests.fault_server import (
    FaultServer,
    Line,
    Script,
    black_hole,
    close,
    deaf,
    dribble,
    fin,
    flood,
    in_thread,
    read,
    refusing_port,
    rst,
)
from thor_async import (
    ChargeboxNotFound,
    ConnectionLost,
    InternalServerError,
    NotSentError,
    RejectedError,
    ResponseTimeout,
    RetryPolicy,
    ServerError,
    StopCharge,
    ThorClient,
    ThorError,
    UnexpectedResponse,
    Verdict,
)

PROMPT = 10.0
"""An attempt_timeout in seconds that no test should reach."""
SHORT = 0.5
"""An attempt_timeout in seconds that is meant to be reached."""
PATIENT = 20.0
"""An attempt_timeout in seconds for many clients at once."""
SLACK = 4.0
"""Seconds that a busy machine may add."""

eager = functools.partial(RetryPolicy, initial_delay=0.001, max_delay=0.002)
EAGER = eager(retry_not_sent=True, retry_throttled=True)
"""Retries whatever an option allows, so that a test sees what is never retried."""

IS_PURE_PARSER = bool(os.environ.get("AIOHTTP_NO_EXTENSIONS"))
"""Whether this run uses aiohttp's parser in Python (row T28)."""

Run = Callable[[Coroutine[Any, Any, object]], None]
Samples = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _old_objects_are_no_garbage() -> Iterator[None]:
    """Each test collects twice: with all imported objects that would take most of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
if os.environ.get("THOR_TESTS_LOOP") == "aiofastnet":
    LOOPS = {"aiofastnet": new_fast_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a case on a loop of that kind; fails if the case leaves a task or an exception."""
    new_loop = LOOPS[request.param]

    def run(case: Coroutine[Any, Any, object]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_watch(case))

    return run


async def _watch(case: Coroutine[Any, Any, object]) -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    if "aiofastnet" in LOOPS:  # it tells the handler of each handshake that fails
        told = {"message": "SSL handshake failed"}
        loop.set_exception_handler(
            lambda _, context: (
                None if told.items() <= context.items() else complaints.append(context)
            )
        )
    await case
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    assert not complaints


def over(samples: Samples) -> pytest.MarkDecorator:
    """Makes one test of each sample, by its name."""
    return pytest.mark.parametrize("sample", samples.values(), ids=samples.keys())


def stop_of(number: int) -> StopCharge:
    return StopCharge("EaJ7cU9NJ3YkTNgy", 2, TAG, number)


async def stop(thor: ThorClient, number: int = 1) -> ThorError | None:
    """Sends one stop; returns its error, which must show no secret, or None if it was relayed."""
    try:
        outcome = await thor.stop_charge(stop_of(number))
    except ThorError as raised:
        error = raised
    else:
        assert (outcome.verdict, outcome.attempts) == (Verdict.RELAYED, 1)
        return None
    _check_shown(error)
    assert error.maybe_applied == (error.verdict is Verdict.INDETERMINATE)
    return error


def _check_shown(error: ThorError) -> None:
    assert KEY not in shown(error)
    assert TAG not in shown(error)
    assert KEY.encode() not in pickle.dumps(error)
    assert error.__context__ is None
    assert error.message.isprintable()
    assert len(error.message) < 250
    error.message.encode()


def client(url: str, attempt_timeout: float = PROMPT, **settings: Any) -> ThorClient:
    settings.setdefault("retry", EAGER)
    return ThorClient(KEY, base_url=url, attempt_timeout=attempt_timeout, **settings)


async def check(
    server: FaultServer,
    *errors: type[ThorError] | None,
    attempts: int = 1,
    requests: int | range | None = None,
    limit: float = PROMPT,
    **settings: Any,
) -> ThorError | None:
    """Checks that one stop ends with one of these errors, in time, and that the server agrees.

    `limit` is the attempt_timeout; SHORT: each attempt takes all of it. By default every attempt is
    one request.
    """
    async with server:
        started = time.monotonic()
        async with client(server.url, limit, **settings) as thor:
            error = await stop(thor)
            elapsed = time.monotonic() - started
        await asyncio.wait_for(server.emptied(), SLACK)
    assert (type(error) if error else None) in errors
    assert error is None or error.attempts == attempts or isinstance(requests, range)
    assert {(r.method, r.target) for r in server.requests} <= {("POST", "/charges/stop")}
    seen = attempts if requests is None else requests
    assert len(server.requests) in (seen if isinstance(seen, range) else (seen,))
    if limit == SHORT:
        assert attempts * limit * 0.9 < elapsed < attempts * limit + SLACK
    else:
        assert elapsed < PROMPT
    return error


async def each(samples: Samples, case: Callable[[Any], Coroutine[Any, Any, object]]) -> None:
    """Runs all samples at once; a failure names its sample."""
    results = await asyncio.gather(*map(case, samples.values()), return_exceptions=True)
    failed = {name: r for name, r in zip(samples, results, strict=True) if r is not None}
    bad = {name: r for name, r in failed.items() if isinstance(r, BaseException)}
    for name, failure in bad.items():
        failure.add_note(f"sample: {name}")
    if bad:
        raise BaseExceptionGroup("samples failed", list(bad.values()))


def answer(status: int | str, body: bytes = b"{}", *fields: str) -> bytes:
    """Returns a whole answer; `fields` are more header lines."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


OK = answer("200 OK")
BROKEN = answer("500 Internal Server Error", b'{"message": "InternalServerError"}')
UNKNOWN = answer("404 Not Found", b'{"message": "ChargeboxNotFound"}')
NOTHING_RUNS = answer("400 Bad Request", b'{"message": "NotInTransaction"}')


class Unknown(aiohttp.abc.AbstractResolver):
    """Knows no host."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    async def resolve(self, *_: Any, **__: Any) -> list[aiohttp.abc.ResolveResult]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def close(self) -> None: ...


class Unable(Unknown):
    """Reaches no server; some resolvers raise that without an errno."""

    async def resolve(self, *_: Any, **__: Any) -> list[aiohttp.abc.ResolveResult]:
        raise OSError(None, "DNS lookup failed")


class Hanging(Unknown):
    """Never answers."""

    async def resolve(self, *_: Any, **__: Any) -> list[aiohttp.abc.ResolveResult]:
        await asyncio.Event().wait()
        raise AssertionError


async def never_sent(
    url: str, reasons: set[str], attempt_timeout: float = PROMPT, **settings: Any
) -> None:
    """Checks that a stop is tried once, or three times by opt-in, and ends within its timeout."""
    for opted_in, attempts in ((False, 1), (True, 3)):
        policy = eager(retry_not_sent=opted_in)
        started = time.monotonic()
        async with client(url, attempt_timeout, retry=policy, **settings) as thor:
            error = await stop(thor)
        assert isinstance(error, NotSentError)
        assert error.reason in reasons
        assert (error.attempts, error.maybe_applied) == (attempts, False)
        assert time.monotonic() - started < attempts * attempt_timeout + SLACK


def test_t1_connection_refused(run: Run) -> None:
    with refusing_port() as url:
        run(never_sent(url, {"connect"}))


@pytest.mark.parametrize("resolver", [Unknown, Unable])
def test_t2_unknown_host(
    run: Run, resolver: type[Unknown], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", resolver)
    run(never_sent("https://thor.invalid", {"dns"}))


def test_t3_dns_hangs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", Hanging)
    run(never_sent("https://thor.invalid", {"dns", "connect"}, SHORT))


def test_t3_dns_hangs_in_a_given_session(run: Run) -> None:
    async def case() -> None:
        connector = aiohttp.TCPConnector(resolver=Hanging())
        async with aiohttp.ClientSession(connector=connector) as session:
            await never_sent("https://thor.invalid", {"dns", "connect"}, SHORT, session=session)

    run(case())


def test_t4_no_answer_to_a_syn(run: Run) -> None:
    with black_hole() as url:
        run(never_sent(url, {"connect"}, SHORT))


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


@functools.cache
def certified() -> ssl.SSLContext:
    return _present(authority().issue_cert("127.0.0.1"))


def _present(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _untrusted() -> ssl.SSLContext:
    return _present(trustme.CA().issue_cert("127.0.0.1"))


def _expired() -> ssl.SSLContext:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    start = yesterday - timedelta(days=1)
    return _present(authority().issue_cert("127.0.0.1", not_before=start, not_after=yesterday))


def _wrong_host() -> ssl.SSLContext:
    return _present(authority().issue_cert("thor.example", "127.0.0.2"))


@pytest.mark.parametrize("served", [_untrusted, _expired, _wrong_host])
def test_t5_tls_that_cannot_be_trusted(run: Run, served: Callable[[], ssl.SSLContext]) -> None:
    async def case() -> None:
        server = FaultServer([read, OK], tls=served())
        error = await check(server, NotSentError, requests=0, ssl=trusting())
        assert isinstance(error, NotSentError)
        assert error.reason == "tls"

    run(case())


DROPS: Samples = {"fin": fin, "close": close, "rst": rst}
T6: Samples = {
    "answers 400": [answer("400 Bad Request"), close],
    "answers 400 with a page": [answer("400 The plain HTTP request", b"<html>" * 99), fin],
    "answers 200": [OK],
    "greets": [b"220 mail.example ESMTP\r\n"],
    "alert": [b"\x15\x03\x01\x00\x02\x02\x28", close],
}


@over(T6)
def test_t6_https_to_a_port_that_speaks_no_tls(run: Run, sample: Script) -> None:
    async def case() -> None:
        async with FaultServer(sample) as server:
            url = server.url.replace("http:", "https:")
            async with client(url, ssl=trusting()) as thor:
                error = await stop(thor)
            assert isinstance(error, NotSentError)
            assert (error.attempts, server.connections) == (1, 1)

    run(case())


@over(DROPS)
@pytest.mark.parametrize("after", [0, 0.02])
def test_t6_https_to_a_port_that_drops(run: Run, sample: Any, after: float) -> None:
    async def case() -> None:
        async with FaultServer([after, sample]) as server:
            url = server.url.replace("http:", "https:")
            await never_sent(url, {"connect"}, ssl=trusting())

    run(case())


def test_t6_https_to_a_port_that_is_silent(run: Run) -> None:
    async def case() -> None:
        async with FaultServer([]) as server:
            url = server.url.replace("http:", "https:")
            await never_sent(url, {"tls", "connect"}, SHORT)

    run(case())


@over(DROPS)
@pytest.mark.parametrize("after", [0, 0.01])
def test_t7_dropped_before_a_byte_was_read(run: Run, sample: Any, after: float) -> None:
    run(check(FaultServer([after, sample]), ConnectionLost, requests=0))


T8: Samples = {
    "never reads": [deaf(0.6)],
    "reads, never answers": [read],
    "reads, only continues": [read, b"HTTP/1.1 100 Continue\r\n\r\n"],
    "reads, sends an empty line": [read, b"\r\n"],
}


def test_t8_no_answer(run: Run) -> None:
    async def case(script: Script) -> None:
        requests = int(read in script)
        await check(FaultServer(script), ResponseTimeout, requests=requests, limit=SHORT)

    run(each(T8, case))


@over(DROPS)
@pytest.mark.parametrize("after", [0, 0.05])
def test_t9_dropped_once_the_request_was_read(run: Run, sample: Any, after: float) -> None:
    run(check(FaultServer([read, after, sample]), ConnectionLost))


T10: Samples = {
    repr(head)[-24:]: head
    for head in (
        b"H",
        b"HTTP/1.1",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2",
    )
}


@over(T10)
@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
def test_t10_dropped_within_the_head(run: Run, sample: bytes, drop: Any) -> None:
    run(check(FaultServer([read, sample, 0.01, drop]), ConnectionLost))


@pytest.mark.parametrize("every", [0.3, 0.05])
def test_t11_slow_head(run: Run, every: float) -> None:
    run(check(FaultServer([read, dribble(OK, every)]), ResponseTimeout, limit=SHORT))


@pytest.mark.parametrize("body", [BROKEN, answer(500, b""), answer(503, b"x" * 60_000)])
def test_t12_whole_500_then_reset(run: Run, body: bytes) -> None:
    either = (ServerError, InternalServerError, ConnectionLost)
    run(check(FaultServer([read, body, rst]), *either, requests=range(1, 4)))


T13: Samples = {
    "no status": b"HTTP/1.1\r\n\r\n",
    "word for status": b"HTTP/1.1 OK 200\r\n\r\n",
    "status 99": b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "status 2000": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 0200": b"HTTP/1.1 0200 OK\r\nContent-Length: 0\r\n\r\n",
    "status -200": b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n",
    "status 4": b"HTTP/1.1 4 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "full-width status": "HTTP/1.1 \uff12\uff10\uff10 OK\r\nContent-Length: 0\r\n\r\n".encode(),
    "HTTP/0.9, html": b"<html>portal</html>",
    "HTTP/0.9, json": b'{"message": "NotInTransaction"}',
    "HTTP/0.9, 200": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/0.9, 400": b"HTTP/0.9 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "ICE": b"ICE/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "a tab": b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n",
    "a vertical tab": b"HTTP/1.1\x0b200 OK\r\nContent-Length: 0\r\n\r\n",
    "a space before": b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a BOM before": b"\xef\xbb\xbfHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.10": b"HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no space after the status": b"HTTP/1.1 200OK\r\nContent-Length: 0\r\n\r\n",
    "not whole": b"HTTP/1.1 OK",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "NUL": bytes(64),
    "key echoed": f"HTTP/1.1 {KEY} {TAG}\r\n\r\n".encode(),
}


@over(T13)
@pytest.mark.parametrize("end", [[], [0.01, fin], [0.01, rst]], ids=["open", "fin", "rst"])
def test_t13_garbage(run: Run, sample: bytes, end: Script) -> None:
    run(check(FaultServer([read, sample, *end]), UnexpectedResponse))


def test_t13_garbage_in_two_packets(run: Run) -> None:
    async def case(sample: bytes) -> None:
        await check(FaultServer([read, sample[:4], 0.05, sample[4:]]), UnexpectedResponse)

    run(each(T13, case))


T14: Samples = {
    "word": "Content-Length: abc",
    "negative": "Content-Length: -5",
    "plus": "Content-Length: +2",
    "fraction": "Content-Length: 2.0",
    "hex": "Content-Length: 0x2",
    "underscore": "Content-Length: 1_0",
    "huge": f"Content-Length: {'9' * 30}",
    "2**64": f"Content-Length: {2**64}",
    "2**64 - 1": f"Content-Length: {2**64 - 1}",
    "2**63": f"Content-Length: {2**63}",
    "empty": "Content-Length:",
    "full-width": "Content-Length: \xb2",
    "list": "Content-Length: 2, 2",
    "two words": "Content-Length: 2 2",
    "folded": "Content-Length: 2\r\n 0",
    "NUL": "Content-Length: 2\0",
    "twice": "Content-Length: 2\r\nContent-Length: 3",
    "twice the same": "Content-Length: 2\r\nContent-Length: 2",
    "twice, not side by side": "Content-Length: 2\r\nX-A: b\r\ncontent-length: 2",
    "twice, once empty": "Content-Length: 2\r\nContent-Length:",
    "twice, bare LF": "Content-Length: 2\nContent-Length: 3",
    "with chunked": "Content-Length: 2\r\nTransfer-Encoding: chunked",
    "chunked with": "Transfer-Encoding: chunked\r\nContent-Length: 2",
    "with identity": "Content-Length: 2\r\nTransfer-Encoding: identity",
    "with no coding": "Content-Length: 2\r\nTransfer-Encoding:",
    "chunked, not last": "Transfer-Encoding: chunked, identity",
    "chunked, nothing": "Transfer-Encoding: chunked,",
    "not ASCII": "Transfer-Encoding: chun\xe2\x84\xaaed",
}
T14_CHUNKED: Samples = {
    "twice": "Transfer-Encoding: chunked, chunked",
    "in two fields": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "in the second field": "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    "in the first field": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "with a length": "Transfer-Encoding: chunked\r\nContent-Length: 2",
}


@over(T14)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_t14_content_length_that_cannot_be_meant(run: Run, sample: str, status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\n{sample}\r\n\r\n".encode("latin-1")
    run(check(FaultServer([read, head + b"{}", 0.01, fin]), UnexpectedResponse))


@over(T14_CHUNKED)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_t14_chunked_body_with_an_ambiguous_end(run: Run, sample: str, status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\n{sample}\r\n\r\n".encode()
    run(check(FaultServer([read, head + b"2\r\n{}\r\n0\r\n\r\n"]), UnexpectedResponse))


T15: Samples = {
    "long value": "X-Long: " + "x" * 9_000,
    "very long value": "X-Long: " + "x" * 300_000,
    "long name": "x" * 9_000 + ": 1",
    "5,000 headers": "\r\n".join(f"X-{n}: {n}" for n in range(5_000)),
    "NUL in a value": "X-Nul: a\0b",
    "NUL in a name": "X-N\0l: a",
    "no colon": "X-None",
    "blank in a name": "X None: 1",
    "no name": ": 1",
}


@over(T15)
@pytest.mark.parametrize("status", [200, 400])
def test_t15_headers_that_no_server_means(run: Run, sample: str, status: int) -> None:
    run(check(FaultServer([read, answer(status, b"{}", sample)]), UnexpectedResponse))


CUT: Samples = {
    "short": b"Content-Length: 100\r\n\r\n{",
    "empty": b"Content-Length: 1\r\n\r\n",
    "before a chunk": b"Transfer-Encoding: chunked\r\n\r\n",
    "within a chunk": b"Transfer-Encoding: chunked\r\n\r\na\r\n{}",
    "within a chunk's size": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n1",
    "before the last chunk": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "within the last chunk": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
}
BAD_CHUNK = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nxyz\r\n"


@over(CUT)
@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
def test_t16_500_with_a_body_cut_short(run: Run, sample: bytes, drop: Any) -> None:
    head = b"HTTP/1.1 500 Internal Server Error\r\n"
    run(check(FaultServer([read, head + sample, 0.02, drop]), ServerError, attempts=3))


def test_t16_500_with_a_bad_chunk_later(run: Run) -> None:
    """aiohttp's parser in C does not report it to the reader, so the attempt takes all its time."""
    head, tail = BAD_CHUNK[:-5], BAD_CHUNK[-5:]
    script: Script = [read, b"HTTP/1.1 500 X\r\n" + head, 0.05, tail]
    limit = PROMPT if IS_PURE_PARSER else SHORT
    run(check(FaultServer(script), ServerError, attempts=3, limit=limit))


T17: Samples = {
    "never ends": [b"Content-Length: 9\r\n\r\n{"],
    "never begins": [b"Content-Length: 9\r\n\r\n"],
    "no length": [b"\r\n{"],
    "dribbles": [b"Content-Length: 99\r\n\r\n", dribble(b"x" * 99, 0.05)],
    "chunks dribble": [b"Transfer-Encoding: chunked\r\n\r\n", dribble(b"1\r\nx\r\n" * 99, 0.02)],
}


def test_t17_500_with_a_body_that_never_ends(run: Run) -> None:
    async def case(body: Script) -> None:
        script = [read, b"HTTP/1.1 500 Internal Server Error\r\n", *body]
        await check(FaultServer(script), ServerError, attempts=3, limit=SHORT)

    run(each(T17, case))


def _bomb() -> bytes:
    return gzip.compress(bytes(32 << 20), 9)


MIB = bytes(1 << 20)
T18: Samples = {
    "1 GiB": ("Content-Length: 1073741824", flood(MIB[:65_536], 16_384)),
    "1 GiB in one chunk": ("Transfer-Encoding: chunked", b"40000000\r\n", flood(MIB, 1024)),
    "1 GiB without a length": ("X-None: 0", flood(MIB, 1024)),
    "small chunks": (
        "Transfer-Encoding: chunked",
        flood(b"20\r\n%b\r\n" % bytes(32) * 2_000, 1024),
    ),
    "invalid gzip": ("Content-Encoding: gzip\r\nContent-Length: 9", b"\x1f\x8b\x08junk!!"),
    "no gzip": ("Content-Encoding: gzip\r\nContent-Length: 2", b"{}"),
    "unknown encoding": ("Content-Encoding: zstd, br\r\nContent-Length: 2", b"{}"),
    "gzip bomb": ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked", _bomb),
}


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails if the block needs more than 2 MB."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - before < 2_000_000


@over(T18)
def test_t18_500_with_a_body_too_large(run: Run, sample: Any) -> None:
    fields, *body = sample
    if body == [_bomb]:
        bomb = _bomb()
        body = [f"{len(bomb):x}\r\n".encode() + bomb + b"\r\n0\r\n\r\n"]
    head = f"HTTP/1.1 500 X\r\n{fields}\r\n\r\n".encode()
    server = FaultServer([read, head, *body])

    async def case() -> None:
        with little_memory():
            await check(server, ServerError, attempts=3)

    run(case())


@over(CUT)
@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
def test_t19_200_cut_short(run: Run, sample: bytes, drop: Any) -> None:
    script = [read, b"HTTP/1.1 200 OK\r\n" + sample, 0.02, drop]
    run(check(FaultServer(script), UnexpectedResponse))


def test_t19_200_with_a_bad_chunk(run: Run) -> None:
    run(check(FaultServer([read, b"HTTP/1.1 200 OK\r\n" + BAD_CHUNK]), UnexpectedResponse))


@pytest.mark.parametrize(
    "size", ["+2", "-2", "0x2", "2_", "0_2", "2.0", "2,2", "x", "", "2\0", "1" + "0" * 16 + "2"]
)
def test_t19_200_with_a_bad_chunk_size(run: Run, size: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = size.encode() + b"\r\n{}\r\n0\r\n\r\n"
    run(check(FaultServer([read, head + body, 0.01, fin]), UnexpectedResponse))


def test_t19_200_that_stalls(run: Run) -> None:
    async def case(body: bytes) -> None:
        script: Script = [read, b"HTTP/1.1 200 OK\r\n" + body]
        await check(FaultServer(script), UnexpectedResponse, limit=SHORT)

    run(each(CUT, case))


PORTALS: Samples = {
    "by its first byte": answer(200, b"<!DOCTYPE html><title>Log in</title>"),
    "after blanks": answer(200, b"\r\n \t<html>", "Content-Type: application/json"),
    "after a BOM": answer(200, b"\xef\xbb\xbf<html>"),
    "in UTF-16": answer(200, "<html>".encode("utf-16")),
    "firewall": answer(200, b"<?xml version='1.0'?><blocked/>", "Content-Type: text/xml"),
}


@over(PORTALS)
def test_t20_200_from_a_portal(run: Run, sample: bytes) -> None:
    run(check(FaultServer([read, sample]), UnexpectedResponse))


RELAYS: Samples = {
    "OK": answer(200, b"OK"),
    "empty object": answer(200, b"{}"),
    "nothing": answer(200, b""),
    "null": answer(200, b"null"),
    "json": answer(200, b'{"status": "Accepted", "n": [1, 2]}', "Content-Type: application/json"),
    "a code": answer(200, b'{"message": "NotInTransaction"}'),
    "not UTF-8": answer(200, b"\xff\xfe\x80"),
    "nothing, as HTML": answer(200, b"", "Content-Type: text/html"),
    "OK, as HTML": answer(200, b"OK", "content-type: Text/HTML; charset=utf-8"),
    "not gzip": answer(200, b"OK", "Content-Encoding: gzip"),
    "after empty lines": b"\r\n\r\n" + answer(200, b"OK"),
    "a blank before the length": b"HTTP/1.1 200 OK\r\nContent-Length: \t2 \r\n\r\n{}",
    "zeros before the length": b"HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\n{}",
    "folded header": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n c\r\n\r\n{}",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}


@over(RELAYS)
def test_t20_200_is_a_relay_whatever_it_says(run: Run, sample: bytes) -> None:
    run(check(FaultServer([read, sample]), None))


T21: Samples = {
    "no length, closed": [b"HTTP/1.1 200 OK\r\n\r\n{}", 0.02, fin],
    "no length, no body": [b"HTTP/1.1 200 OK\r\n\r\n", close],
    "connection: close": [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nOK", close],
    "100, then 200": [b"HTTP/1.1 100 Continue\r\n\r\n" + OK],
    "many 100s at once": [b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + OK],
    "many 100s in packets": [flood(b"HTTP/1.1 100 Continue\r\n\r\n", 100), OK],
    "early hints": [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0.02, OK],
    "byte by byte": [dribble(OK, 0)],
}


@over(T21)
def test_t21_200_in_other_shapes(run: Run, sample: Script) -> None:
    run(check(FaultServer([read, *sample]), None))


@pytest.mark.parametrize("status", [101, 201, 202, 204, 206, 300, 304, 399, 408, 600, 999])
def test_t22_odd_status(run: Run, status: int) -> None:
    bodiless = status in (101, 204, 304)
    head = f"HTTP/1.1 {status} X\r\n\r\n".encode() if bodiless else answer(f"{status} X")
    run(check(FaultServer([read, head]), UnexpectedResponse))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("other_host", [False, True])
def test_t23_redirect(run: Run, status: int, *, other_host: bool) -> None:
    async def case() -> None:
        async with FaultServer([read, OK]) as other:
            to = f"{other.url}/charges/stop" if other_host else "/charges/stop"
            sent = answer(status, b"", f"Location: {to}")
            await check(FaultServer([read, sent, read, OK], [read, OK]), UnexpectedResponse)
            assert (other.connections, other.requests) == (0, [])

    run(case())


def numbers(server: FaultServer) -> list[int]:
    """Returns the transactions of all requests that the server saw."""
    return [msgspec.json.decode(request.body)["transaction"] for request in server.requests]


@over(DROPS)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_t24_idle_connection_closed(run: Run, sample: Any, *, secure: bool) -> None:
    tls = certified() if secure else None

    async def case() -> None:
        server = FaultServer([read, OK, 0.02, sample], [read, OK], tls=tls)
        async with server, client(server.url, ssl=trusting()) as thor:
            assert await stop(thor, 1) is None
            await asyncio.wait_for(server.emptied(), SLACK)
            await asyncio.sleep(0.05)
            assert await stop(thor, 2) is None
        assert (numbers(server), server.connections) == ([1, 2], 2)

    run(case())


@over(DROPS)
@pytest.mark.parametrize("whole", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_t25_kept_connection_reset(run: Run, sample: Any, *, whole: bool, secure: bool) -> None:
    """aiohttp sends idempotent methods again; it must not send a stop again."""
    second = [read] if whole else [_first_byte]
    tls = certified() if secure else None

    async def case() -> None:
        server = FaultServer([read, OK, *second, sample], [read, OK], tls=tls)
        async with server, client(server.url, ssl=trusting()) as thor:
            assert await stop(thor, 1) is None
            error = await stop(thor, 2)
            assert type(error) is ConnectionLost
            assert (error.attempts, server.connections) == (1, 1)
        assert numbers(server) == ([1, 2] if whole else [1])

    run(case())


async def _first_byte(line: Line) -> None:
    await line.reader.readexactly(1)


LATE = {
    200: (answer(200, b'{"unsolicited": true}'), UNKNOWN, ChargeboxNotFound),
    400: (NOTHING_RUNS, OK, None),
    408: (answer("408 Request Timeout", b"", "Connection: close"), OK, None),
}


def _pieces(whole: bytes) -> dict[str, Script]:
    """Returns ways in which an unsolicited answer arrives: whole or not, in one packet or more."""
    body = whole.index(b"\r\n\r\n") + 4
    return {
        "whole": [whole],
        "twice": [whole + whole],
        "and closed": [whole, fin],
        "in three packets": [whole[:12], 0.02, whole[12:body], 0.02, whole[body:]],
        "cut in the status line": [whole[:10]],
        "cut in the headers": [whole[: body - 6]],
        "cut before the body": [whole[:body]],
        "cut in the body": [whole[:-1]],
        "rest comes later": [whole[:20], 0.25, whole[20:]],
        "one byte": [b"H"],
        "empty line": [b"\r\n"],
    }


UNSOLICITED: Samples = {
    f"{status}, {name}": (pieces, truth, error)
    for status, (whole, truth, error) in LATE.items()
    for name, pieces in _pieces(whole).items()
}
over_tls_too = pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])


class UnsolicitedServer(FaultServer):
    """Answers, sends an unsolicited sample `delay` later, and gives the next request its answer."""

    def __init__(self, sample: Any, delay: float = 0.0, *, secure: bool) -> None:
        (first, *rest), truth, self.error = sample
        self.is_answer_read = False
        self.sample_sent = threading.Event()
        script: Script = [
            read,
            OK,
            self._wait_for_answer_read,
            delay,
            first,
            self._set_sample_sent,
            *rest,
            read,
            truth,
        ]
        super().__init__(script, [read, truth], tls=certified() if secure else None)

    def client(self) -> ThorClient:
        return client(self.url, PATIENT, ssl=trusting())

    async def first(self, thor: ThorClient) -> None:
        """Sends the first command. The sample follows later, in a packet of its own."""
        assert await stop(thor, 1) is None
        self.is_answer_read = True

    async def second(self, thor: ThorClient) -> None:
        """Checks that the second command gets its own answer, and that each was sent once."""
        error = await stop(thor, 2)
        assert (type(error) if error else None) is self.error
        assert numbers(self) == [1, 2]

    async def _wait_for_answer_read(self, _: Line) -> None:
        while not self.is_answer_read:
            await asyncio.sleep(0.002)

    async def _set_sample_sent(self, _: Line) -> None:
        self.sample_sent.set()


@over_tls_too
def test_t26_unsolicited_answer(run: Run, *, secure: bool) -> None:
    async def case(sample: Any) -> None:
        delay, unsolicited = sample
        async with (
            UnsolicitedServer(unsolicited, delay, secure=secure) as server,
            server.client() as thor,
        ):
            await server.first(thor)
            await asyncio.sleep(delay)
            # Never sent where the idle connection has been closed before.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    while not server.sample_sent.is_set():
                        await asyncio.sleep(0.01)
            await asyncio.sleep(0.15)
            await server.second(thor)

    delays = (0, 0.1, 0.9, 2.0)
    run(each({f"{n}, {d} s": (d, UNSOLICITED[n]) for n, d in product(UNSOLICITED, delays)}, case))


@over_tls_too
@pytest.mark.parametrize("blocked", [0, 0.03])
def test_t26_unread_after_the_loop_was_blocked(run: Run, blocked: float, *, secure: bool) -> None:
    servers = {
        name: UnsolicitedServer(sample, secure=secure) for name, sample in UNSOLICITED.items()
    }

    async def case(server: UnsolicitedServer) -> None:
        async with server.client() as thor:
            await server.first(thor)
            assert server.sample_sent.wait(5)
            time.sleep(blocked)
            await server.second(thor)

    async def one_by_one() -> None:
        for name, server in servers.items():
            await each({name: server}, case)

    with in_thread(*servers.values()):
        run(one_by_one())


@over(UNSOLICITED)
def test_t26_in_one_packet_with_an_answer(run: Run, sample: Any) -> None:
    """aiohttp may not see it; it must not be taken for the next answer."""
    (first, *rest), truth, error = sample
    server = FaultServer([read, OK + first, *rest, read, truth], [read, truth])

    async def case() -> None:
        async with server, client(server.url) as thor:
            assert type(await stop(thor, 1)) in (type(None), UnexpectedResponse)
            second = await stop(thor, 2)
            assert type(second) in (error or type(None), UnexpectedResponse)
        assert numbers(server) in ([1], [1, 2])

    run(case())


NOISE = b"\x1b[31m\xff\xfe\x80 \x07\xc2\x85 sch\xf6n"
BY_STATUS: Samples = {
    "200": (200, None, 1),
    "400": (400, RejectedError, 1),
    "500": (500, ServerError, 3),
}


@over(BY_STATUS)
@pytest.mark.parametrize(
    "noise",
    [
        b"\xff\xfe\x80",
        b"sch\xf6n",
        b"\x1b[31mred\x07",
        b"\xe2\x80\xae\xc2\x85\xe2\x80\xa8",
        f"{KEY} {TAG}".encode(),
        b"x" * 5_000,
        NOISE,
    ],
)
@pytest.mark.parametrize("where", ["reason", "header", "type", "retry-after"])
def test_t27_odd_bytes_in_the_head(run: Run, sample: Any, noise: bytes, where: str) -> None:
    status, expected, attempts = sample
    fields = {
        "reason": b"%d %b\r\n" % (status, noise),
        "header": b"%d X\r\nX-Weather: %b\r\n" % (status, noise),
        "type": b"%d X\r\nContent-Type: text/%b\r\n" % (status, noise),
        "retry-after": b"%d X\r\nRetry-After: %b\r\n" % (status, noise),
    }
    head = b"HTTP/1.1 " + fields[where] + b"Content-Length: 2\r\n\r\n{}"

    async def case() -> None:
        await check(FaultServer([read, head]), expected, attempts=attempts)

    run(case())


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J\x07\u202e\u2028\x85",
        "\ud800 \udfff",
        "x" * 5_000,
        "\0" * 5_000,
        f"the key {KEY} may not stop {TAG}",
        f"{'x' * 190}{KEY}{TAG}",
    ],
)
@pytest.mark.parametrize("status", [400, 503])
def test_t27_odd_text_in_the_body(run: Run, text: str, status: int) -> None:
    json = text.encode("unicode_escape").replace(b"\\x", b"\\u00")
    attempts = 3 if status == 503 else 1
    expected = ServerError if status == 503 else RejectedError

    async def case(body: bytes) -> None:
        await check(FaultServer([read, answer(status, body)]), expected, attempts=attempts)

    bodies = {"json": b'{"message": "%b"}' % json, "plain": text.encode("utf-8", "surrogatepass")}
    run(each(bodies, case))


def test_t28_uses_the_parser_that_the_environment_asks_for() -> None:
    parser = aiohttp.http_parser.HttpResponseParser
    assert (parser.__module__ == "aiohttp.http_parser") == IS_PURE_PARSER


@pytest.mark.skipif(IS_PURE_PARSER, reason="all of this file runs with the parser in Python")
def test_t28_rows_about_bytes_hold_with_the_parser_in_python() -> None:
    """These are the rows in which the parsers differ; CI runs the whole file with both."""
    rows = "t8 or garbage_in_two or t14 or bad_chunk or t20_200_is or t28"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # Not with the options of the run around it, which may measure the coverage of all tests.
    ran = subprocess.run(
        [*command, "-p", "no:xdist", "-k", f"({rows}) and not uvloop", __file__],
        env=os.environ | {"AIOHTTP_NO_EXTENSIONS": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4_000:]
