"""Publishes commands to JetStream, and knows at any moment how many are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError

from thor_async.worker.streams import Subjects

from .nats_connection import describe_nats_error
from .output.console import print_error
from .signals import exit_status, on_interrupt

_AT_ONCE = 256


class CommandMessage(NamedTuple):
    """A command to publish; `headers` has its `Nats-Msg-Id`."""

    body: bytes
    headers: dict[str, str]


class CommandPublisher:
    """Publishes up to 256 commands at a time, and no more after a failure or a signal.

    `stored` counts the commands that JetStream holds, `duplicates` those of them that were there
    before, and `unknown` those without an answer: they may be stored.
    """

    def __init__(self, jetstream: JetStreamContext, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._failure: str | None = None
        self._interrupted_by: int | None = None
        self.stored: int = 0
        self.duplicates: int = 0
        self.unknown: int = 0

    async def publish(self, messages: Iterable[CommandMessage], total: int, window: float) -> int:
        """Returns the exit status: 0 if all are stored; else says how many are, and the cure.

        `window` is the duplicate window of the stream in seconds.
        """
        task = asyncio.current_task()
        with on_interrupt(self._interrupt, lambda: task and task.cancel()):
            try:
                await self._publish_batches(messages)
            finally:
                if self.stored < total:
                    self._print_failure(total, window)
        if self._interrupted_by is not None:
            return exit_status(self._interrupted_by)
        return 0 if self.stored == total else 1

    def _interrupt(self, number: int) -> None:
        self._interrupted_by = number
        self._failure = "interrupted"

    async def _publish_batches(self, messages: Iterable[CommandMessage]) -> None:
        for batch in _split(messages):
            self.unknown += len(batch)
            answers = await asyncio.gather(*map(self._publish, batch), return_exceptions=True)
            for answer in answers:
                self._count(answer)
            if self._failure is not None:
                return

    async def _publish(self, message: CommandMessage) -> PubAck:
        return await self._jetstream.publish(
            self._subjects.commands,
            message.body,
            stream=self._subjects.stream,
            headers=message.headers,
        )

    def _count(self, answer: PubAck | BaseException) -> None:
        if isinstance(answer, PubAck):
            self.stored += 1
            self.duplicates += bool(answer.duplicate)
        elif isinstance(answer, nats.errors.Error | OSError):
            self._failure = self._failure or describe_nats_error(answer)
            if not isinstance(answer, APIError | NoStreamResponseError):
                return  # no answer: it may be stored
        else:
            raise answer
        self.unknown -= 1

    def _print_failure(self, total: int, window: float) -> None:
        left = total - self.stored - self.unknown
        unknown = f", {self.unknown:,} may be stored" if self.unknown else ""
        print_error(
            f"{self._failure or 'interrupted'}: {self.stored:,} of {total:,} commands are "
            f"stored{unknown}, {left:,} are not: run the same command again within {window:.0f} s, "
            "and what is stored is not doubled"
        )


def _split(messages: Iterable[CommandMessage]) -> Iterator[list[CommandMessage]]:
    iterator = iter(messages)
    while batch := list(islice(iterator, _AT_ONCE)):
        yield batch
