"""Listeners and log handlers get every event, and none of them can break a stop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import pytest

from tests.conftest import TAG, Rests
from tests.fake_transport import OK, FakeTransport, fleet
from thor_async import (
    AttemptFinished,
    BatchAbandoned,
    BatchPaused,
    BatchResumed,
    CallFinished,
    CallStarted,
    Event,
    StopCharge,
    ThorClient,
)
from thor_async._protocol.http_messages import Answer
from thor_async._telemetry.emitter import CallReporter, EventEmitter


def kinds(events: Sequence[Event]) -> list[type]:
    return [type(event) for event in events]


class Boom(BaseException): ...


@pytest.mark.parametrize("failure", [ValueError(TAG), asyncio.CancelledError()])
async def test_a_listener_that_raises_is_logged_once_and_breaks_nothing(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        raise failure

    thor = FakeTransport(lambda *_: OK)
    with thor.installed():
        async with thor.client(on_event=listener) as client:
            outcome = await client.stop_charge(next(fleet(1)))
            outcomes = await client.stop_many(fleet(20))
    assert {one.verdict for one in (outcome, *outcomes)} == {"relayed"}
    assert len(heard) == 4 * 21
    complaints = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.name for r in complaints] == ["thor_async"]
    message = complaints[0].getMessage()
    assert message.startswith(f"on_event raised {type(failure).__name__}")
    assert "in listener" in message
    assert TAG not in message


async def test_keyboard_interrupt_and_the_like_are_raised(command: StopCharge) -> None:
    def listener(event: Event) -> None:
        if isinstance(event, AttemptFinished):
            raise Boom

    thor = FakeTransport(lambda *_: OK)
    with thor.installed():
        async with thor.client(on_event=listener) as client:
            with pytest.raises(Boom):
                await client.stop_charge(command)


async def test_a_log_handler_that_raises_breaks_nothing(command: StopCharge) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError

    heard: list[Event] = []
    broken = Broken()
    logging.getLogger("thor_async").addHandler(broken)
    thor = FakeTransport(lambda *_: OK)
    try:
        with thor.installed():
            async with thor.client(on_event=heard.append) as client:
                assert (await client.stop_charge(command)).verdict == "relayed"
    finally:
        logging.getLogger("thor_async").removeHandler(broken)
    assert kinds(heard)[-1] is CallFinished


@pytest.mark.parametrize("on_event", [None, print])
async def test_without_a_listener_no_event_of_a_success_is_built(
    on_event: Callable[[Event], object] | None,
    command: StopCharge,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "thor_async")
    thor = FakeTransport(lambda *_: OK)
    with (
        thor.installed(),
        mock.patch.object(
            CallReporter, "_command_fields", autospec=True, side_effect=CallReporter._command_fields
        ) as built,
    ):
        async with thor.client(on_event=on_event) as client:
            await client.stop_charge(command)
            await client.stop_many(fleet(5))
    assert bool(built.call_count) is (on_event is not None)


async def test_each_call_of_a_batch_has_a_context_of_its_own() -> None:
    """A context variable that a listener sets at the start of a call is seen in that call only."""
    current: contextvars.ContextVar[str] = contextvars.ContextVar("current")
    seen: list[str] = []

    def listener(event: Event) -> None:
        if isinstance(event, CallStarted):
            seen.append(current.get())
            current.set(event.chargebox)
        elif isinstance(event, CallFinished):
            assert current.get() == event.chargebox
            current.set("outside")

    thor = FakeTransport(lambda command, now: Answer(500), 0.0)
    rests = Rests()
    current.set("outside")
    with thor.installed():
        policy = rests.policy(max_attempts=2)
        async with thor.client(on_event=listener, retry=policy, max_in_flight=2) as client:
            await client.stop_many(fleet(40))
    assert rests.waits
    assert seen == ["outside"] * 40


async def _a_coroutine(event: Event) -> None: ...


class _Awaited:
    async def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize("on_event", ["log", 3, _a_coroutine, _Awaited()])
def test_what_is_no_plain_callable_is_refused(on_event: Any) -> None:
    with pytest.raises(ValueError, match="on_event must be a plain function"):
        ThorClient("key", on_event=on_event)


async def test_every_listener_gets_every_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    emitter = EventEmitter([first.append, second.append])
    events: list[Event] = [BatchPaused("down"), BatchResumed(1.0), BatchAbandoned(None)]
    for event in events:
        emitter.emit(event)
    assert first == second == events


def test_only_the_first_failure_of_each_listener_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Event] = []

    def first(event: Event) -> None:
        raise ValueError

    def second(event: Event) -> None:
        raise LookupError

    emitter = EventEmitter([first, second, heard.append])
    for _ in range(3):
        emitter.emit(BatchPaused("down"))
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert [error.splitlines()[0] for error in errors] == [
        "on_event raised ValueError:",
        "on_event raised LookupError:",
    ]
    assert len(heard) == 3


@pytest.mark.parametrize(
    ("level", "listeners", "emits_all", "heard"),
    [
        (logging.DEBUG, [], True, [True, True, True]),
        (logging.INFO, [], False, [False, True, True]),
        (logging.WARNING, [], False, [False, False, True]),
        (logging.CRITICAL, [], False, [False, False, False]),
        (logging.CRITICAL, [print], True, [True, True, True]),
    ],
)
def test_an_event_is_built_only_if_a_listener_or_the_log_takes_it(
    level: int,
    listeners: list[Callable[[Event], object]],
    emits_all: bool,
    heard: list[bool],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(level, "thor_async")
    emitter = EventEmitter(listeners)
    assert emitter.emits_all is emits_all
    levels = (logging.DEBUG, logging.INFO, logging.WARNING)
    assert [emitter.is_heard(level) for level in levels] == heard
