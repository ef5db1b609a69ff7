"""An emulator on a real socket, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.emulator.harness import Client
from thor_async.emulator import ThorEmulator


@pytest.fixture
async def thor(caplog: pytest.LogCaptureFixture) -> AsyncIterator[ThorEmulator]:
    async with ThorEmulator() as thor:
        yield thor
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not caplog.get_records("call")


@pytest.fixture
async def client(thor: ThorEmulator) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(thor, session)
