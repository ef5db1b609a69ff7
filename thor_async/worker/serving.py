"""Keeps a worker served: ensures stream and consumer, pulls, and rests after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError

from .puller import MessagePuller, PullError
from .streams import StreamSetup, Subjects, ensure_streams

LOG = logging.getLogger("thor_async.worker")

_FIRST_DELAY, _MAX_DELAY = 1.0, 15.0
_CONNECT_INTERVAL = 0.25
_CHECK_INTERVAL = 15.0
_LOST = "the connection was lost"
_NATS_ERRORS = (nats.errors.Error, OSError)


class ConnectionGoneError(Exception):
    """The NATS client has closed itself: nothing can be served any more."""


class ServingLoop:
    """Pulls the messages of one consumer, for as long as the worker runs.

    Looks for the stream and the consumer before the first pull, every 15 s, after a reconnection
    and after a failure: at once, then after 1, 2, 4 ... 15 s, and calls `on_setup` with what is
    there. `failure` says why nothing is pulled now; the first answer to a pull sets `has_pulled`.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        count_places: Callable[[], int],
        on_message: Callable[[Msg, StreamSetup], None],
        on_setup: Callable[[StreamSetup], None] = lambda setup: None,
    ) -> None:
        self._client = client
        self._jetstream = client.jetstream()
        self._subjects = subjects
        self._on_message = on_message
        self._on_setup = on_setup
        self._puller = MessagePuller(client, subjects, count_places, self._receive)
        self.wake: Callable[[], None] = self._puller.wake
        self._setup: StreamSetup | None = None
        self._is_known = asyncio.Event()
        self._delay = 0.0
        self._failed_at = 0.0
        self._reconnects: int = client.stats["reconnects"]
        self.failure: str | None = None
        self.has_pulled: bool = False

    async def prepare(self) -> None:
        """Creates what is missing. Raises RuntimeError when what is there cannot serve."""
        try:
            await self._ensure()
        except _NATS_ERRORS as error:
            self._report(error)

    async def find_setup(self) -> StreamSetup:
        """Returns what is there now; waits until that is known."""
        while self._setup is None or not self._is_known.is_set():
            await self._is_known.wait()
        return self._setup

    @property
    def setup(self) -> StreamSetup | None:
        """What is there now, None while that is not known."""
        return self._setup if self._is_known.is_set() else None

    def check_connection(self) -> None:
        """Ends the pull after a loss of the connection: another store may be there after it."""
        reconnects = self._client.stats["reconnects"]
        if self._reconnects != reconnects or not self._client.is_connected:
            self._reconnects = reconnects
            self._interrupt(_LOST)

    async def run(self) -> NoReturn:
        """Serves until it is cancelled. Raises ConnectionGoneError."""
        while True:
            await self._wait_until_connected()
            try:
                if not self._is_known.is_set():
                    await self._ensure()
                await self._pull()
            except (PullError, RuntimeError, *_NATS_ERRORS) as error:
                self._is_known.clear()
                self._report(error)
            delay, self._delay = self._delay, min(max(_FIRST_DELAY, self._delay * 2), _MAX_DELAY)
            await asyncio.sleep(delay)

    async def _ensure(self) -> None:
        reconnects = self._client.stats["reconnects"]
        self._setup = await ensure_streams(self._jetstream, self._subjects, self._setup)
        if reconnects != self._client.stats["reconnects"]:
            raise PullError(_LOST)
        self._on_setup(self._setup)
        self._is_known.set()

    async def _pull(self) -> NoReturn:
        checks = asyncio.create_task(self._check_while_pulling())
        try:
            await self._puller.run()
        finally:
            checks.cancel()

    async def _check_while_pulling(self) -> NoReturn:
        """Ends the failure when a pull was answered, then looks whether all is as it should be."""
        await self._puller.pulled.wait()
        self.has_pulled = True
        self._delay = 0.0
        if self.failure is not None:
            self.failure = None
            seconds = asyncio.get_running_loop().time() - self._failed_at
            LOG.warning("serving again after %.1f s", seconds)
        while True:
            await asyncio.sleep(_CHECK_INTERVAL)
            try:
                await self._ensure()
            except (RuntimeError, *_NATS_ERRORS) as error:
                self._interrupt(_describe(error))

    def _receive(self, message: Msg) -> None:
        if self._setup is not None:
            self._on_message(message, self._setup)

    def _interrupt(self, reason: str) -> None:
        self._is_known.clear()
        self._puller.interrupt(reason)

    async def _wait_until_connected(self) -> None:
        while not self._client.is_connected:
            if self._client.is_closed:
                raise ConnectionGoneError("the NATS client has closed itself")
            await asyncio.sleep(_CONNECT_INTERVAL)

    def _report(self, error: Exception) -> None:
        """Logs a failure, unless it is the one that was logged last."""
        reason = _describe(error)
        if self.failure is None:
            self._failed_at = asyncio.get_running_loop().time()
        if self.failure != reason and self._client.is_connected:
            LOG.error("not serving: %s", reason)
        self.failure = reason


def _describe(error: Exception) -> str:
    if isinstance(error, PullError | RuntimeError):
        return str(error)
    detail = error.description if isinstance(error, APIError) else None
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__
