"""Creates stream and consumer before a worker runs, and says what does not fit in existing ones."""

from __future__ import annotations

from typing import NamedTuple

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from .stream_checks import Finding, check_consumer, check_stream
from .streams import KEPT_FOR, Subjects, make_consumer, make_stream


class Provisioned(NamedTuple):
    """What was created, and what does not fit in what existed."""

    created: list[str]
    findings: list[Finding]


async def provision(
    jetstream: JetStreamContext,
    subjects: Subjects,
    *,
    replicas: int | None = None,
    kept_for: float | None = None,
    max_age: float = 600.0,
    max_in_flight: int = 32,
) -> Provisioned:
    """Creates what is missing, changes nothing that exists, and returns what does not fit in it.

    `replicas` and `kept_for` are for the stream. `max_age` and `max_in_flight` are those of the
    workers. Raises the errors of JetStream.
    """
    created = []
    try:
        stream = (await jetstream.stream_info(subjects.stream)).config
    except NotFoundError:
        settings = make_stream(subjects, replicas=replicas or 1, kept_for=kept_for or KEPT_FOR)
        stream = (await jetstream.add_stream(settings)).config
        created.append(f"stream {subjects.stream!r}")
    try:
        consumer = (await jetstream.consumer_info(subjects.stream, subjects.durable)).config
    except NotFoundError:
        settings_of_consumer = make_consumer(subjects)
        consumer = (await jetstream.add_consumer(subjects.stream, settings_of_consumer)).config
        created.append(f"consumer {subjects.durable!r}")
    findings = check_stream(
        stream, subjects, replicas=replicas, kept_for=kept_for, max_age=max_age
    ) + check_consumer(consumer, subjects, max_in_flight=max_in_flight)
    return Provisioned(created, findings)
