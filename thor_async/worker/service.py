"""The worker for NATS JetStream: subscribers of a FastStream broker. Needs the extra `worker`."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.client import Client

from .._client import ThorClient
from .._config import check_max_in_flight, check_seconds
from .handler import PULL_TIMEOUT, MessageHandler
from .health import State, write_health
from .publisher import SettlementPublisher
from .settlement import FRESH_FOR
from .streams import Subjects, ensure_streams

_HEARTBEAT_INTERVAL = 0.1
_HEALTH_INTERVAL = 5.0
_SETTLE_TIME = 2.0
"""Seconds before the end of a drain, to store what is known of the commands that it cuts off."""


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
    """Adds a worker for the commands of `subject` to `broker`. Run it inside its `lifespan`.

    `thor` is a client that is not open yet: the lifespan opens and closes it. The worker holds at
    most `max_in_flight` commands, and pulls a command only when it has room for it. It does not
    send a command that is older than `max_age` seconds and has no `not_after`. With `confirm`, a
    command is done only when its charge was seen to stop within `confirm` seconds. `health_file`
    is written every 5 s. Raises ValueError for settings that cannot work.
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
    """Serves the commands of one subject. Use `add_worker` to create it."""

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
        self._subscribers: list[Any] = []
        self._has_started = False
        self._cut_at = math.inf
        self._handler: MessageHandler

    def subscribe(self, count: int) -> None:
        """Adds `count` subscribers that pull one message each, so that no message is buffered here.

        FastStream's `max_workers` pulls ahead, and a batch waits for its slowest message.
        """
        for index in range(count):
            subscriber = self._broker.subscriber(
                self._subjects.commands,
                stream=JStream(self._subjects.stream, declare=False),
                durable=self._subjects.durable,
                pull_sub=PullSub(batch_size=1, timeout=PULL_TIMEOUT),
                ack_policy=AckPolicy.MANUAL,
                decoder=_raw_body,
                no_reply=True,
                include_in_schema=index == 0,
            )
            subscriber(self._handle_message)
            self._subscribers.append(subscriber)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Connects, creates a missing stream or consumer, and opens `thor`.

        Start and stop the broker inside. Its stop waits up to its `graceful_timeout` for the
        commands in hand. Raises RuntimeError when an existing stream or consumer cannot serve.
        """
        client = await self._broker.connect()
        try:
            found = await ensure_streams(client.jetstream(), self._subjects)
        except BaseException:
            await self._broker.stop()
            raise
        self._handler = MessageHandler(
            self._thor,
            SettlementPublisher(client, self._subjects, found.duplicate_window),
            max_age=self._max_age,
            # Another worker may have a message that is older than ack_wait.
            fresh_for=min(FRESH_FOR, found.ack_wait / 2),
            confirm=self._confirm,
        )
        async with self._thor:
            heartbeat = asyncio.create_task(self._run_heartbeat(client, found.ack_wait / 3))
            try:
                yield
            finally:
                self._handler.drain()
                heartbeat.cancel()
                await asyncio.gather(heartbeat, return_exceptions=True)

    async def _handle_message(self, message: NatsMessage) -> None:
        self._has_started = True  # the heartbeat may be later
        await self._handler.handle(message)

    async def _run_heartbeat(self, client: Client, period: float) -> None:
        """Extends the ack wait of messages in hand every `period` s, and writes the health file."""
        loop = asyncio.get_running_loop()
        extend_at = health_at = loop.time()
        while True:
            self._detect_drain()
            if loop.time() >= self._cut_at:
                self._cut_at = math.inf
                await self._handler.cut()
            if loop.time() >= extend_at:
                extend_at = loop.time() + period
                await self._extend_ack_wait()
            if self._health_file is not None and loop.time() >= health_at:
                health_at = loop.time() + _HEALTH_INTERVAL
                in_hand = len(self._handler.deliveries.in_hand)
                pace, throttled = self._handler.pace_status
                write_health(self._health_file, self._state(client), in_hand, pace, throttled)
            await asyncio.sleep(_HEARTBEAT_INTERVAL)

    def _detect_drain(self) -> None:
        """Begins to drain when the broker stops: its stop waits for the commands in hand.

        FastStream has no hook for the begin of a stop, so the heartbeat looks for it. After its
        `graceful_timeout` it cancels what is in hand, and nothing of it would be stored. So the
        handler ends it before that.
        """
        is_running = any(subscriber.running for subscriber in self._subscribers)
        if self._has_started and not is_running and not self._handler.is_draining:
            self._handler.drain()
            grace = self._broker.config.graceful_timeout or 0.0
            now = asyncio.get_running_loop().time()
            self._cut_at = now + grace - min(_SETTLE_TIME, grace / 2)
        self._has_started |= is_running

    async def _extend_ack_wait(self) -> None:
        for delivery in tuple(self._handler.deliveries.in_hand.values()):
            with contextlib.suppress(nats.errors.Error, OSError):
                await delivery.message.in_progress()

    def _state(self, client: Client) -> State:
        if self._handler.is_draining:
            return "draining"
        if not client.is_connected:
            return "disconnected"
        return "paused" if self._handler.is_paused else "running"


async def _raw_body(message: NatsMessage) -> bytes:
    return message.body
