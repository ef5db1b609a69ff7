"""The notifications of starts and stops: their settings, their bodies and their delivery."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from .answers import JSON
from .probabilities import check_probability, check_range

if TYPE_CHECKING:
    from .charges import Charge
    from .clock import Clock

Message = dict[str, object]

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Notifications(msgspec.Struct, frozen=True):
    """The receiver of Thor's notifications, and the faults on the way to it.

    `to` is an http or https address, to which each notification is POSTed as JSON, or a function
    that is called with each body. The emulator's choice, as Thor's behaviour is not documented: a
    failed notification is not repeated, and the answer is ignored. The delay of each notification
    is drawn from the range `delay`, in seconds, so one may overtake another. `lost` and `doubled`
    are probabilities from 0 to 1. Raises ValueError for bad values.
    """

    to: str | Callable[[bytes], object]
    delay: tuple[float, float] = (0.0, 0.0)
    lost: float = 0.0
    doubled: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.to, str) and not self.to.startswith(("http://", "https://")):
            raise ValueError(f"to={self.to!r} is no address: begin it with http:// or https://")
        check_range("delay", self.delay)
        check_probability("lost", self.lost)
        check_probability("doubled", self.doubled)


def start_accepted(charge: Charge) -> Message:
    return _start(charge.chargebox, charge.connector, charge.id_tag, charge.transaction) | {
        "accepted": True,
        "mode": charge.mode,
    }


def start_refused(chargebox: str, connector: int, id_tag: str) -> Message:
    return _start(chargebox, connector, id_tag, 0) | {"accepted": False, "mode": "local"}


def _start(chargebox: str, connector: int, id_tag: str, transaction: int) -> Message:
    return {
        "type": "start",
        "chargebox": chargebox,
        "id": id_tag,
        "connector": connector,
        "transaction_id": transaction,
    }


def stopped(charge: Charge, date: int) -> Message:
    """Returns the notification of a normal end, at `date` in epoch milliseconds."""
    return _stop(charge, date) | {
        "type": "stop_transaction",
        "transaction_id": charge.transaction,
        "kwh": round(charge.energy / 1000),
    }


def stop_refused(charge: Charge, date: int) -> Message:
    return _stop_without_transaction(charge, date) | {"accepted": False}


def unlocked(charge: Charge, date: int) -> Message:
    return _stop_without_transaction(charge, date) | {"unlocked": True, "idTag": ""}


def _stop_without_transaction(charge: Charge, date: int) -> Message:
    return _stop(charge, date) | {
        "msg": "stop",
        "transaction_id": 0,
        "energy": round(charge.energy),
    }


def _stop(charge: Charge, date: int) -> Message:
    return {
        "accepted": True,
        "unlocked": False,
        "chargebox": charge.chargebox,
        "idTag": charge.id_tag,
        "connector": charge.connector,
        # The emulator's choice, as the unit is not documented: whole seconds.
        "time": (date - charge.date_started) // 1000,
        "payment": None,
    }


class WebhookSender:
    """Delivers notifications. `close` cancels the requests that are still running."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._rng = random.Random(f"notifications {seed}")
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def send(self, notifications: Notifications, message: Message) -> None:
        if self._rng.random() < notifications.lost:
            return
        body = msgspec.json.encode(message)
        copies = 2 if self._rng.random() < notifications.doubled else 1
        for _ in range(copies):
            delay = self._rng.uniform(*notifications.delay)
            self._clock.later(delay, partial(self._deliver, notifications.to, body))

    def _deliver(self, to: str | Callable[[bytes], object], body: bytes) -> None:
        if callable(to):
            to(body)
        elif self._session is not None:
            task = asyncio.create_task(_post(self._session, to, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _post(session: aiohttp.ClientSession, to: str, body: bytes) -> None:
    # A missing receiver and a bad answer are ignored: see `Notifications`.
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with session.post(to, data=body, headers=JSON, allow_redirects=False):
            pass
