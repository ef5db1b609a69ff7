"""The worker for NATS JetStream, in an app of FastStream. Needs the extra `worker`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
from faststream.nats import JStream, NatsBroker, PullSub
from nats.aio.client import Client
from nats.aio.msg import Msg

from .._client import ThorClient
from .._config import check_max_in_flight, check_seconds
from .background import BackgroundTasks, cancel_all
from .handler import MessageHandler
from .health import State, write_health
from .health_server import serve_health
from .publisher import SettlementPublisher
from .serving import ServingLoop
from .settlement import FRESH_FOR
from .setup_log import SetupLog
from .stats import WorkerStats
from .streams import StreamSetup, Subjects

LOG = logging.getLogger("thor_async.worker")

_HEARTBEAT_INTERVAL = 0.1
_HEALTH_INTERVAL = 5.0
_WATCHED_AT_ONCE = 32
"""Commands that may be in hand for each that may be in flight, if they are watched."""

_EXTENSIONS = 3
"""How often the ack wait of a message in hand is extended, in the time of one."""

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
    tolerant: bool = False,
    health_file: Path | None = None,
    health_port: int | None = None,
    health_host: str = "127.0.0.1",
) -> StopWorker:
    """Adds a worker for the commands of `subject` to `broker`. Run it inside its `lifespan`.

    `thor` is a client that is not open yet: the lifespan opens and closes it. The worker holds at
    most `max_in_flight` commands, and pulls a command only when it has room for it. It does not
    send a command that is older than `max_age` seconds and has no `not_after`. With `confirm`, a
    command is done only when its charge was seen to stop within `confirm` seconds; those that it
    watches do not count, up to 32 for each that may be in flight. `tolerant` ignores fields of a
    command that are not known, which otherwise make it a dead letter. `health_file` is written
    every 5 s and when the state changes. On `health_port` it serves `/healthz`, `/readyz` and
    `/metrics`: only to this machine, unless `health_host` says more. Raises ValueError for bad
    settings.
    """
    check_seconds("max_age", max_age)
    if confirm is not None:
        check_seconds("confirm", confirm)
    return StopWorker(
        broker,
        thor,
        Subjects(stream, subject, dead_letter, outcomes),
        max_in_flight=check_max_in_flight(max_in_flight),
        max_age=max_age,
        confirm=confirm,
        tolerant=tolerant,
        health_file=health_file,
        health_address=None if health_port is None else (health_host, health_port),
    )


class StopWorker:
    """Serves the commands of one subject. Use `add_worker` to create it.

    Its subscriber has no handler: FastStream starts and stops it, waits for its lock at the stop,
    and shows it in AsyncAPI. The messages are pulled here, as many as there is room for; a pull
    loop of FastStream is deaf after the deletion of its consumer, and asks without a rest.
    """

    def __init__(
        self,
        broker: NatsBroker,
        thor: ThorClient,
        subjects: Subjects,
        *,
        max_in_flight: int,
        max_age: float,
        confirm: float | None,
        tolerant: bool,
        health_file: Path | None,
        health_address: tuple[str, int] | None,
    ) -> None:
        self._broker = broker
        self._thor = thor
        self._subjects = subjects
        self._max_in_flight = max_in_flight
        self._max_age = max_age
        self._confirm = confirm
        self._tolerant = tolerant
        self._setup_log = SetupLog(subjects, max_age=max_age, max_in_flight=max_in_flight)
        self._health_file = health_file
        self._health_address = health_address
        self.health_url: str | None = None
        self._subscriber = broker.subscriber(
            subjects.commands,
            stream=JStream(subjects.stream, declare=False),
            durable=subjects.durable,
            pull_sub=PullSub(),
            title="StopCharge",
        )
        self._has_started = asyncio.Event()
        self._cut_at = math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._background = BackgroundTasks(None)
        # Of a worker that has been connected:
        self._client: Client | None = None
        self._serving: ServingLoop
        self._handler: MessageHandler
        self._pull: asyncio.Task[None]

    @property
    def state(self) -> State:
        """What the worker does now; `reason` says why it is `not_serving`."""
        if self._client is None:
            return "disconnected"
        if self._handler.is_draining:
            return "draining"
        if not self._client.is_connected:
            return "disconnected"
        if self._serving.failure is not None or not self._serving.has_pulled:
            return "not_serving"
        return "paused" if self._handler.is_paused else "running"

    @property
    def reason(self) -> str | None:
        """Why no message is pulled now, None while it is."""
        if self._background.failure is not None or self._client is None:
            return self._background.failure
        return self._serving.failure or (None if self._serving.has_pulled else "not pulled yet")

    @property
    def in_hand(self) -> int:
        """The number of commands in hand: received, and not ended."""
        return len(self._tasks)

    @property
    def pending(self) -> int | None:
        """The commands that no worker had received when it was last looked; None if unknown."""
        setup = None if self._client is None else self._serving.setup
        return None if setup is None else setup.pending

    @property
    def pace_status(self) -> tuple[float | None, int]:
        """The requests that may begin in a second, None without a limit; and the answers 429."""
        return (None, 0) if self._client is None else self._handler.pace_status

    @property
    def stats(self) -> WorkerStats:
        """The figures of this moment."""
        failure = self._background.failure
        stats = WorkerStats(self.state, self.reason, failure, self.in_hand, self.pending)
        return stats if self._client is None else self._handler.complete(stats)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Connects, creates a missing stream or consumer, and opens `thor`.

        Start and stop the broker inside. Its stop waits up to its `graceful_timeout` for the
        commands in hand. Raises RuntimeError when an existing stream or consumer cannot serve, and
        when the worker fails: then it cancels the task that has entered it, and stops the broker.
        """
        background = self._background = BackgroundTasks(asyncio.current_task())
        async with contextlib.AsyncExitStack() as stack:
            if self._health_address is not None:
                pages = serve_health(lambda: self.stats, *self._health_address)
                self.health_url = await stack.enter_async_context(pages)
            stack.push_async_callback(background.end)
            background.start(self._run_heartbeat())
            await self._connect()
            await stack.enter_async_context(self._thor)
            stack.push_async_callback(self._end_tasks)
            self._handler.call_when_watching(self._serving.wake)
            self._pull = background.start(self._serve())
            try:
                yield
            except (asyncio.CancelledError, nats.errors.Error):
                if not background.take_cancellation():
                    raise
                with contextlib.suppress(nats.errors.Error):  # closed already
                    await self._broker.stop()
            finally:
                self._handler.drain()
        if background.failure is not None:
            raise RuntimeError(f"the worker has failed: {background.failure}")

    async def _connect(self) -> None:
        client = await self._broker.connect()
        try:
            _check_reconnects(client)
            self._serving = ServingLoop(
                client, self._subjects, self._count_places, self._receive, self._setup_log.check
            )
            await self._serving.prepare()
        except BaseException:
            await self._broker.stop()
            raise
        publisher = SettlementPublisher(client, self._subjects, self._serving.find_setup)
        self._handler = MessageHandler(
            self._thor,
            publisher,
            max_age=self._max_age,
            fresh_for=FRESH_FOR,
            confirm=self._confirm,
            tolerant=self._tolerant,
        )
        self._client = client
        self._log_start(client)

    def _log_start(self, client: Client) -> None:
        subjects, url = self._subjects, client.connected_url
        LOG.info(
            "takes %s of stream %s by consumer %s, at most %d in flight, from NATS at %s",
            subjects.commands,
            subjects.stream,
            subjects.durable,
            self._max_in_flight,
            # Without user and password.
            url.netloc.rpartition("@")[2] if url is not None else "an unknown address",
        )

    async def _end_tasks(self) -> None:
        """Ends what uses the client, before it closes."""
        await self._background.end()
        await cancel_all([*self._tasks])

    async def _serve(self) -> None:
        await self._has_started.wait()
        await self._serving.run()

    def _count_places(self) -> int:
        """Returns the room for commands. One that is only watched leaves its place to another."""
        in_hand, watched = len(self._tasks), self._handler.watched
        at_most = self._max_in_flight * (1 if self._confirm is None else _WATCHED_AT_ONCE)
        return min(self._max_in_flight - in_hand + watched, at_most - in_hand)

    def _receive(self, message: Msg, setup: StreamSetup) -> None:
        task = asyncio.create_task(self._handle(message, setup))
        self._tasks.add(task)
        task.add_done_callback(self._release)

    async def _handle(self, message: Msg, setup: StreamSetup) -> None:
        with self._subscriber.lock:  # for which FastStream waits when it stops
            await self._handler.handle(message, setup)

    def _release(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._serving.wake()

    async def _run_heartbeat(self) -> None:
        """Writes the health file, extends the ack wait of what is in hand, and looks for a stop."""
        loop = asyncio.get_running_loop()
        extend_at = health_at = loop.time()
        state = self.state
        while True:
            if self._client is not None:
                await self._detect_drain()
                self._serving.check_connection()
                if loop.time() >= extend_at:
                    extend_at = loop.time() + await self._extend_ack_wait()
            if self._health_file is not None and (loop.time() >= health_at or state != self.state):
                health_at = loop.time() + _HEALTH_INTERVAL
                state = self.state
                write_health(self._health_file, state, self.in_hand, *self.pace_status)
            await asyncio.sleep(_HEARTBEAT_INTERVAL)

    async def _detect_drain(self) -> None:
        """Begins to drain when the broker stops: its stop waits for the commands in hand.

        FastStream has no hook for the begin of a stop, so the heartbeat looks for it. After its
        `graceful_timeout` the connection closes, and nothing more would be stored. So the handler
        ends before that what is in hand.
        """
        now = asyncio.get_running_loop().time()
        if self._subscriber.running:
            self._has_started.set()
        elif self._has_started.is_set() and not self._handler.is_draining:
            self._handler.drain()
            self._pull.cancel()
            grace = self._broker.config.graceful_timeout or 0.0
            self._cut_at = now + grace - min(_SETTLE_TIME, grace / 2)
        if now >= self._cut_at:
            self._cut_at = math.inf
            await self._handler.cut()

    async def _extend_ack_wait(self) -> float:
        """Extends the ack wait of the messages in hand; returns after how long to do it again."""
        setup = self._serving.setup
        if setup is None:
            return _HEARTBEAT_INTERVAL
        for delivery in tuple(self._handler.deliveries.in_hand.values()):
            if delivery.setup.created == setup.created:
                with contextlib.suppress(nats.errors.Error, OSError):
                    await delivery.message.in_progress()
        return setup.ack_wait / _EXTENSIONS


def _check_reconnects(client: Client) -> None:
    """Raises RuntimeError for a client that gives up: a worker of it would serve nothing."""
    attempts = client.options["max_reconnect_attempts"]
    if attempts > 0 or not client.options["allow_reconnect"]:
        raise RuntimeError(
            f"the broker gives up after {attempts} reconnects, and the worker would be deaf: "
            "NatsBroker(..., allow_reconnect=True, max_reconnect_attempts=-1)"
        )
