"""What a worker does with one message."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from unittest import mock

import msgspec
import pytest

from tests.conftest import TAG
from tests.worker.test_deliveries import SETUP
from tests.worker.test_deliveries import message as make_message
from tests.worker.test_settlement import BARE, PINNED, outcome
from thor_async import (
    APIKeyNotFound,
    Confirmation,
    ConnectionLost,
    NotSentError,
    StopCharge,
    StopOutcome,
    _calls,
)
from thor_async.worker.deliveries import DeliveryTracker
from thor_async.worker.handler import MessageHandler

UNKNOWN_LIST = NotSentError("not known", reason="pin", cause=ConnectionLost("lost"))


class Fixture:
    """A handler whose client gives these results, and what it stored."""

    def __init__(self, *results: StopOutcome | Confirmation | Exception, **settings: Any) -> None:
        self.calls = mock.AsyncMock(side_effect=results)
        self.thor: Any = mock.Mock(aclose=mock.AsyncMock())
        self.publisher: Any = mock.Mock(unstored=0)
        self.publisher.store, self.publisher.end = mock.AsyncMock(), mock.AsyncMock()
        self.publisher.is_gone = mock.AsyncMock(return_value=False)
        settings = {"max_age": 1e9, "fresh_for": 1e9, "confirm": None} | settings
        self.handler = MessageHandler(self.thor, self.publisher, **settings)

    async def handle(self, count: int = 1, command: StopCharge = BARE) -> str | None:
        """Returns the action of the settlement with which the message ended."""
        message = make_message(count=count)
        message.data = msgspec.json.encode(command)
        self.publisher.end.reset_mock()
        with mock.patch.multiple(_calls, stop=self.calls, confirm=self.calls):
            await self.handler.handle(message, SETUP)
        return self.publisher.end.call_args.args[1].action if self.publisher.end.called else None

    @property
    def commands(self) -> list[StopCharge]:
        return [call.args[1] for call in self.calls.call_args_list]


async def test_the_result_is_stored_before_the_message_ends() -> None:
    fixture = Fixture(outcome(None, BARE))
    order = mock.Mock()
    order.attach_mock(fixture.publisher.store, "store")
    order.attach_mock(fixture.publisher.end, "end")
    assert await fixture.handle() == "ack"
    assert [name for name, _, _ in order.method_calls] == ["store", "end"]


async def test_a_message_in_hand_is_not_handled_twice() -> None:
    fixture = Fixture(outcome(None, PINNED))
    may_store = asyncio.Event()

    async def store(*_: object) -> None:
        await may_store.wait()

    fixture.publisher.store.side_effect = store
    first = asyncio.create_task(fixture.handle(command=PINNED))
    await asyncio.sleep(0)
    again = make_message(count=2)
    await fixture.handler.handle(again, SETUP)
    may_store.set()
    assert await first == "ack"
    assert fixture.commands == [PINNED]
    assert fixture.publisher.end.call_args.args[0].message is again


async def test_a_message_whose_result_is_stored_only_ends() -> None:
    fixture = Fixture(outcome(None, PINNED))
    await fixture.handle(command=PINNED)
    again = make_message(count=2)
    await fixture.handler.handle(again, SETUP)
    assert fixture.commands == [PINNED]
    delivery, settlement = fixture.publisher.end.call_args.args
    assert (delivery.message, settlement.action) == (again, "ack")


@pytest.mark.parametrize("command", [PINNED, BARE])
async def test_a_result_that_was_stored_before_counts(command: StopCharge) -> None:
    fixture = Fixture(outcome(ConnectionLost("lost"), BARE))
    fixture.publisher.store.return_value = False
    assert await fixture.handle(2, command) == "ack"


async def test_a_message_that_was_returned_is_sent_again() -> None:
    fixture = Fixture(outcome(NotSentError("no")), outcome(None))
    assert await fixture.handle(command=PINNED) == "retry"
    assert await fixture.handle(2, PINNED) == "ack"
    assert fixture.commands == [PINNED, PINNED]


@pytest.mark.parametrize(("count", "fresh_for"), [(2, 1e9), (1, -1.0)])
async def test_a_repeat_and_an_old_command_are_bound_to_the_time_of_the_message(
    count: int, fresh_for: float
) -> None:
    fixture = Fixture(outcome(None, BARE), fresh_for=fresh_for)
    await fixture.handle(count)
    created = make_message().metadata.timestamp
    assert fixture.commands == [msgspec.structs.replace(BARE, as_of=created)]


async def test_an_unknown_list_makes_a_repeat_a_dead_letter() -> None:
    assert await Fixture(outcome(UNKNOWN_LIST, BARE)).handle(2) == "dead_letter"


async def test_an_unknown_list_is_asked_again_by_the_worker_that_knows_that_nothing_was_sent() -> (
    None
):
    unsent = outcome(NotSentError("no"), BARE)
    unknown = outcome(UNKNOWN_LIST, BARE)
    fixture = Fixture(unsent, unknown, unknown, unknown)
    assert [await fixture.handle(count) for count in (1, 2, 3)] == ["retry"] * 3
    # Another worker had the fourth.
    assert await fixture.handle(5) == "dead_letter"


async def test_an_attempt_that_may_have_worked_is_not_unsent() -> None:
    maybe = outcome(APIKeyNotFound("no"), BARE, maybe=True)
    fixture = Fixture(maybe, outcome(UNKNOWN_LIST, BARE))
    assert await fixture.handle() == "retry"
    fixture.handler._breaker.disable()
    assert await fixture.handle(2) == "dead_letter"


async def test_an_unknown_list_is_asked_again_while_thor_refuses_the_account() -> None:
    fixture = Fixture(outcome(APIKeyNotFound("no")), outcome(UNKNOWN_LIST, BARE))
    assert await fixture.handle(command=PINNED) == "retry"
    assert fixture.handler.is_paused
    with mock.patch.object(fixture.handler._breaker, "acquire_probe", mock.AsyncMock()):
        # Another worker had the second delivery.
        assert await fixture.handle(3) == "retry"
    fixture.handler.drain()


@pytest.mark.parametrize(("is_cut", "action"), [(False, "retry"), (True, "dead_letter")])
async def test_a_watched_stop_that_is_cut_is_not_returned(is_cut: bool, action: str) -> None:
    watched = Confirmation("unconfirmed", "no list", outcome(None, PINNED))
    fixture = Fixture(watched, confirm=20.0)
    if is_cut:
        await fixture.handler.cut()
    assert await fixture.handle(command=PINNED) == action
    assert fixture.publisher.end.call_args.args[1].maybe_applied is is_cut


async def test_a_failure_leaves_the_message(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture(outcome(None, BARE))
    fixture.publisher.store.side_effect = ValueError(TAG)
    assert await fixture.handle() is None
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "message 7 is left to be delivered again: ValueError"
    assert not fixture.handler.deliveries.in_hand


async def test_an_api_key_function_that_raises_pauses(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture(ValueError(TAG), outcome(None, BARE))
    assert await fixture.handle() == "retry"
    assert fixture.publisher.end.call_args.args[1].delay > 0
    assert fixture.handler.is_paused
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("paused, a stop cannot be sent: the api_key function")
    assert TAG not in record.getMessage()
    with mock.patch.object(
        fixture.handler._breaker, "acquire_probe", mock.AsyncMock(return_value=1)
    ):
        assert await fixture.handle(2) == "ack"
    assert not fixture.handler.is_paused


async def test_a_cancelled_probe_is_passed_on() -> None:
    fixture = Fixture(asyncio.CancelledError())  # type: ignore[arg-type]
    release = mock.patch.object(fixture.handler._breaker, "release_probe")
    with release as released, pytest.raises(asyncio.CancelledError):
        await fixture.handle()
    assert released.called


@pytest.mark.parametrize(("schema", "action"), [(None, "ack"), ("1", "ack"), ("2", "dead_letter")])
async def test_the_schema_is_read_from_the_header(schema: str | None, action: str) -> None:
    fixture = Fixture(outcome(None, BARE))
    message = make_message()
    message.data = msgspec.json.encode(BARE)
    message.headers = None if schema is None else {"Thor-Schema": schema}
    with mock.patch.multiple(_calls, stop=fixture.calls):
        await fixture.handler.handle(message, SETUP)
    assert fixture.publisher.end.call_args.args[1].action == action


async def test_a_message_whose_stream_is_gone_cannot_be_delivered_again() -> None:
    fixture = Fixture(outcome(NotSentError("no", reason="connect")), outcome(ConnectionLost("no")))
    fixture.publisher.is_gone.return_value = True
    for maybe_applied in (False, True):
        assert await fixture.handle(command=PINNED) == "dead_letter"
        settlement = fixture.publisher.store.call_args.args[1]
        assert settlement.reason == "its stream was deleted: no"
        assert settlement.maybe_applied is maybe_applied
        fixture.handler.deliveries = DeliveryTracker()


async def test_a_result_that_cannot_be_stored_pauses() -> None:
    fixture = Fixture()
    assert not fixture.handler.is_paused
    fixture.publisher.unstored = 1
    assert fixture.handler.is_paused
