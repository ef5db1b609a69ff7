"""Creates the JetStream stream and consumer when they are missing, and never changes them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    ConsumerInfo,
    RetentionPolicy,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import NotFoundError

ACK_WAIT = 30.0
KEPT_FOR = 7 * 24 * 3600.0
_DUPLICATE_WINDOW = 600.0
_MARK = {"created-by": "thor_async"}

C = TypeVar("C", StreamConfig, ConsumerConfig)


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


class StreamSetup(NamedTuple):
    """The stream and the consumer that were found, and when the stream was created.

    `pending` counts the messages that the consumer had not delivered then. `consumer_created` is
    None if it is not known.
    """

    stream: StreamConfig
    consumer: ConsumerConfig
    created: datetime | None
    pending: int = 0
    consumer_created: datetime | None = None

    @property
    def ack_wait(self) -> float:
        """Seconds after which the consumer delivers a message again."""
        return self.consumer.ack_wait or ACK_WAIT

    @property
    def duplicate_window(self) -> float:
        """That of the stream in seconds; infinite for a work queue: it cannot be looked through."""
        is_queue = self.stream.retention == RetentionPolicy.WORK_QUEUE
        return math.inf if is_queue else self.stream.duplicate_window


def covers(pattern: str, subject: str) -> bool:
    """Whether the NATS pattern matches everything that `subject`, itself a pattern or not, does."""
    left, right = pattern.split("."), subject.split(".")
    for index, part in enumerate(left):
        if part == ">":
            return len(right) > index
        if index >= len(right) or right[index] == ">" or part not in ("*", right[index]):
            return False
    return len(left) == len(right)


async def ensure_streams(
    jetstream: JetStreamContext, subjects: Subjects, previous: StreamSetup | None = None
) -> StreamSetup:
    """Creates a missing stream or consumer; returns what is there now.

    A stream that is created here keeps its messages for seven days. With `previous`, what was
    there before and was deleted is only created again if a worker had created it, and as it was.
    Raises RuntimeError, with the cure, when the stream or the consumer cannot serve.
    """
    stream = await _ensure_stream(jetstream, subjects, previous)
    consumer = await _ensure_consumer(jetstream, subjects, previous)
    pending = consumer.num_pending or 0
    return StreamSetup(stream.config, consumer.config, stream.created, pending, consumer.created)


async def _ensure_stream(
    jetstream: JetStreamContext, subjects: Subjects, previous: StreamSetup | None
) -> StreamInfo:
    try:
        info = await jetstream.stream_info(subjects.stream)
    except NotFoundError:
        if previous is not None:
            config = _recreate(f"stream {subjects.stream!r}", previous.stream)
        else:
            config = make_stream(subjects)
        return await jetstream.add_stream(config)
    for subject in subjects.all:
        if not any(covers(pattern, subject) for pattern in info.config.subjects or []):
            raise RuntimeError(
                f"the stream {subjects.stream!r} does not hold {subject!r}: add it to its subjects"
            )
    return info


async def _ensure_consumer(
    jetstream: JetStreamContext, subjects: Subjects, previous: StreamSetup | None
) -> ConsumerInfo:
    name = subjects.durable
    try:
        info: ConsumerInfo = await jetstream.consumer_info(subjects.stream, name)
    except NotFoundError:
        if previous is not None:
            config = _recreate(f"consumer {name!r}", previous.consumer)
        else:
            config = make_consumer(subjects)
        return await jetstream.add_consumer(subjects.stream, config)
    config = info.config
    if config.deliver_subject or config.ack_policy != AckPolicy.EXPLICIT:
        raise RuntimeError(
            f"the consumer {name!r} must be a pull consumer with explicit acks: "
            "delete it, and the worker creates a new one"
        )
    filters = config.filter_subjects or [config.filter_subject or ">"]
    if not all(covers(subjects.commands, subject) for subject in filters):
        raise RuntimeError(
            f"the consumer {name!r} delivers {', '.join(filters)}, not only {subjects.commands}: "
            "set its filter_subject"
        )
    return info


def make_stream(
    subjects: Subjects, *, replicas: int = 1, kept_for: float = KEPT_FOR
) -> StreamConfig:
    """Returns a stream that keeps its messages for `kept_for` seconds."""
    return StreamConfig(
        name=subjects.stream,
        subjects=subjects.all,
        retention=RetentionPolicy.LIMITS,
        max_age=kept_for,
        num_replicas=replicas,
        # NATS allows no longer one.
        duplicate_window=min(_DUPLICATE_WINDOW, kept_for),
        metadata=dict(_MARK),
    )


def make_consumer(subjects: Subjects) -> ConsumerConfig:
    """Returns the consumer that all workers of the command subject share."""
    return ConsumerConfig(
        durable_name=subjects.durable,
        filter_subject=subjects.commands,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT,
        max_deliver=-1,
        max_ack_pending=10_000,
        metadata=dict(_MARK),
    )


def _recreate(what: str, config: C) -> C:
    """Returns the config to create again. Raises RuntimeError if a worker did not create it."""
    metadata = config.metadata or {}
    if not _MARK.items() <= metadata.items():
        raise RuntimeError(
            f"the {what} was deleted, and no worker had created it: create it again, or restart "
            "the worker, which creates one with settings of its own"
        )
    return config.evolve(metadata=dict(_MARK))  # without what the server had added
