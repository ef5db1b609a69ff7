"""A message ends only after its outcome or dead letter is stored."""

from __future__ import annotations

from typing import Any
from unittest import mock

import msgspec
import nats.errors
import pytest

from tests.worker.test_settlement import PINNED, outcome
from thor_async.worker import Settlement, publisher
from thor_async.worker.publisher import SettlementPublisher
from thor_async.worker.streams import Subjects


@pytest.fixture
def calls() -> mock.Mock:
    calls = mock.Mock(publish=mock.AsyncMock(), ack=mock.AsyncMock())
    calls.reject, calls.nack = mock.AsyncMock(), mock.AsyncMock()
    return calls


async def settle(
    calls: mock.Mock, settlement: Settlement, deliveries: int = 1, ref: str | None = None
) -> None:
    client: Any = mock.Mock(max_payload=2**20)
    client.jetstream.return_value = calls
    message: Any = mock.Mock(body=b"body", ack=calls.ack, reject=calls.reject, nack=calls.nack)
    message.raw_message.metadata.sequence.stream = 7
    message.raw_message.metadata.num_delivered = deliveries
    await SettlementPublisher(client, Subjects()).settle(
        message, settlement, outcome(None, msgspec.structs.replace(PINNED, ref=ref))
    )


@pytest.mark.parametrize(("action", "last"), [("ack", "ack"), ("dead_letter", "reject")])
async def test_the_result_is_stored_before_the_message_ends(
    action: Any, last: str, calls: mock.Mock
) -> None:
    await settle(calls, Settlement(action, reason="why"))
    assert [name for name, _, _ in calls.method_calls] == ["publish", last]
    assert calls.publish.call_args.kwargs["headers"]["Nats-Msg-Id"].startswith("7-")


@pytest.mark.parametrize("action", ["ack", "dead_letter"])
async def test_a_message_does_not_end_if_its_result_cannot_be_stored(
    action: Any, calls: mock.Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_RETRY_DELAYS", (0.0, 0.0))
    calls.publish.side_effect = nats.errors.TimeoutError
    with pytest.raises(nats.errors.TimeoutError):
        await settle(calls, Settlement(action, reason="why"))
    assert [name for name, _, _ in calls.method_calls] == ["publish"] * 3


async def test_storing_is_retried(calls: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_RETRY_DELAYS", (0.0, 0.0))
    calls.publish.side_effect = [nats.errors.TimeoutError, None]
    await settle(calls, Settlement("ack"))
    assert [name for name, _, _ in calls.method_calls] == ["publish", "publish", "ack"]


@pytest.mark.parametrize(("delay", "given"), [(2.5, 2.5), (0.0, None)])
async def test_nothing_is_published_for_a_retry(
    delay: float, given: float | None, calls: mock.Mock
) -> None:
    await settle(calls, Settlement("retry", delay=delay))
    assert calls.method_calls == [mock.call.nack(given)]


@pytest.mark.parametrize(("deliveries", "maybe"), [(1, False), (2, True)])
async def test_a_redelivered_command_may_have_been_applied(
    deliveries: int, maybe: bool, calls: mock.Mock
) -> None:
    await settle(calls, Settlement("ack"), deliveries)
    row = msgspec.json.decode(calls.publish.call_args.args[1])
    assert (row["deliveries"], row["maybe_applied"]) == (deliveries, maybe)
    await settle(calls, Settlement("dead_letter", reason="why"), deliveries)
    headers = calls.publish.call_args.kwargs["headers"]
    assert headers["Thor-Maybe-Applied"] == str(maybe).lower()


async def test_an_outcome_too_long_for_nats_is_stored_without_its_ref(calls: mock.Mock) -> None:
    await settle(calls, Settlement("ack"), ref="r" * 2**20)
    stored = calls.publish.call_args.args[1]
    assert len(stored) < 1000
    assert msgspec.json.decode(stored)["ref"] is None
