"""`worker --init`: creates stream and consumer, and names what does not fit in existing ones."""

from __future__ import annotations

import pytest
from nats.js.api import (
    ConsumerConfig,
    ConsumerInfo,
    DiscardPolicy,
    RetentionPolicy,
    StreamConfig,
    StreamInfo,
)

from tests.cli.commands.conftest import Broker
from tests.cli.conftest import Run
from tests.worker.conftest import Place

pytestmark = pytest.mark.broker


def found(broker: Broker) -> tuple[StreamInfo, ConsumerInfo]:
    async def find(place: Place) -> tuple[StreamInfo, ConsumerInfo]:
        stream = place.names["stream"]
        jetstream = place.jetstream
        return await jetstream.stream_info(stream), await jetstream.consumer_info(
            stream, place.durable
        )

    return broker.do(find)


def make(broker: Broker, consumer: ConsumerConfig, **settings: object) -> None:
    async def make(place: Place) -> None:
        config = StreamConfig(name=place.names["stream"], subjects=[f"t{place.number}.>"])
        await place.jetstream.add_stream(config.evolve(**settings))
        named = consumer.evolve(durable_name=place.durable)
        await place.jetstream.add_consumer(place.names["stream"], named)

    broker.do(make)


def test_both_are_created_once(run: Run, broker: Broker) -> None:
    """Without a key for Thor: an init container needs none."""
    options = ("--stream-max-age", "12h", "--replicas", "1", *broker.options)
    result = run("worker", "--init", *options)
    assert (result.status, result.err) == (0, "")
    stream, durable = broker.names["stream"], f"worker-t{broker.number}-stop"
    assert result.out == f"created the stream '{stream}'\ncreated the consumer '{durable}'\n"
    info, consumer = found(broker)
    assert (info.config.max_age, info.config.num_replicas) == (12 * 3600, 1)
    assert info.config.duplicate_window == 600
    assert consumer.config.max_ack_pending == 10_000
    for metadata in (info.config.metadata, consumer.config.metadata):
        # So a worker creates them again when they are deleted.
        assert (metadata or {})["created-by"] == "thor_async"
    again = run("worker", "--init", *options)
    assert again == (0, f"stream '{stream}' and consumer '{durable}' fit\n", "")
    assert found(broker)[0].config == info.config


def test_replicas_that_the_server_cannot_give(run: Run, broker: Broker) -> None:
    result = run("worker", "--init", "--replicas", "3", *broker.options)
    assert (result.status, result.out) == (2, "")
    assert "replicas > 1 not supported in non-clustered mode" in result.err


def test_what_does_not_fit_is_named_with_its_cure(run: Run, broker: Broker) -> None:
    wrong = ConsumerConfig(
        filter_subject=f"t{broker.number}.>", max_deliver=5, max_ack_pending=1, ack_wait=30
    )
    make(broker, wrong, retention=RetentionPolicy.INTEREST, duplicate_window=30.0)
    before = found(broker)
    result = run("worker", "--init", "--replicas", "3", *broker.options)
    assert (result.status, result.err) == (1, "")
    settings = [tuple(line.split(": ")[:2]) for line in result.out.splitlines()]
    assert settings == [
        ("error", "retention"),
        ("warning", "duplicate_window"),
        ("warning", "num_replicas"),
        ("error", "filter_subject"),
        ("error", "max_deliver"),
        ("warning", "max_ack_pending"),
    ]
    assert all("; " in line for line in result.out.splitlines())
    assert found(broker)[0].config == before[0].config
    assert found(broker)[1].config == before[1].config


def test_a_warning_alone_is_no_failure(run: Run, broker: Broker) -> None:
    consumer = ConsumerConfig(filter_subject=broker.names["subject"], ack_wait=30)
    make(broker, consumer, duplicate_window=30.0, max_msgs=9, discard=DiscardPolicy.NEW)
    result = run("worker", "--init", *broker.options)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("warning: duplicate_window: 30 s: ")
    assert result.out.count("\n") == 1
