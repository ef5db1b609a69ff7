"""Creates the JetStream stream and consumer when they are missing, and never changes them."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import msgspec
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

LOG = logging.getLogger("thor_async.worker")

ACK_WAIT = 30.0
_RETENTION = 7 * 24 * 3600.0
_DUPLICATE_WINDOW = 600.0


class Subjects(msgspec.Struct, frozen=True):
    """The subjects of commands, dead letters and outcomes, all in one stream.

    Raises ValueError when a worker would receive its own dead letters or outcomes.
    """

    stream: str = "THOR"
    commands: str = "thor.stop"
    dead_letters: str = "thor.stop.dead"
    outcomes: str = "thor.stop.outcomes"

    def __post_init__(self) -> None:
        for subject in (self.dead_letters, self.outcomes):
            if covers(self.commands, subject):
                raise ValueError(
                    f"the subject {self.commands!r} covers {subject!r}: a worker would receive "
                    "its own messages; choose subjects that do not overlap"
                )

    @property
    def all(self) -> list[str]:
        return [self.commands, self.dead_letters, self.outcomes]

    @property
    def durable(self) -> str:
        """The consumer's name. All workers of one command subject share one consumer."""
        name = self.commands.replace(".", "-").replace("*", "any").replace(">", "all")
        return f"worker-{name}"


class StreamTimes(NamedTuple):
    """Times of the consumer and of the stream, in seconds.

    `duplicate_window` is infinite for a work queue, which cannot be looked through.
    """

    ack_wait: float
    duplicate_window: float


def covers(pattern: str, subject: str) -> bool:
    """Whether the NATS pattern matches everything that `subject`, itself a pattern or not, does."""
    left, right = pattern.split("."), subject.split(".")
    for index, part in enumerate(left):
        if part == ">":
            return len(right) > index
        if index >= len(right) or right[index] == ">" or part not in ("*", right[index]):
            return False
    return len(left) == len(right)


async def ensure_streams(jetstream: JetStreamContext, subjects: Subjects) -> StreamTimes:
    """Creates a missing stream or consumer; returns the times of both.

    A stream that is created here keeps its messages for seven days. Raises RuntimeError, with the
    cure, when an existing stream or consumer cannot serve.
    """
    duplicate_window = await _ensure_stream(jetstream, subjects)
    return StreamTimes(await _ensure_consumer(jetstream, subjects), duplicate_window)


async def _ensure_stream(jetstream: JetStreamContext, subjects: Subjects) -> float:
    """Creates a missing stream; returns its duplicate window."""
    try:
        config = (await jetstream.stream_info(subjects.stream)).config
    except NotFoundError:
        await jetstream.add_stream(
            StreamConfig(
                name=subjects.stream,
                subjects=subjects.all,
                retention=RetentionPolicy.LIMITS,
                max_age=_RETENTION,
                duplicate_window=_DUPLICATE_WINDOW,
            )
        )
        return _DUPLICATE_WINDOW
    for subject in subjects.all:
        if not any(covers(pattern, subject) for pattern in config.subjects or []):
            raise RuntimeError(
                f"the stream {subjects.stream!r} does not hold {subject!r}: add it to its subjects"
            )
    is_queue = config.retention == RetentionPolicy.WORK_QUEUE
    return math.inf if is_queue else config.duplicate_window


async def _ensure_consumer(jetstream: JetStreamContext, subjects: Subjects) -> float:
    try:
        config = (await jetstream.consumer_info(subjects.stream, subjects.durable)).config
    except NotFoundError:
        await jetstream.add_consumer(
            subjects.stream,
            ConsumerConfig(
                durable_name=subjects.durable,
                filter_subject=subjects.commands,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT,
                max_deliver=-1,
                max_ack_pending=10_000,
            ),
        )
        return ACK_WAIT
    if config.deliver_subject or config.ack_policy != AckPolicy.EXPLICIT:
        raise RuntimeError(
            f"the consumer {subjects.durable!r} must be a pull consumer with explicit acks: "
            "delete it, and the worker creates a new one"
        )
    if config.max_deliver is not None and config.max_deliver > 0:
        LOG.error(
            "the consumer %r has max_deliver %d: after that many deliveries JetStream drops a "
            "command without notice; set it to -1",
            subjects.durable,
            config.max_deliver,
        )
    return config.ack_wait or ACK_WAIT
