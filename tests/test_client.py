"""The life of a client: entering, leaving, use at the wrong time or place, its text, its copies."""

from __future__ import annotations

import asyncio
import copy
import inspect
import os
import pickle
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import pytest

from tests.conftest import KEY, TAG, wait_until
from tests.fake_transport import OK, FakeTransport, fleet
from thor_async import IndeterminateError, NotSentError, StopCharge, ThorClient, Verdict
from thor_async._config import STOP_ADDRESS
from thor_async.emulator import ScriptedAnswer, ThorEmulator

NO_THOR = "http://127.0.0.1:1"

USES: dict[str, Callable[[ThorClient, StopCharge], object]] = {
    "stop_charge": lambda thor, command: thor.stop_charge(command),
    "pinned": lambda thor, command: thor.stop_charge(command, pin=True),
    "stop_many": lambda thor, command: thor.stop_many([command]),
    "stop_stream": lambda thor, command: thor.stop_stream([command]),
    "stop_and_confirm": lambda thor, command: thor.stop_and_confirm(command),
    "stop_and_confirm_stream": lambda thor, command: thor.stop_and_confirm_stream([command]),
    "ensure_stopped": lambda thor, command: thor.ensure_stopped(command),
    "ensure_stopped_stream": lambda thor, command: thor.ensure_stopped_stream([command]),
    "running_charges": lambda thor, command: thor.running_charges(),
    "chargeboxes": lambda thor, command: thor.chargeboxes(),
    "notify": lambda thor, command: thor.notify(b"{}"),
}


def thor_at(url: str, **settings: Any) -> ThorClient:
    return ThorClient(KEY, base_url=url, **settings)


async def run_use(name: str, thor: ThorClient, command: StopCharge) -> None:
    result = USES[name](thor, command)
    if isinstance(result, AbstractAsyncContextManager):
        async with result:
            pass
    elif inspect.isawaitable(result):
        await result


def test_every_public_call_is_tested_here() -> None:
    methods = {name for name in dir(ThorClient) if not name.startswith("_")}
    assert methods - USES.keys() == {"aclose", "with_options"}


# Before, after and elsewhere: a RuntimeError that names the cure, and nothing is sent.


@pytest.mark.parametrize("name", USES)
async def test_not_entered(name: str, command: StopCharge) -> None:
    with pytest.raises(RuntimeError, match="not open: use `async with ThorClient"):
        await run_use(name, thor_at(NO_THOR), command)


@pytest.mark.parametrize("name", USES)
async def test_after_closing(name: str, command: StopCharge, emulator: ThorEmulator) -> None:
    async with thor_at(emulator.base_url) as thor:
        await thor.aclose()
        with pytest.raises(RuntimeError, match="is closed: build a new one"):
            await run_use(name, thor, command)
    with pytest.raises(RuntimeError, match="is closed: build a new one"):
        await run_use(name, thor, command)
    assert not emulator.ledger.requests


@pytest.mark.parametrize("name", [*USES, "aclose"])
async def test_on_another_loop(name: str, command: StopCharge, emulator: ThorEmulator) -> None:
    emulator.always(200)
    async with thor_at(emulator.base_url) as thor:

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match=r"another event loop .* build and enter"):
                await (thor.aclose() if name == "aclose" else run_use(name, thor, command))

        async with asyncio.timeout(60):
            await asyncio.to_thread(asyncio.run, elsewhere())
        assert not emulator.ledger.requests
        assert (await thor.stop_charge(command)).verdict is Verdict.RELAYED


