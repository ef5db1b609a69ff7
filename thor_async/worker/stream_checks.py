"""Compares an existing stream and consumer with what a worker needs. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from .streams import Subjects, covers

_LEAST_WINDOW = 120.0
_LEAST_ACK_WAIT = 5.0


class Finding(msgspec.Struct, frozen=True):
    """One setting of a stream or consumer that does not fit, and its cure.

    `severity` is `error` if a worker cannot serve, or commands or results can be lost, else
    `warning`. `setting` is the name of the setting in NATS.
    """

    severity: Literal["error", "warning"]
    setting: str
    problem: str
    cure: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.setting}: {self.problem}; {self.cure}"


def check_stream(
    config: StreamConfig,
    subjects: Subjects,
    *,
    replicas: int | None = None,
    kept_for: float | None = None,
    max_age: float = 600.0,
) -> list[Finding]:
    """Returns what does not fit in the stream.

    `replicas` and `kept_for` (seconds) are the values that were asked for, None for any. `max_age`
    is that of the workers.
    """
    return [
        *_find_missing_subjects(config, subjects),
        *_find_retention(config, max_age),
        *_find_limits(config, max_age),
        *_find_durability(config, replicas, kept_for),
    ]


def check_consumer(
    config: ConsumerConfig, subjects: Subjects, *, max_in_flight: int = 32
) -> list[Finding]:
    """Returns what does not fit in the consumer. `max_in_flight` is that of one worker."""
    return [
        *_find_delivery(config),
        *_find_filter(config, subjects),
        *_find_redelivery(config),
        *_find_throughput(config, max_in_flight),
    ]


def _find_missing_subjects(config: StreamConfig, subjects: Subjects) -> Iterator[Finding]:
    for subject in subjects.all:
        if not any(covers(pattern, subject) for pattern in config.subjects or []):
            problem = f"the stream {config.name!r} does not hold {subject!r}"
            yield Finding("error", "subjects", problem, "add it to its subjects")


def _find_retention(config: StreamConfig, max_age: float) -> Iterator[Finding]:
    if config.retention == RetentionPolicy.INTEREST:
        yield Finding(
            "error",
            "retention",
            "interest: NATS drops an outcome or a dead letter for which no consumer exists",
            "set it to limits",
        )
    if config.retention == RetentionPolicy.WORK_QUEUE and config.duplicate_window < max_age:
        yield Finding(
            "error",
            "duplicate_window",
            f"{config.duplicate_window:.0f} s: stored results of a work queue cannot be looked "
            "through, so a later redelivery can get a second result",
            f"set it to {max_age:.0f} s or more, or make the stream anew with retention limits",
        )
    elif config.duplicate_window < _LEAST_WINDOW:
        yield Finding(
            "warning",
            "duplicate_window",
            f"{config.duplicate_window:.0f} s: a file that is published twice, or a result that is "
            "stored twice, is doubled after that time or costs a look through the stream",
            "set it to 600 s",
        )
    if config.no_ack:
        problem = "NATS confirms no message, so a worker never knows that a result is stored"
        yield Finding("error", "no_ack", problem, "set it to false")


def _find_limits(config: StreamConfig, max_age: float) -> Iterator[Finding]:
    """A stream that is full must refuse messages: the oldest may be commands that wait."""
    if 0 < (config.max_age or 0) < max_age:
        yield Finding(
            "error",
            "max_age",
            f"{config.max_age:.0f} s: a command that waits longer vanishes without a dead letter",
            f"set it to more than the --max-age of the workers, {max_age:.0f} s",
        )
    limits = {"max_msgs": config.max_msgs, "max_bytes": config.max_bytes}
    limits["max_msgs_per_subject"] = config.max_msgs_per_subject
    names = [name for name, value in limits.items() if (value or -1) > 0]
    if names and config.discard != DiscardPolicy.NEW:
        yield Finding(
            "error",
            "discard",
            f"old, with {' and '.join(names)}: a full stream drops commands that nobody has served",
            "set it to new, so that the producer is refused",
        )


def _find_durability(
    config: StreamConfig, replicas: int | None, kept_for: float | None
) -> Iterator[Finding]:
    if config.storage == StorageType.MEMORY:
        problem = "memory: a restart of NATS loses all commands and results"
        yield Finding("warning", "storage", problem, "make the stream anew with storage file")
    found = config.num_replicas or 1
    if replicas is not None and found != replicas:
        yield Finding(
            "warning", "num_replicas", f"{found}, not {replicas}", f"set it to {replicas}"
        )
    age = config.max_age or 0.0
    if kept_for is not None and age != kept_for:
        yield Finding(
            "warning",
            "max_age",
            f"{age:.0f} s, not {kept_for:.0f} s",
            f"set it to {kept_for:.0f} s",
        )


def _find_delivery(config: ConsumerConfig) -> Iterator[Finding]:
    anew = "delete the consumer, and the worker creates a new one"
    if config.deliver_subject:
        yield Finding(
            "error", "deliver_subject", "it is a push consumer, not a pull consumer", anew
        )
    if config.ack_policy != AckPolicy.EXPLICIT:
        problem = (
            f"{AckPolicy(config.ack_policy).value}: only explicit acks say that a command has ended"
        )
        yield Finding("error", "ack_policy", problem, anew)
    if config.headers_only:
        problem = "it delivers no body, so that no command can be read"
        yield Finding("error", "headers_only", problem, "set it to false")
    if config.pause_until:
        problem = f"it delivers nothing until {config.pause_until}"
        yield Finding("warning", "pause_until", problem, "resume the consumer")


def _find_filter(config: ConsumerConfig, subjects: Subjects) -> Iterator[Finding]:
    """The consumer must deliver all commands, and nothing else."""
    filters = list(config.filter_subjects or [])
    if config.filter_subject:
        filters.append(config.filter_subject)
    shown = " ".join(map(repr, filters)) or "none"
    cure = f"set it to {subjects.commands!r}"
    own = [subjects.dead_letters, subjects.outcomes]
    results = [s for s in own if not filters or any(covers(pattern, s) for pattern in filters)]
    if results:
        problem = f"{shown}: a worker would receive its own messages of {' and '.join(results)}"
        yield Finding("error", "filter_subject", problem, cure)
    if filters and not any(covers(pattern, subjects.commands) for pattern in filters):
        problem = f"{shown}: it does not deliver the commands of {subjects.commands!r}"
        yield Finding("error", "filter_subject", problem, cure)


def _find_redelivery(config: ConsumerConfig) -> Iterator[Finding]:
    if (config.max_deliver or -1) > 0:
        yield Finding(
            "error",
            "max_deliver",
            f"{config.max_deliver}: after that many deliveries JetStream drops a command without "
            "notice",
            "set it to -1",
        )
    if config.backoff:
        problem = "it replaces ack_wait: a command in hand can be delivered to another worker"
        yield Finding("error", "backoff", problem, "remove it")
    if config.ack_wait is not None and config.ack_wait < _LEAST_ACK_WAIT:
        problem = f"{config.ack_wait:g} s: a slow network can deliver a command in hand again"
        yield Finding("warning", "ack_wait", problem, "set it to 30 s")


def _find_throughput(config: ConsumerConfig, max_in_flight: int) -> Iterator[Finding]:
    pending = config.max_ack_pending or -1
    if 0 < pending < max_in_flight:
        yield Finding(
            "warning",
            "max_ack_pending",
            f"{pending}: all workers together hold at most that many commands, and one worker "
            f"alone can hold {max_in_flight}",
            "set it to 10000",
        )
