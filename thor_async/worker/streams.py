"""The stream and the consumer in JetStream: created when missing, never altered."""

from __future__ import annotations

import logging

import msgspec
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

LOG = logging.getLogger("thor_async.worker")

ACK_WAIT = 30.0
_KEPT_FOR = 7 * 24 * 3600.0
_ALIKE_FOR = 600.0


class Subjects(msgspec.Struct, frozen=True):
    """Where commands come from, and where dead letters and outcomes go, all in one stream.

    Raises ValueError when a worker would be given what it has written itself.
    """

    stream: str = "THOR"
    commands: str = "thor.stop"
    dead_letters: str = "thor.stop.dead"
    outcomes: str = "thor.stop.outcomes"

    def __post_init__(self) -> None:
        for written in (self.dead_letters, self.outcomes):
            if covers(self.commands, written):
                raise ValueError(
                    f"the subject {self.commands!r} takes {written!r} in: a worker would be given "
                    "what it has written"
                )

    @property
    def all(self) -> list[str]:
        return [self.commands, self.dead_letters, self.outcomes]

    @property
    def durable(self) -> str:
        """The consumer's name: one for each subject, which all workers of that subject share."""
        plain = self.commands.replace(".", "-").replace("*", "any").replace(">", "all")
        return f"worker-{plain}"


def covers(pattern: str, subject: str) -> bool:
    """Whether a pattern of NATS's takes in all of a subject, which may be a pattern itself."""
    left, right = pattern.split("."), subject.split(".")
    for at, part in enumerate(left):
        if part == ">":
            return len(right) > at
        if at >= len(right) or right[at] == ">" or part not in ("*", right[at]):
            return False
    return len(left) == len(right)


async def prepare(jetstream: JetStreamContext, subjects: Subjects) -> float:
    """Creates what is missing; returns the consumer's `ack_wait`, in seconds.

    A stream made here keeps everything for seven days. Raises RuntimeError when what is there
    cannot serve, with the cure.
    """
    await _prepare_stream(jetstream, subjects)
    return await _prepare_consumer(jetstream, subjects)


async def _prepare_stream(jetstream: JetStreamContext, subjects: Subjects) -> None:
    try:
        found = (await jetstream.stream_info(subjects.stream)).config.subjects or []
    except NotFoundError:
        await jetstream.add_stream(
            StreamConfig(
                name=subjects.stream,
                subjects=subjects.all,
                retention=RetentionPolicy.LIMITS,
                max_age=_KEPT_FOR,
                duplicate_window=_ALIKE_FOR,
            )
        )
        return
    for subject in subjects.all:
        if not any(covers(pattern, subject) for pattern in found):
            raise RuntimeError(
                f"the stream {subjects.stream!r} does not hold {subject!r}: add it to its subjects"
            )


async def _prepare_consumer(jetstream: JetStreamContext, subjects: Subjects) -> float:
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
            "delete it, and it is made anew"
        )
    if config.max_deliver is not None and config.max_deliver > 0:
        LOG.error(
            "the consumer %r has max_deliver %d: JetStream drops a command past it, silently",
            subjects.durable,
            config.max_deliver,
        )
    return config.ack_wait or ACK_WAIT
