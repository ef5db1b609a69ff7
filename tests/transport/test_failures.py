"""What is raised in a given session by something that is not aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import aiohttp.abc
import pytest

from tests.conftest import KEY, TAG, shown
from thor_async import ConnectionLost, NotSentError, StopCharge, ThorClient, ThorError, Verdict

from ..fault_server import FaultServer, read, refusing_port
from .test_connections import OK


class ForeignError(Exception):
    """No class of aiohttp's. Its text may hold anything."""


class ForeignOSError(OSError):
    """As python-socks raises."""


FOREIGN = [ForeignError, ForeignOSError, ValueError, LookupError, RuntimeError]
Raise = Callable[..., Any]
EARLY = [
    "on_request_start",
    "on_connection_create_start",
    "on_connection_create_end",
    "on_dns_resolvehost_start",
    "on_dns_resolvehost_end",
    "on_dns_cache_miss",
]
LATE = [
    "on_request_headers_sent",
    "on_request_chunk_sent",
    "on_request_end",
]


def raiser(error_class: type[Exception]) -> Raise:
    async def fail(*_: Any, **__: Any) -> Any:
        # As an OSError, the second is its reason.
        raise error_class(1, f"{KEY} {TAG}")

    return fail


class Loopback(aiohttp.abc.AbstractResolver):
    """Knows every host."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        at = {"hostname": host, "host": "127.0.0.1", "port": port, "family": 2}
        return [at | {"proto": 0, "flags": 0}]

    async def close(self) -> None: ...


def session_with_hook(name: str, fail: Raise) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    getattr(trace, name).append(fail)
    connector = aiohttp.TCPConnector(resolver=Loopback())
    return aiohttp.ClientSession(connector=connector, trace_configs=[trace])


async def error_through(
    session: aiohttp.ClientSession, url: str, command: StopCharge
) -> ThorError | None:
    async with session, ThorClient(KEY, base_url=url, session=session, allow_http=True) as thor:
        try:
            await thor.stop_charge(command)
        except ThorError as raised:
            error = raised
        else:
            return None
    assert KEY not in shown(error)
    assert TAG not in shown(error)
    assert error.__cause__ is error.__context__ is None
    return error


def check_unsent(error: ThorError | None, cause: type[Exception]) -> None:
    assert isinstance(error, NotSentError)
    assert error.reason in ("connect", "dns")
    assert cause.__name__ in error.message


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("hook", EARLY)
async def test_a_hook_that_fails_before_there_is_a_connection_sends_nothing(
    command: StopCharge, hook: str, foreign: type[Exception]
) -> None:
    async with FaultServer([read, OK]) as server:
        url = f"http://thor.test:{server.port}"
        error = await error_through(session_with_hook(hook, raiser(foreign)), url, command)
    check_unsent(error, foreign)
    assert server.requests == []


@pytest.mark.parametrize("foreign", [ForeignError, ForeignOSError, LookupError])
@pytest.mark.parametrize("hook", LATE)
async def test_a_hook_that_fails_later_leaves_it_open(
    command: StopCharge, hook: str, foreign: type[Exception]
) -> None:
    async with FaultServer([read, OK]) as server:
        error = await error_through(session_with_hook(hook, raiser(foreign)), server.url, command)
    assert type(error) is ConnectionLost
    assert error.verdict is Verdict.INDETERMINATE


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_resolver_that_fails_sends_nothing(
    command: StopCharge, foreign: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loopback, "resolve", raiser(foreign))
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Loopback()))
    error = await error_through(session, "http://thor.test", command)
    assert isinstance(error, NotSentError)
    # To aiohttp any OSError of a resolver is an unknown host.
    assert error.reason == ("dns" if issubclass(foreign, OSError) else "connect")


@pytest.mark.parametrize("name", ["connect", "_create_connection"])
@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_connector_that_fails_sends_nothing(
    command: StopCharge, foreign: type[Exception], name: str
) -> None:
    class Foreign(aiohttp.TCPConnector):
        """A connector through some tunnel."""

    setattr(Foreign, name, raiser(foreign))
    session = aiohttp.ClientSession(connector=Foreign())
    with refusing_port() as url:
        check_unsent(await error_through(session, url, command), foreign)


async def test_a_hook_for_failures_that_fails_itself_hides_none(command: StopCharge) -> None:
    session = session_with_hook("on_request_exception", raiser(ForeignError))
    with refusing_port() as url:
        error = await error_through(session, url, command)
    assert isinstance(error, NotSentError)
    assert error.message.startswith("could not connect: ")
    session = session_with_hook("on_request_exception", raiser(ForeignError))
    async with FaultServer([read, abort]) as server:
        assert type(await error_through(session, server.url, command)) is ConnectionLost
    assert len(server.requests) == 1


async def abort(line: Any) -> None:
    line.writer.transport.abort()


async def test_a_late_hook_that_cannot_connect_elsewhere_is_late(command: StopCharge) -> None:
    """What it raises has come through the connector too, but after the stop was answered."""
    with refusing_port() as elsewhere:

        async def tell(session: aiohttp.ClientSession, *_: Any) -> None:
            connector = session.connector
            assert connector is not None
            inner = aiohttp.ClientSession(connector=connector, connector_owner=False)
            async with inner:
                try:
                    await inner.get(elsewhere)
                except aiohttp.ClientError as error:
                    raise ForeignError from error

        async def connect_badly(*_: Any) -> Any:
            raise ForeignError

        class Foreign(aiohttp.TCPConnector):
            calls = 0

            async def connect(self, *args: Any, **options: Any) -> Any:
                self.calls += 1
                if self.calls > 1:
                    await connect_badly()
                return await super().connect(*args, **options)

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(tell)
        session = aiohttp.ClientSession(connector=Foreign(), trace_configs=[trace])
        async with FaultServer([read, OK]) as server:
            assert type(await error_through(session, server.url, command)) is ConnectionLost
    assert len(server.requests) == 1


async def test_one_failure_of_a_hook_ends_no_batch(command: StopCharge) -> None:
    failing = iter([True, False])

    async def fail_once(*_: Any) -> None:
        if next(failing, False):
            raise ForeignError

    async with (
        FaultServer([read, OK]) as server,
        session_with_hook("on_request_start", fail_once) as session,
        ThorClient(KEY, base_url=server.url, session=session, max_in_flight=1) as thor,
    ):
        outcomes = await thor.stop_many([StopCharge("box", 1, TAG, n) for n in range(1, 6)])
    assert [outcome.verdict for outcome in outcomes] == ["not_sent"] + ["relayed"] * 4


async def test_a_cancellation_is_no_failure_of_the_session(command: StopCharge) -> None:
    entered = asyncio.Event()

    async def wait(*_: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    with refusing_port() as url:
        session = session_with_hook("on_request_start", wait)
        stop = asyncio.create_task(error_through(session, url, command))
        await entered.wait()
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
