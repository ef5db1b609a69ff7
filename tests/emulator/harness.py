"""A plain HTTP client for the emulator, and scenarios under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest

from tests import virtual_time
from tests.conftest import wait_until
from thor_async.emulator import Notifications, ThorEmulator

GONE = aiohttp.ClientConnectionError

STOP = {"chargebox": "A", "connector": 1, "id_tag": "T"}


class Client:
    """An HTTP client of one emulator. Its calls return `(status, body)`."""

    def __init__(self, thor: ThorEmulator, session: aiohttp.ClientSession) -> None:
        self.thor, self.session, self.headers = thor, session, {"X-Api-Key": "emulator-key"}

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        url = f"{self.thor.base_url}/{path}"
        options.setdefault("headers", self.headers)
        async with self.session.request(method, url, **options) as response:
            body = await response.read()
        return response.status, msgspec.json.decode(body) if body else None

    async def stop(self, **changes: Any) -> tuple[int, Any]:
        return await self.ask("POST", "charges/stop", json=STOP | changes)

    async def abandoned_stop(self, when: Callable[[], object]) -> None:
        """Sends a stop, and cancels it as soon as `when()` is true."""
        task = asyncio.create_task(self.stop())
        await wait_until(when)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def error_body(code: str) -> dict[str, str]:
    return {"message": code}


def logged(thor: ThorEmulator) -> list[tuple[int | None, str | None, int | None]]:
    return [(r.status, r.code, r.effect) for r in thor.ledger.requests]


def outcome(verdict: str, maybe_applied: bool = False, id_tag: str = "T") -> Any:
    command = SimpleNamespace(chargebox="A", connector=1, id_tag=id_tag, transaction=None)
    return SimpleNamespace(command=command, verdict=verdict, maybe_applied=maybe_applied)


@asynccontextmanager
async def running_emulator(**settings: Any) -> AsyncIterator[tuple[ThorEmulator, Client]]:
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        ThorEmulator(sock=virtual_time.listener(), **settings) as thor,
        aiohttp.ClientSession(timeout=timeout) as http,
    ):
        yield thor, Client(thor, http)


def under_virtual_time(
    scenario: Callable[[ThorEmulator, Client], Awaitable[None]],
) -> Callable[[], None]:
    async def run() -> None:
        async with running_emulator() as (thor, client):
            await scenario(thor, client)

    return lambda: virtual_time.run(run)


def ignore(body: bytes) -> None:
    pass


def now() -> float:
    return asyncio.get_running_loop().time()


def seconds_ago(thor: ThorEmulator, seconds: float) -> datetime:
    """Returns a time in the past by Thor's clock."""
    return datetime.fromtimestamp(thor._thor_ms() / 1000 - seconds, UTC)


def seconds_since_end(thor: ThorEmulator) -> dict[int, Any]:
    """Returns the ended transactions, each with the seconds since its end."""
    return {number: pytest.approx(now() - at, abs=0.1) for number, at in thor.ledger.ended.items()}


def collect_notifications(thor: ThorEmulator, **options: Any) -> list[dict[str, Any]]:
    received: list[dict[str, Any]] = []
    thor.notifications = Notifications(
        lambda body: received.append(msgspec.json.decode(body)), **options
    )
    return received
