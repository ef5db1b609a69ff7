"""A message ends only after its outcome or dead letter is stored."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import msgspec
import nats.errors
import nats.js.errors
import pytest
from nats.js.api import PubAck

from tests.worker.test_deliveries import SETUP, make_delivery
from tests.worker.test_settlement import PINNED, outcome
from thor_async.worker import Settlement
from thor_async.worker.publisher import SettlementPublisher
from thor_async.worker.streams import Subjects

STORED = PubAck(stream="THOR", seq=8)
FULL = nats.js.errors.ServiceUnavailableError(code=503, description="maximum messages exceeded")


class Storage:
    """A JetStream that gives these answers, and the sleeps between them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: PubAck | Exception) -> None:
        self.publish = mock.AsyncMock(side_effect=[*answers, STORED])
        self.delays: list[float] = []
        self.unstored: list[int] = []
        self.client: Any = mock.Mock(max_payload=2**20)
        self.client.jetstream.return_value = self
        self.publisher = SettlementPublisher(
            self.client, Subjects(), mock.AsyncMock(return_value=SETUP)
        )
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, delay: float) -> None:
        self.delays.append(delay)
        self.unstored.append(self.publisher.unstored)

    async def store(
        self, settlement: Settlement, deliveries: int = 1, ref: str | None = None
    ) -> bytes:
        result = outcome(None, msgspec.structs.replace(PINNED, ref=ref))
        await self.publisher.store(make_delivery(count=deliveries), settlement, result)
        return bytes(self.publish.call_args.args[1])

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.publish.call_args.kwargs["headers"])


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    return Storage(monkeypatch)


async def test_outcome_and_dead_letter_have_the_same_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """So JetStream stores one of them."""
    ids = set()
    for settlement in (Settlement("ack"), Settlement("dead_letter", reason="why")):
        storage = Storage(monkeypatch)
        await storage.store(settlement)
        ids.add(storage.headers["Nats-Msg-Id"])
    assert len(ids) == 1


@pytest.mark.parametrize("action", ["ack", "dead_letter"])
@pytest.mark.parametrize("failure", [nats.errors.TimeoutError(), FULL, OSError()])
async def test_a_result_is_stored_again_until_it_is_stored(
    action: Any, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(monkeypatch, *[failure] * 8)
    await storage.store(Settlement(action, reason="why"))
    assert storage.publish.call_count == 9
    assert len({str(call) for call in storage.publish.call_args_list}) == 1
    assert storage.delays == [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert storage.unstored == [1] * 8
    assert storage.publisher.unstored == 0


async def test_nothing_is_published_for_a_retry(storage: Storage) -> None:
    delivery = make_delivery()
    await storage.publisher.store(delivery, Settlement("retry"), outcome(None))
    assert not storage.publish.called


@pytest.mark.parametrize(
    ("settlement", "call"),
    [
        (Settlement("ack"), mock.call.ack()),
        (Settlement("dead_letter", reason="why"), mock.call.term()),
        (Settlement("retry", delay=2.5), mock.call.nak(2.5)),
        (Settlement("retry"), mock.call.nak(None)),
    ],
)
async def test_the_message_ends(settlement: Settlement, call: Any, storage: Storage) -> None:
    delivery = make_delivery()
    await storage.publisher.end(delivery, settlement)
    made = [c for c in delivery.message.method_calls if c[0] in ("ack", "term", "nak")]  # type: ignore[attr-defined]
    assert made == [call]


async def test_a_result_that_was_stored_before_is_no_new_dead_letter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dead_letter = Settlement("dead_letter", reason="why")
    await Storage(monkeypatch, PubAck(stream="THOR", seq=8, duplicate=True)).store(dead_letter)
    assert caplog.records == []
    await Storage(monkeypatch).store(dead_letter)
    assert [record.getMessage() for record in caplog.records] == [
        "dead letters begin: thor-async dead list shows them",
        "message 7 is a dead letter: why",
    ]


async def test_only_the_first_dead_letters_are_an_alarm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Storage(monkeypatch, STORED, STORED, STORED)
    now = [1000.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    for passed in (0.0, 500.0, 500.0, 600.0):
        now[0] += passed
        await storage.store(Settlement("dead_letter", reason="why"))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["ERROR", "WARNING", "WARNING", "WARNING", "ERROR", "WARNING"]


@pytest.mark.parametrize(("deliveries", "maybe"), [(1, False), (2, True)])
async def test_a_redelivered_command_may_have_been_applied(
    deliveries: int, maybe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = msgspec.json.decode(await Storage(monkeypatch).store(Settlement("ack"), deliveries))
    assert (row["deliveries"], row["maybe_applied"]) == (deliveries, maybe)
    storage = Storage(monkeypatch)
    await storage.store(Settlement("dead_letter", reason="why"), deliveries)
    assert storage.headers["Thor-Maybe-Applied"] == str(maybe).lower()


async def test_a_message_whose_stream_was_deleted_is_not_acknowledged(storage: Storage) -> None:
    """That would end the message of the same number in the new stream."""
    old = SETUP._replace(created=datetime(2025, 1, 1, tzinfo=UTC))
    delivery = make_delivery(setup=old)
    for settlement in (Settlement("ack"), Settlement("dead_letter"), Settlement("retry")):
        await storage.publisher.end(delivery, settlement)
    assert await storage.publisher.is_gone(delivery)
    assert not any(
        getattr(delivery.message, name).called for name in ("ack", "term", "nak", "in_progress")
    )


@pytest.mark.parametrize(
    ("reason", "header"),
    [
        ("Thor answered 400: La colonnina non è", r"Thor answered 400: La colonnina non \xe8"),
        ("充電 \U0001f50c", r"\u5145\u96fb \U0001f50c"),
        ("a\r\nb\x00", r"a\r\nb\x00"),
        ("plain: colon", "plain: colon"),
    ],
)
async def test_a_header_is_printable_ascii(reason: str, header: str, storage: Storage) -> None:
    await storage.store(Settlement("dead_letter", reason=reason))
    assert storage.headers["Thor-Reason"] == header


async def test_an_outcome_too_long_for_nats_is_stored_without_its_ref(storage: Storage) -> None:
    stored = await storage.store(Settlement("ack"), ref="r" * 2**20)
    assert len(stored) < 1000
    assert msgspec.json.decode(stored)["ref"] is None
