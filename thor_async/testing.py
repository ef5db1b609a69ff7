"""pytest fixtures for users of this library: `pytest_plugins = ["thor_async.testing"]`.

Needs pytest-asyncio, in strict or auto mode. The emulator runs on the loop that
`asyncio_default_fixture_loop_scope` sets; the test must run on the same loop.
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
    """Starts a new `ThorEmulator` for each test."""
    async with ThorEmulator() as emulator:
        yield emulator


@pytest.fixture
def no_wait_policy() -> RetryPolicy:
    """The default `RetryPolicy`, with waits that take no time, even after a `Retry-After`."""
    return RetryPolicy(sleep=_yield_to_loop, random=lambda low, high: low)


async def _yield_to_loop(seconds: float) -> None:
    await asyncio.sleep(0)
