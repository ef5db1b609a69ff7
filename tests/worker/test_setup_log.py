"""What does not fit in stream or consumer is logged once, and again when it comes back."""

from __future__ import annotations

import logging

import pytest
from nats.js.api import ConsumerConfig

from tests.conftest import wait_until
from tests.worker.conftest import Place, serving
from tests.worker.test_stream_checks import CONSUMER, STREAM, SUBJECTS
from thor_async.emulator import ThorEmulator
from thor_async.worker.setup_log import SetupLog
from thor_async.worker.streams import StreamSetup


def setup(**changes: int) -> StreamSetup:
    return StreamSetup(STREAM, CONSUMER.evolve(**changes), None)


def test_each_finding_is_logged_when_it_is_new(caplog: pytest.LogCaptureFixture) -> None:
    log = SetupLog(SUBJECTS, max_age=600.0, max_in_flight=32)
    for changes in ({}, {"max_deliver": 5}, {"max_deliver": 5, "max_ack_pending": 1}, {}):
        log.check(setup(**changes))
    log.check(setup(max_deliver=5))
    found = [(record.levelno, record.getMessage().split(":")[0]) for record in caplog.records]
    assert found == [
        (logging.ERROR, "max_deliver"),
        (logging.WARNING, "max_ack_pending"),
        (logging.ERROR, "max_deliver"),
    ]
    assert "set it to -1" in caplog.text


def test_the_figures_are_those_of_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    SetupLog(SUBJECTS, max_age=60.0, max_in_flight=1).check(setup(max_ack_pending=1))
    assert caplog.records == []
    SetupLog(SUBJECTS, max_age=30 * 86_400.0, max_in_flight=1).check(setup())
    assert "max_age" in caplog.text


@pytest.mark.broker
async def test_a_worker_says_it_at_its_start(
    place: Place, emulator: ThorEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    await place.make(ack_wait=30.0)
    consumer = ConsumerConfig(
        durable_name=place.durable, filter_subject=place.names["subject"], max_deliver=5
    )
    await place.jetstream.delete_consumer(place.names["stream"], place.durable)
    await place.jetstream.add_consumer(place.names["stream"], consumer)
    async with serving(place, emulator) as worker:
        await wait_until(lambda: worker.state == "running")
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert [line.split(":")[0] for line in lines] == ["max_deliver"]
