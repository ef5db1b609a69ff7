"""The worker for NATS JetStream: subscribers of a FastStream broker. Needs the extra `worker`."""

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
from .._confirm.tracker import Confirmation, is_watched
from .._dispatch.breaker import CircuitBreaker
from .._errors import AccountError, ThorError
from .._events import describe_cause
from .._models import StopCharge, StopOutcome
from .health import State, write_health
from .publisher import SettlementPublisher, delivery_count, stream_sequence
from .settlement import Settlement, decide, find_expiry, read_command
from .streams import Subjects, ensure_streams

LOG = logging.getLogger("thor_async.worker")

_HEARTBEAT_INTERVAL = 0.5
_HEALTH_INTERVAL = 5.0
_PULL_TIMEOUT = 2.0
# A draining worker must finish its last pull first: that pull would take the message again, and
# lose it for another ack_wait.
_HANDOVER_DELAY = _PULL_TIMEOUT + 1.0


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
        self._in_hand: dict[int, NatsMessage] = {}
        self._subscribers: list[Any] = []
        self._has_started = self._is_draining = False
        self._breaker: CircuitBreaker
        self._publisher: SettlementPublisher

    def subscribe(self, count: int) -> None:
        """Adds `count` subscribers that pull one message each, so that no message is buffered here.

        FastStream's `max_workers` pulls ahead, and a batch waits for its slowest message.
        """
        for index in range(count):
            subscriber = self._broker.subscriber(
                self._subjects.commands,
                stream=JStream(self._subjects.stream, declare=False),
                durable=self._subjects.durable,
                pull_sub=PullSub(batch_size=1, timeout=_PULL_TIMEOUT),
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
            ack_wait = await ensure_streams(client.jetstream(), self._subjects)
        except BaseException:
            await self._broker.stop()
            raise
        self._publisher = SettlementPublisher(client, self._subjects)
        self._breaker = CircuitBreaker(
            pauses_when_refused=True, on_open=_log_pause, on_close=_log_resumption
        )
        async with self._thor:
            heartbeat = asyncio.create_task(self._run_heartbeat(client, ack_wait / 3))
            try:
                yield
            finally:
                self._drain()
                heartbeat.cancel()
                await asyncio.gather(heartbeat, return_exceptions=True)

    async def _handle_message(self, message: NatsMessage) -> None:
        self._in_hand[id(message)] = message
        try:
            await self._settle(message)
        except Exception as failure:
            # Only the name: text and traceback of a foreign exception may hold secrets.
            name, sequence = type(failure).__name__, stream_sequence(message)
            LOG.error("message %d is left to be delivered again: %s", sequence, name)  # noqa: TRY400
        finally:
            del self._in_hand[id(message)]

    async def _settle(self, message: NatsMessage) -> None:
        """Stops the command's charge, then acknowledges, dead-letters or returns the message."""
        command = read_command(message.body)
        if isinstance(command, Settlement):
            await self._publisher.dead_letter(message, command)
            return
        probe = await self._breaker.acquire_probe()
        if self._is_draining:
            await message.nack(_HANDOVER_DELAY)
            return
        created = message.raw_message.metadata.timestamp
        expiry = find_expiry(command, created, datetime.now(UTC), max_age=self._max_age)
        if expiry is not None:
            self._breaker.release_probe(probe)
            await self._publisher.dead_letter(message, expiry)
            return
        try:
            result = await self._stop(command)
        except BaseException:
            self._breaker.release_probe(probe)
            raise
        self._record(result.outcome if isinstance(result, Confirmation) else result, probe)
        settlement = decide(result, delivery_count(message))
        await self._publisher.settle(message, settlement, result)

    async def _stop(self, command: StopCharge) -> StopOutcome | Confirmation:
        if self._confirm is None:
            return await self._thor._stop_outcome(command)
        confirmation = await self._thor._confirm_outcome(command, self._confirm)
        # What Thor did not take is explained by the outcome alone.
        return confirmation if is_watched(confirmation.outcome) else confirmation.outcome

    def _record(self, outcome: StopOutcome, probe: int) -> None:
        """Lets the breaker take in how a command ended."""
        error, was_refused = outcome.error, self._breaker.is_refused
        self._breaker.record_command(error, outcome.attempts, probe)
        if isinstance(error, AccountError) and (probe or not was_refused):
            LOG.error("paused, Thor refuses the account: %s; mend the key", error.message)

    def _drain(self) -> None:
        """Releases the commands that wait for the breaker, to be returned to the broker."""
        self._is_draining = True
        self._breaker.shut()

    async def _run_heartbeat(self, client: Client, period: float) -> None:
        """Extends the ack wait of messages in hand every `period` s, and writes the health file."""
        loop = asyncio.get_running_loop()
        extend_at = health_at = loop.time()
        while True:
            self._detect_drain()
            if loop.time() >= extend_at:
                extend_at = loop.time() + period
                await self._extend_ack_wait()
            if self._health_file is not None and loop.time() >= health_at:
                health_at = loop.time() + _HEALTH_INTERVAL
                write_health(self._health_file, self._state(client), len(self._in_hand))
            await asyncio.sleep(_HEARTBEAT_INTERVAL)

    def _detect_drain(self) -> None:
        """Releases the waiting commands when the broker stops: its stop waits for them.

        FastStream has no hook for the begin of a stop, so the heartbeat looks for it.
        """
        is_running = any(subscriber.running for subscriber in self._subscribers)
        if self._has_started and not is_running:
            self._drain()
        self._has_started = is_running

    async def _extend_ack_wait(self) -> None:
        for message in tuple(self._in_hand.values()):
            with contextlib.suppress(nats.errors.Error):
                await message.in_progress()

    def _state(self, client: Client) -> State:
        if self._is_draining:
            return "draining"
        if not client.is_connected:
            return "disconnected"
        return "paused" if self._breaker.is_open else "running"


async def _raw_body(message: NatsMessage) -> bytes:
    return message.body


def _log_pause(cause: ThorError) -> None:
    if not isinstance(cause, AccountError):
        LOG.warning("paused, Thor seems down: %s", describe_cause(cause))


def _log_resumption(seconds: float) -> None:
    LOG.warning("resumed after %.3f s", seconds)