@pytest.mark.parametrize("name", [*USES, "aclose"])
async def test_in_a_forked_process(
    name: str, command: StopCharge, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.always(200)
    own = os.getpid()
    async with thor_at(emulator.base_url) as thor:
        monkeypatch.setattr(os, "getpid", lambda: own + 1)
        with pytest.raises(RuntimeError, match="another process: build and enter one in each"):
            await (thor.aclose() if name == "aclose" else run_use(name, thor, command))
        monkeypatch.setattr(os, "getpid", lambda: own)
        assert not emulator.ledger.requests
        assert (await thor.stop_charge(command)).verdict is Verdict.RELAYED


@pytest.mark.parametrize("name", USES)
async def test_with_a_session_that_is_closed(
    name: str, command: StopCharge, emulator: ThorEmulator
) -> None:
    session = aiohttp.ClientSession()
    async with thor_at(emulator.base_url, session=session) as thor:
        await session.close()
        with pytest.raises(RuntimeError, match=r"session given .* is closed: keep it open"):
            await run_use(name, thor, command)
    assert not emulator.ledger.requests


# Entering


async def test_a_client_is_entered_once(command: StopCharge, emulator: ThorEmulator) -> None:
    emulator.always(200)
    async with thor_at(emulator.base_url) as thor:
        with pytest.raises(RuntimeError, match="entered once: build a new one"):
            await thor.__aenter__()
        assert (await thor.stop_charge(command)).verdict is Verdict.RELAYED
    with pytest.raises(RuntimeError, match="entered once: build a new one"):
        await thor.__aenter__()
    with pytest.raises(RuntimeError, match="is closed: build a new one"):
        await thor.stop_charge(command)


async def test_with_instead_of_async_with() -> None:
    thor = thor_at("http://[::1]")
    with pytest.raises(TypeError, match="use `async with ThorClient"), thor:  # type: ignore[attr-defined]
        pass


def test_a_client_is_built_outside_any_loop_and_used_on_one_each(command: StopCharge) -> None:
    def build_and_use() -> None:
        thor = thor_at(NO_THOR, timeout=1.0)

        async def main() -> None:
            async with thor:
                with pytest.raises(NotSentError):
                    await thor.stop_charge(command)

        asyncio.run(main())

    build_and_use()
    build_and_use()


async def test_tls_and_proxy_are_the_sessions_own() -> None:
    async with aiohttp.ClientSession() as session:
        for setting in ({"ssl": ssl.create_default_context()}, {"proxy": "http://proxy.example"}):
            with pytest.raises(ValueError, match="ssl and proxy are the session's: set them where"):
                ThorClient(KEY, session=session, **setting)


class Wrapper:
    """Has the methods of a session, as aiohttp-retry's client has, and repeats what fails."""

    closed = False
    connector = None


@pytest.mark.parametrize("session", [Wrapper(), "session", object, 1])
def test_a_wrapper_of_a_session_is_refused(session: Any) -> None:
    with pytest.raises(TypeError, match=r"must be an aiohttp\.ClientSession, not a ") as refused:
        ThorClient(KEY, session=session)
    assert type(session).__name__ in str(refused.value)


async def test_a_session_of_a_subclass_is_taken() -> None:
    with pytest.warns(DeprecationWarning, match="Inheritance"):  # aiohttp's advice

        class Own(aiohttp.ClientSession): ...

    async with Own() as session, ThorClient(KEY, session=session):
        pass


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, None),
        ({"limit": 0}, None),
        ({"limit": 8}, None),
        ({"limit": 8, "limit_per_host": 8}, None),
        ({"limit": 2}, 2),
        ({"limit": 0, "limit_per_host": 7}, 7),
        ({"limit": 9, "limit_per_host": 1}, 1),
    ],
)
async def test_a_pool_that_is_smaller_than_max_in_flight_is_told_once(
    settings: dict[str, Any],
    limit: int | None,
    emulator: ThorEmulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connector = aiohttp.TCPConnector(**settings)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        thor_at(emulator.base_url, session=session, max_in_flight=8) as thor,
    ):
        await thor.stop_many([StopCharge("box", 1, "tag", n) for n in range(1, 9)])
    told = [record for record in caplog.records if "max_in_flight" in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"] * (limit is not None)
    for record in told:
        assert f"has {limit} connections for max_in_flight=8" in record.getMessage()


# Leaving


async def test_closing_a_client_that_was_never_entered_does_nothing() -> None:
    thor = thor_at(NO_THOR)
    await thor.aclose()
    async with thor:
        assert "in_flight=0" in repr(thor)


async def test_a_client_can_be_closed_again(command: StopCharge) -> None:
    transport = FakeTransport(lambda *_: OK)
    with transport.installed():
        async with transport.client() as thor:
            await thor.stop_charge(command)
            await asyncio.gather(thor.aclose(), thor.aclose())
            await thor.aclose()
        await thor.aclose()
    assert len(transport.requests) == 1


async def test_no_call_begins_while_closing(command: StopCharge, emulator: ThorEmulator) -> None:
    emulator.always(ScriptedAnswer(delay=60.0))
    async with thor_at(emulator.base_url, attempt_timeout=0.3) as thor:
        call = asyncio.ensure_future(thor.stop_charge(command))
        await wait_until(lambda: emulator.ledger.requests)
        closing = asyncio.ensure_future(thor.aclose())
        await asyncio.sleep(0)
        for name in USES:
            with pytest.raises(RuntimeError, match="is closed: build a new one"):
                await run_use(name, thor, command)
        await closing
        with pytest.raises(IndeterminateError):
            await call
    assert len(emulator.ledger.requests) == 1


async def test_leaving_by_an_exception_closes_too(
    command: StopCharge, emulator: ThorEmulator
) -> None:
    emulator.always(ScriptedAnswer(delay=60.0))
    with pytest.raises(LookupError):
        async with thor_at(emulator.base_url, attempt_timeout=0.2) as thor:
            call = asyncio.ensure_future(thor.stop_charge(command))
            await wait_until(lambda: emulator.ledger.requests)
            raise LookupError
    with pytest.raises(IndeterminateError):
        await call


# Texts and copies


def test_the_text_of_a_client_has_its_address_and_not_its_key() -> None:
    for thor in (ThorClient(KEY), ThorClient(lambda: KEY)):
        assert repr(thor) == str(thor) == f"ThorClient(base_url={STOP_ADDRESS!r}, in_flight=0)"


async def test_no_text_of_a_client_has_a_secret(command: StopCharge) -> None:
    user, password = "proxy-user", "proxy-p4ss"
    thor = thor_at(NO_THOR, allow_http=True, proxy=f"http://{user}:{password}@127.0.0.1:1")
    async with thor:
        stream = thor.stop_stream([command])
        texts = [repr(thor), str(thor), f"{thor}", repr(thor.stop_charge), repr([thor])]
        texts.append(repr(stream))
    for text in texts:
        for secret in (KEY, TAG, user, password):
            assert secret not in text
    assert NO_THOR in texts[0]


async def test_its_text_has_the_number_of_requests_in_flight() -> None:
    transport = FakeTransport(lambda *_: None)
    with transport.installed():
        async with transport.client() as thor:
            calls = [asyncio.ensure_future(thor.stop_charge(command)) for command in fleet(3)]
            await wait_until(lambda: transport.in_flight == 3)
            assert "in_flight=3" in repr(thor)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert "in_flight=0" in repr(thor)


def test_a_client_is_neither_pickled_nor_copied() -> None:
    thor = ThorClient(KEY)
    for make in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied or pickled: build one in each"):
            make(thor)


async def test_an_open_client_and_its_stream_are_neither_pickled_nor_copied() -> None:
    async with ThorClient(KEY) as thor, thor.stop_stream([]) as stream:
        for thing in (thor, stream):
            for make in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    make(thing)
