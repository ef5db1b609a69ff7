"""Pulls the messages of a JetStream consumer, as many as there are free places."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NoReturn

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from .streams import Subjects, covers

_EXPIRES = 5.0
"""Seconds for which a pull request waits for messages."""

_SLACK = 2.0
_HEARTBEAT = "100"
_NORMAL_ENDS = {"404", "408"}
_BATCH_COMPLETED = "Batch Completed"


class PullError(Exception):
    """The consumer cannot be pulled from. The text says why."""


class MessagePuller:
    """Keeps one pull request open for as many messages as there are free places.

    Calls `on_message` for each message as it arrives: none waits in a buffer. `count_places`
    returns how many messages there is room for; `wake` says that it may have changed. `pulled` is
    set when NATS has answered a request.

    A message is known by its reply, the address of its acknowledgement. Its headers are the
    producer's, and nats-py takes every message with a header `Status` for a word of the server.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        count_places: Callable[[], int],
        on_message: Callable[[Msg], None],
    ) -> None:
        self._client = client
        self._commands = subjects.commands
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.stream}.{subjects.durable}"
        self._count_places = count_places
        self._on_message = on_message
        self._may_go_on = asyncio.Event()
        self._failure: str | None = None
        self._inbox = ""
        self._number = 0
        self._left = 0
        self.pulled: asyncio.Event = asyncio.Event()

    def wake(self) -> None:
        """Asks for more messages, if there is room for them."""
        self._may_go_on.set()

    def interrupt(self, reason: str) -> None:
        """Ends `run`, for that reason."""
        if self._failure is None:
            self._failure = reason
        self._may_go_on.set()

    async def run(self) -> NoReturn:
        """Pulls until that fails: raises PullError, or an error of NATS."""
        self._failure = None
        self.pulled.clear()
        self._inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._receive)
        try:
            while True:
                await self._wait_until(lambda: self._count_places() > 0)
                await self._pull(self._count_places())
        finally:
            await self._unsubscribe(subscription)

    async def _wait_until(self, is_true: Callable[[], bool]) -> None:
        while self._failure is None and not is_true():
            self._may_go_on.clear()
            await self._may_go_on.wait()
        if self._failure is not None:
            raise PullError(self._failure)

    async def _pull(self, places: int) -> None:
        """Makes one request, and waits for its end: filled, expired, or failed."""
        self._number += 1
        self._left = places
        # The first answer comes at once: it shows that the consumer serves.
        end = {"expires": int(_EXPIRES * 1e9)} if self.pulled.is_set() else {"no_wait": True}
        request = msgspec.json.encode({"batch": places, **end})
        await self._client.publish(self._next, request, reply=f"{self._inbox}.{self._number}")
        try:
            async with asyncio.timeout(_EXPIRES + _SLACK):
                await self._wait_until(lambda: self._left < 1)
        except TimeoutError:
            raise PullError("NATS does not answer a pull request") from None
        self.pulled.set()

    async def _receive(self, message: Msg) -> None:
        if not message.reply:
            self._end_request(message)
        elif message.subject != self._commands and not covers(self._commands, message.subject):
            # The worker would take its own outcomes and dead letters for commands.
            self.interrupt(f"the consumer delivers {message.subject}: set its filter_subject")
        elif self._failure is not None:
            await message.nak()
        else:
            self.pulled.set()
            self._left -= 1
            if self._left < 1:
                self._may_go_on.set()
            self._on_message(message)

    def _end_request(self, message: Msg) -> None:
        headers = message.headers or {}
        status, description = headers.get("Status"), headers.get("Description", "")
        is_of_an_earlier_one = message.subject != f"{self._inbox}.{self._number}"
        if is_of_an_earlier_one or status == _HEARTBEAT:
            return
        if status in _NORMAL_ENDS or description == _BATCH_COMPLETED:
            self._left = 0
            self._may_go_on.set()
        elif status == "503":
            self.interrupt("no consumer answers")
        else:
            self.interrupt(f"NATS answers {status}: {description}")

    async def _unsubscribe(self, subscription: Subscription) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):
            if self._client.is_connected:
                # What is on its way is received; it would be lost for an ack_wait.
                await subscription.drain()  # type: ignore[no-untyped-call]
            else:
                await subscription.unsubscribe()
