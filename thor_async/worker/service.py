"""The worker on NATS JetStream, as subscribers of a FastStream broker. Needs the extra `worker`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats.errors
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.client import Client

from .._client import ThorClient
from .._config import check_max_in_flight, check_seconds
from .._confirm.tracker import Confirmation
from .._errors import ThorError
from .._models import StopCharge, StopOutcome
from .gate import Gate
from .health import State, write_health
from .publisher import SettlementPublisher, deliveries, number
from .settlement import Settlement, decide, find_expiry, read_command
from .streams import Subjects, prepare

LOG = logging.getLogger("thor_async.worker")

_BEAT, _PULSE = 0.5, 5.0
_PULL_FOR = 2.0
# Past the last pull of a worker that drains, which would lose it for another ack_wait.
_HAND_OVER = _PULL_FOR + 1.0


def add_worker(
    broker: NatsBroker,
    thor: ThorClient,
    *,
    stream: str = "THOR",
    subject: str = "thor.stop",
    dead_letter: str = "thor.stop.dead",
    outcomes: str = "thor.stop.outcomes",
    max_in_flight: int = 32,
    max_age: float = 600.0,
    confirm: float | None = None,
    health_file: Path | None = None,
) -> StopWorker:
    """Adds to a broker of yours what serves the commands of `subject`; run it in its `lifespan`.

    `thor` is a client that is not open yet: the lifespan opens and closes it. At most
    `max_in_flight` commands are in hand; each is pulled only when there is room for it. One older
    than `max_age` seconds without a `not_after` is not sent. With `confirm`, a command is done
    only when its charge was seen to stop within so many seconds. `health_file` is written every
    5 s. Raises ValueError for what could not work.
    """
    check_seconds("max_age", max_age)
    if confirm is not None:
        check_seconds("confirm", confirm)
    subjects = Subjects(stream, subject, dead_letter, outcomes)
    worker = StopWorker(
        broker, thor, subjects, max_age=max_age, confirm=confirm, health_file=health_file
    )
    worker.subscribe(check_max_in_flight(max_in_flight))
    return worker


class StopWorker:
    """What serves the commands of one subject; made by `add_worker`."""

    def __init__(
        self,
        broker: NatsBroker,
        thor: ThorClient,
        subjects: Subjects,
        *,
        max_age: float,
        confirm: float | None,
        health_file: Path | None,
    ) -> None:
        self._broker = broker
        self._thor = thor
        self._subjects = subjects
        self._max_age = max_age
        self._confirm = confirm
        self._health_file = health_file
        self._in_hand: dict[int, NatsMessage] = {}
        self._subscribers: list[Any] = []
        self._has_begun = self._is_draining = False
        self._gate: Gate
        self._letters: SettlementPublisher

    def subscribe(self, count: int) -> None:
        """As many subscribers of one message each, so that none waits here in a buffer.

        FastStream's `max_workers` pulls ahead, and a batch waits for the slowest of it.
        """
        for place in range(count):
            subscriber = self._broker.subscriber(
                self._subjects.commands,
                stream=JStream(self._subjects.stream, declare=False),
                durable=self._subjects.durable,
                pull_sub=PullSub(batch_size=1, timeout=_PULL_FOR),
                ack_policy=AckPolicy.MANUAL,
                decoder=_as_it_is,
                no_reply=True,
                include_in_schema=place == 0,
            )
            subscriber(self._serve)
            self._subscribers.append(subscriber)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Connects, creates what is missing and opens `thor`, before the broker starts.

        Leave it after the broker has stopped: that waits, for the broker's `graceful_timeout`,
        until the commands in hand have ended. Raises RuntimeError when the stream cannot serve.
        """
        client = await self._broker.connect()
        try:
            ack_wait = await prepare(client.jetstream(), self._subjects)
        except BaseException:
            await self._broker.stop()
            raise
        self._letters = SettlementPublisher(client, self._subjects)
        self._gate = Gate()
        async with self._thor:
            beating = asyncio.create_task(self._beat(client, ack_wait / 3))
            try:
                yield
            finally:
                self._gate.shut()
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)

    async def _serve(self, message: NatsMessage) -> None:
        self._in_hand[id(message)] = message
        try:
            await self._settle(message)
        except Exception as failure:
            # Its text and its traceback may hold anything.
            name = type(failure).__name__
            LOG.error("message %d is left to be delivered again: %s", number(message), name)  # noqa: TRY400
        finally:
            del self._in_hand[id(message)]

    async def _settle(self, message: NatsMessage) -> None:
        """Takes a message to its end: acknowledged, buried, or given back."""
        command = read_command(message.body)
        if isinstance(command, Settlement):
            await self._letters.dead_letter(message, command)
            return
        turn = await self._gate.enter()
        if turn is None:
            await message.nack(_HAND_OVER)
            return
        created = message.raw_message.metadata.timestamp
        late = find_expiry(command, created, datetime.now(UTC), max_age=self._max_age)
        if late is not None:
            self._gate.pass_on(turn)
            await self._letters.dead_letter(message, late)
            return
        try:
            result = await self._stop(command)
        except BaseException:
            self._gate.pass_on(turn)
            raise
        self._gate.learn(result.outcome if isinstance(result, Confirmation) else result, turn)
        await self._letters.end(message, decide(result, deliveries(message)), result)

    async def _stop(self, command: StopCharge) -> StopOutcome | Confirmation:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            if self._confirm is not None:
                return await self._thor.stop_and_confirm(command, within=self._confirm)
            return await self._thor.stop_charge(command)
        except ThorError as error:
            elapsed = loop.time() - started
            return StopOutcome(
                command, 0, error.verdict, error, error.attempts, elapsed, error.maybe_applied
            )

    async def _beat(self, client: Client, period: float) -> None:
        """Keeps what is in hand from being delivered anew, and tells how the worker is."""
        loop = asyncio.get_running_loop()
        signal_at = tell_at = loop.time()
        while True:
            self._notice_the_end()
            if loop.time() >= signal_at:
                signal_at = loop.time() + period
                await self._signal()
            if self._health_file is not None and loop.time() >= tell_at:
                tell_at = loop.time() + _PULSE
                write_health(self._health_file, self._state(client), len(self._in_hand))
            await asyncio.sleep(_BEAT)

    def _notice_the_end(self) -> None:
        """The broker tells nobody that it stops, while what the gate holds would keep it."""
        is_running = any(subscriber.running for subscriber in self._subscribers)
        if self._has_begun and not is_running:
            self._is_draining = True
            self._gate.shut()
        self._has_begun = is_running

    async def _signal(self) -> None:
        for message in tuple(self._in_hand.values()):
            with contextlib.suppress(nats.errors.Error):
                await message.in_progress()

    def _state(self, client: Client) -> State:
        if self._is_draining:
            return "draining"
        if not client.is_connected:
            return "disconnected"
        return "paused" if self._gate.is_paused else "running"


async def _as_it_is(message: NatsMessage) -> bytes:
    return message.body
