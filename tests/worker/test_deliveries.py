"""The messages that a worker has in hand, and those that it remembers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from nats.js.api import ConsumerConfig, StreamConfig

from thor_async.worker import deliveries
from thor_async.worker.deliveries import (
    Delivery,
    DeliveryTracker,
    make_result_id,
    parse_result_id,
)
from thor_async.worker.streams import StreamSetup

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


SETUP = StreamSetup(StreamConfig(duplicate_window=math.inf), ConsumerConfig(ack_wait=math.inf), NOW)


def make_delivery(
    sequence: int = 7, count: int = 1, created: datetime = NOW, setup: StreamSetup = SETUP
) -> Delivery:
    return Delivery(message(sequence, count, created), setup)


def message(sequence: int = 7, count: int = 1, created: datetime = NOW) -> Any:
    message = mock.Mock(data=b"body", headers=None, ack=mock.AsyncMock())
    message.term, message.nak = mock.AsyncMock(), mock.AsyncMock()
    message.metadata.sequence.stream = sequence
    message.metadata.num_delivered = count
    message.metadata.timestamp = created
    return message


def test_a_message_in_hand_is_not_begun_again() -> None:
    tracker = DeliveryTracker()
    first = tracker.begin(message(), SETUP)
    again = message(count=2)
    assert tracker.begin(again, SETUP) is None
    assert first is not None
    assert first.message is again  # the newest delivery is the one to end
    tracker.end(first)
    assert tracker.begin(message(count=3), SETUP) is not None


def test_another_message_of_a_stream_created_anew_is_not_the_same() -> None:
    tracker = DeliveryTracker()
    tracker.record_stored(make_delivery())
    assert tracker.is_stored(make_delivery(count=2))
    assert not tracker.is_stored(make_delivery(created=NOW + timedelta(seconds=1)))
    assert not tracker.is_stored(make_delivery(sequence=8))


def test_an_earlier_delivery_may_have_been_applied_unless_each_is_known_not_to_be() -> None:
    tracker = DeliveryTracker()
    assert not tracker.may_be_applied(make_delivery(count=1))
    assert tracker.may_be_applied(make_delivery(count=2))
    tracker.record_unsent(make_delivery(count=1))
    assert not tracker.may_be_applied(make_delivery(count=2))
    tracker.record_unsent(make_delivery(count=2))
    assert not tracker.may_be_applied(make_delivery(count=3))
    # Another worker had the fourth.
    assert tracker.may_be_applied(make_delivery(count=5))
    tracker.record_unsent(make_delivery(count=5))
    assert tracker.may_be_applied(make_delivery(count=6))


def test_the_id_of_a_result_is_that_of_its_message_alone() -> None:
    later = NOW + timedelta(microseconds=1)
    ids = {
        make_delivery(7).result_id,
        make_delivery(8).result_id,
        make_delivery(7, 1, later).result_id,
    }
    assert len(ids) == 3
    assert make_delivery(7).result_id == make_delivery(7, 2).result_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (make_result_id(7, NOW), 7),
        (make_result_id(7, NOW - timedelta(seconds=1)), None),
        ("7-settled", 7),
        ("7", None),
        ("x-settled", None),
        ("7-x-settled", None),
        ("7-1-2-settled", None),
        ("", None),
    ],
)
def test_the_sequence_of_a_result(text: str, expected: int | None) -> None:
    assert parse_result_id(text, NOW) == expected


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_REMEMBERED", 2)
    tracker = DeliveryTracker()
    for sequence in (1, 2, 3):
        tracker.record_stored(make_delivery(sequence))
        tracker.record_unsent(make_delivery(sequence))
    assert [tracker.is_stored(make_delivery(n, 2)) for n in (1, 2, 3)] == [False, True, True]
    assert [tracker.may_be_applied(make_delivery(n, 2)) for n in (1, 2, 3)] == [
        True,
        False,
        False,
    ]
