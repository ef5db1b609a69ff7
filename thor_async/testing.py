"""Fixtures for the tests of whoever uses this library: `pytest_plugins = ["thor_async.testing"]`.

Needs pytest-asyncio, in its strict or its auto mode. The emulator runs on the loop of
`asyncio_default_fixture_loop_scope`, which has to be that of the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ._retry import RetryPolicy
from .emulator import ThorEmulator


@pytest_asyncio.fixture
async def thor_emulator() -> AsyncIterator[ThorEmulator]:
    """A running `ThorEmulator`, a new one for each test."""
    async with ThorEmulator() as emulator:
        yield emulator


@pytest.fixture
def no_wait_policy() -> RetryPolicy:
    """The default `RetryPolicy`, but for its waits: they take no time, whatever Thor asks for."""
    return RetryPolicy(sleep=_give_way, random=lambda low, high: low)


async def _give_way(seconds: float) -> None:
    await asyncio.sleep(0)
