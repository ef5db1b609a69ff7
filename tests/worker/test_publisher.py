"""A message ends only after what is published of it is stored."""

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
def steps() -> mock.Mock:
    steps = mock.Mock(publish=mock.AsyncMock(), ack=mock.AsyncMock())
    steps.reject, steps.nack = mock.AsyncMock(), mock.AsyncMock()
    return steps


async def end(steps: mock.Mock, fate: Settlement, times: int = 1, ref: str | None = None) -> None:
    client: Any = mock.Mock(max_payload=2**20)
    client.jetstream.return_value = steps
    message: Any = mock.Mock(body=b"body", ack=steps.ack, reject=steps.reject, nack=steps.nack)
    message.raw_message.metadata.sequence.stream = 7
    message.raw_message.metadata.num_delivered = times
    await SettlementPublisher(client, Subjects()).end(
        message, fate, outcome(None, msgspec.structs.replace(PINNED, ref=ref))
    )


@pytest.mark.parametrize(("action", "last"), [("ack", "ack"), ("dead_letter", "reject")])
async def test_it_is_stored_first(action: Any, last: str, steps: mock.Mock) -> None:
    await end(steps, Settlement(action, reason="why"))
    assert [name for name, _, _ in steps.method_calls] == ["publish", last]
    assert steps.publish.call_args.kwargs["headers"]["Nats-Msg-Id"].startswith("7-")


@pytest.mark.parametrize("action", ["ack", "dead_letter"])
async def test_what_cannot_be_stored_is_not_ended(
    action: Any, steps: mock.Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_RESTS", (0.0, 0.0))
    steps.publish.side_effect = nats.errors.TimeoutError
    with pytest.raises(nats.errors.TimeoutError):
        await end(steps, Settlement(action, reason="why"))
    assert [name for name, _, _ in steps.method_calls] == ["publish"] * 3


async def test_it_is_tried_again(steps: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_RESTS", (0.0, 0.0))
    steps.publish.side_effect = [nats.errors.TimeoutError, None]
    await end(steps, Settlement("ack"))
    assert [name for name, _, _ in steps.method_calls] == ["publish", "publish", "ack"]


@pytest.mark.parametrize(("delay", "given"), [(2.5, 2.5), (0.0, None)])
async def test_what_is_given_back_is_not_published(
    delay: float, given: float | None, steps: mock.Mock
) -> None:
    await end(steps, Settlement("retry", delay=delay))
    assert steps.method_calls == [mock.call.nack(given)]


@pytest.mark.parametrize(("times", "maybe"), [(1, False), (2, True)])
async def test_a_redelivered_one_may_have_worked_before(
    times: int, maybe: bool, steps: mock.Mock
) -> None:
    await end(steps, Settlement("ack"), times)
    row = msgspec.json.decode(steps.publish.call_args.args[1])
    assert (row["deliveries"], row["maybe_applied"]) == (times, maybe)
    await end(steps, Settlement("dead_letter", reason="why"), times)
    headers = steps.publish.call_args.kwargs["headers"]
    assert headers["Thor-Maybe-Applied"] == str(maybe).lower()


async def test_an_outcome_that_is_too_long_for_nats_leaves_its_ref_out(steps: mock.Mock) -> None:
    await end(steps, Settlement("ack"), ref="r" * 2**20)
    stored = steps.publish.call_args.args[1]
    assert len(stored) < 1000
    assert msgspec.json.decode(stored)["ref"] is None
