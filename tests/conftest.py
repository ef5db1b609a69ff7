"""Checks around every test: it logs no secret, and leaves no task and no failure behind."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import aiohttp
import aioresponses.core
import hypothesis
import pytest
import uvloop

from thor_async import RetryPolicy, StopCharge
from thor_async.emulator import ThorEmulator

# A busy machine does not make a test fail.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

KEY = "k3y-that-must-never-be-shown"
TAG = "t4g-that-must-never-be-shown"


class _Response(aiohttp.ClientResponse):
    """Has the `stream_writer` that aiohttp 3.14 needs and aioresponses 0.7.9 does not give."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"stream_writer": mock.Mock(output_size=0)})


aioresponses.core.ClientResponse = _Response  # type: ignore[attr-defined]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Function
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Runs the tests of these modules on uvloop too; the fault matrix does so by itself."""
    if os.environ.get("THOR_TESTS_LOOP") == "aiofastnet":  # which later versions of aiohttp use
        return {"aiofastnet": new_fast_loop}
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.module.__name__ in (
        "tests.behaviour.test_cancellation",
        "tests.behaviour.test_real_servers",
        "tests.test_client",
        "tests.test_input_reader",
        "tests.test_stream",
        "tests.transport.test_connections",
    ):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


def new_fast_loop() -> asyncio.AbstractEventLoop:
    """Returns a loop whose transports are those of aiofastnet."""
    # Only in an environment of its own, because aiohttp would find it too.
    aiofastnet = importlib.import_module("aiofastnet")
    loop: asyncio.AbstractEventLoop = aiofastnet.patch_loop(asyncio.new_event_loop())
    return loop


class Rests:
    """Makes policies whose waits take no time, and keeps the seconds of each wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.limits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def random(self, low: float, high: float) -> float:
        self.limits.append(high)
        return high

    def policy(self, **settings: Any) -> RetryPolicy:
        return RetryPolicy(sleep=self.sleep, random=self.random, **settings)


@pytest.fixture
def rests() -> Rests:
    return Rests()


@pytest.fixture
def command() -> StopCharge:
    return StopCharge("EaJ7cU9NJ3YkTNgy", 2, TAG, 52)


@pytest.fixture
async def emulator() -> AsyncIterator[ThorEmulator]:
    async with ThorEmulator(api_key=KEY) as running:
        yield running


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THOR_API_KEY", "THOR_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        logged = record.getMessage() + str(record.exc_info or "")
        assert KEY not in logged
        assert TAG not in logged


@pytest.fixture(autouse=True)
async def _leaves_nothing_behind() -> AsyncIterator[None]:
    """Checks that no task is left and that the loop's exception handler was not called."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    gc.collect()
    gc.freeze()  # the next collection then looks only at what the next test makes
    assert not left
    assert not complaints


async def wait_until(condition: Callable[[], object]) -> None:
    """Returns once `condition()` is true; the limit only ends a test that would hang."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def shown(error: BaseException) -> str:
    """Returns all texts of an exception and of its whole chain."""
    return "".join([repr(error), str(error), *traceback.format_exception(error)])
