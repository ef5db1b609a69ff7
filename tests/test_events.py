"""The events of stops and batches."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from tests import virtual_time
from tests.conftest import KEY, TAG, Rests, shown
from tests.fake_transport import OK, FakeTransport, Reply, fleet, refused, thor_says
from thor_async import (
    AttemptFinished,
    AttemptStarted,
    BatchAbandoned,
    BatchGaveUp,
    BatchPaused,
    BatchResumed,
    CallFinished,
    CallStarted,
    Event,
    PaceLowered,
    PaceRestored,
    RetryPolicy,
    RetryScheduled,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorClient,
    ThorError,
)
from thor_async._config import check_key
from thor_async._events import describe_cause, describe_failure
from thor_async._protocol.http_messages import Answer
from thor_async.emulator import ThorEmulator

CALL = {"chargebox": "EaJ7cU9NJ3YkTNgy", "connector": 2, "transaction": 52, "index": 0}
URL = "http://127.0.0.1:1/x/charges/stop"


def script(*answers: Answer | ThorError) -> Reply:
    left = iter(answers)
    return lambda command, now: next(left)


def facts(event: Event, *names: str) -> dict[str, Any]:
    return {name: getattr(event, name) for name in names}


def kinds(events: Sequence[Event]) -> list[type]:
    return [type(event) for event in events]


async def stop(
    command: StopCharge, reply: Reply, policy: RetryPolicy
) -> tuple[StopOutcome | ThorError, list[Event]]:
    events: list[Event] = []
    thor = FakeTransport(reply)
    with thor.installed():
        async with thor.client(on_event=events.append, retry=policy) as client:
            try:
                return await client.stop_charge(command), events
            except ThorError as error:
                return error, events


async def test_a_stop_that_succeeds_has_an_event_for_each_step(
    command: StopCharge, rests: Rests
) -> None:
    command = msgspec.structs.replace(command, ref="site 9")
    outcome, events = await stop(command, script(OK), rests.policy())
    assert kinds(events) == [CallStarted, AttemptStarted, AttemptFinished, CallFinished]
    assert all(facts(event, *CALL, "ref") == CALL | {"ref": "site 9"} for event in events)
    _, begun, ended, finished = events
    assert facts(begun, "attempt", "url") == {"attempt": 1, "url": URL}
    success = {"verdict": "relayed", "error": None, "reason": None, "status": 200, "code": None}
    assert facts(ended, "attempt", "url", *success) == {"attempt": 1, "url": URL} | success
    assert isinstance(outcome, StopOutcome)
    assert facts(finished, "message", "next_step", "attempts", "elapsed", *success) == {
        "message": None,
        "next_step": "done",
        "attempts": 1,
        "elapsed": outcome.elapsed,
        **success,
    }


async def test_each_retry_has_an_event_with_its_wait_and_reason(
    command: StopCharge, rests: Rests
) -> None:
    reply = script(thor_says("InternalServerError", 500), Answer(503, retry_after="7"), OK)
    _, events = await stop(command, reply, rests.policy())
    attempt = [AttemptStarted, AttemptFinished]
    retried = [*attempt, RetryScheduled]
    assert kinds(events) == [CallStarted, *retried, *retried, *attempt, CallFinished]
    first, second = (event for event in events if isinstance(event, RetryScheduled))
    names = ("attempt", "wait", "error", "status", "code")
    internal = "InternalServerError"
    assert facts(first, *names) == dict(zip(names, (1, 0.5, internal, 500, internal), strict=True))
    assert facts(second, *names) == dict(
        zip(names, (2, 7.0, "ServerError", 503, None), strict=True)
    )
    assert [first.wait, second.wait] == rests.waits
    ended = [event for event in events if isinstance(event, AttemptFinished)]
    assert [(e.attempt, e.status, e.retry_after) for e in ended] == [
        (1, 500, None),
        (2, 503, 7.0),
        (3, 200, None),
    ]
    finished = events[-1]
    assert facts(finished, "attempts", "maybe_applied") == {"attempts": 3, "maybe_applied": True}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            thor_says("NotInTransaction", 400),
            ("rejected", "NotInTransaction", None, 400, "NotInTransaction", "done"),
        ),
        (Answer(404), ("rejected", "RejectedError", None, 404, None, "fix")),
        (refused(), ("not_sent", "NotSentError", "connect", None, None, "resend")),
        (Answer(302), ("indeterminate", "UnexpectedResponse", None, 302, None, "resend")),
    ],
)
async def test_the_last_event_of_a_failure_is_like_its_error(
    command: StopCharge, rests: Rests, reply: Answer | ThorError, expected: tuple[Any, ...]
) -> None:
    error, events = await stop(command, script(reply), rests.policy())
    assert isinstance(error, ThorError)
    names = ("verdict", "error", "reason", "status", "code")
    finished = events[-1]
    assert isinstance(finished, CallFinished)
    assert tuple(getattr(finished, name) for name in (*names, "next_step")) == expected
    assert facts(events[-2], *names) == facts(finished, *names)
    assert finished.message == error.message
    assert not any(isinstance(event, RetryScheduled) for event in events)


def test_durations_and_waits_are_seconds_of_the_loop(command: StopCharge) -> None:
    events: list[Event] = []
    thor = FakeTransport(script(Answer(500), OK), 0.25)

    async def main() -> None:
        policy = RetryPolicy(random=lambda low, high: high)
        with thor.installed():
            async with thor.client(on_event=events.append, retry=policy) as client:
                await client.stop_charge(command)

    virtual_time.run(main)
    durations = [event.duration for event in events if isinstance(event, AttemptFinished)]
    assert durations == pytest.approx([0.25, 0.25])
    finished = events[-1]
    assert isinstance(finished, CallFinished)
    assert finished.elapsed == pytest.approx(0.25 + 0.5 + 0.25)


async def test_a_call_cancelled_in_flight_ends_its_attempt_and_itself(command: StopCharge) -> None:
    events: list[Event] = []
    thor = FakeTransport(lambda *_: None)
    with thor.installed():
        async with thor.client(on_event=events.append) as client:
            call = asyncio.create_task(client.stop_charge(command))
            while not thor.in_flight:
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
    assert kinds(events) == [CallStarted, AttemptStarted, AttemptFinished, CallFinished]
    assert facts(events[-1], "verdict", "next_step", "message") == {
        "verdict": "indeterminate",
        "next_step": "resend",
        "message": "broken off",
    }


async def test_a_call_cancelled_before_it_was_sent_had_no_attempt(command: StopCharge) -> None:
    events: list[Event] = []
    thor = FakeTransport(lambda *_: None)
    with thor.installed():
        async with thor.client(on_event=events.append, max_in_flight=1) as client:
            calls = [asyncio.create_task(client.stop_charge(command)) for _ in range(2)]
            while not thor.in_flight:
                await asyncio.sleep(0)
            events.clear()
            calls[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await calls[1]
            after_cancel = list(events)
            calls[0].cancel()
    assert kinds(after_cancel) == [CallFinished]
    assert facts(after_cancel[0], "verdict", "reason", "message", "attempts") == {
        "verdict": "not_sent",
        "reason": "closed",
        "message": "broken off by CancelledError",
        "attempts": 0,
    }


async def test_a_key_function_that_fails_shows_its_class_and_place_and_not_its_text(
    command: StopCharge,
) -> None:
    def vault() -> str:
        raise LookupError(KEY)

    line = vault.__code__.co_firstlineno + 1
    why = f"the api_key function raised LookupError at test_events.py:{line}"
    events: list[Event] = []
    async with ThorClient(vault, base_url="http://127.0.0.1:1", on_event=events.append) as thor:
        with pytest.raises(LookupError):
            await thor.stop_charge(command)
        await thor.stop_many([command])
    assert kinds(events) == [CallStarted, CallFinished, CallStarted, BatchAbandoned, CallFinished]
    assert facts(events[1], "verdict", "message") == {
        "verdict": "not_sent",
        "message": f"broken off because {why}",
    }
    assert events[3] == BatchAbandoned(why)
    assert facts(events[4], "message") == {"message": f"the batch gave up: {why}"}
    assert KEY not in repr(events)


async def test_every_outcome_of_a_batch_has_one_event_even_if_it_was_not_sent() -> None:
    def reply(command: StopCharge, now: float) -> Answer:
        return thor_says("APIKeyNotFound", 403) if command.chargebox == "box-50" else OK

    events: list[Event] = []
    thor = FakeTransport(reply)
    with thor.installed():
        async with thor.client(on_event=events.append, max_in_flight=4) as client:
            outcomes = await client.stop_many(fleet(200))
    finished = {event.index: event for event in events if isinstance(event, CallFinished)}
    assert Counter(kinds(events))[CallFinished] == Counter(kinds(events))[CallStarted] == 200
    assert outcomes[-1].next_step == "fix"
    for outcome in outcomes:
        record, event = outcome.record(), finished[outcome.index]
        shared = set(record.__struct_fields__) & set(event.__struct_fields__) - {"elapsed"}
        assert len(shared) == 12
        # A relay's record has no answer to speak of; the event's has its 200.
        shared -= {"status"} if outcome.error is None else set()
        assert facts(event, *shared) == {name: getattr(record, name) for name in shared}
    abandoned = [event for event in events if isinstance(event, BatchAbandoned)]
    assert abandoned == [BatchAbandoned("Thor answered 403: APIKeyNotFound")]


def test_a_pause_has_an_event_when_it_begins_and_when_it_ends() -> None:
    events: list[Event] = []

    def reply(command: StopCharge, now: float) -> Answer:
        return Answer(502) if now < 5.0 else OK

    thor = FakeTransport(reply, 0.01)

    async def main() -> None:
        with thor.installed():
            policy = RetryPolicy(max_attempts=1)
            async with thor.client(on_event=events.append, retry=policy) as client:
                await client.stop_many(fleet(300))

    virtual_time.run(main)
    batch = [e for e in events if isinstance(e, BatchPaused | BatchResumed | BatchAbandoned)]
    assert kinds(batch) == [BatchPaused, BatchResumed]
    assert facts(batch[0], "cause")["cause"].startswith("Thor answered 502")
    # Probes at 1, 3 and 7 s of it.
    assert facts(batch[1], "paused")["paused"] == pytest.approx(7.04, abs=0.02)


@pytest.mark.parametrize("give_up_after", [0, 10.0])
def test_an_outage_that_lasts_has_one_event_of_its_end(give_up_after: float) -> None:
    events: list[Event] = []
    thor = FakeTransport(lambda *_: refused(), 0.01)

    async def main() -> None:
        with thor.installed():
            async with (
                thor.client(on_event=events.append) as client,
                client.stop_stream(fleet(300), give_up_after=give_up_after) as stream,
            ):
                with pytest.raises(BatchGaveUp):
                    async for _ in stream:
                        pass

    virtual_time.run(main)
    batch = [e for e in events if isinstance(e, BatchPaused | BatchResumed | BatchAbandoned)]
    paused = [BatchPaused] if give_up_after else []
    assert kinds(batch) == [*paused, BatchAbandoned]
    assert facts(batch[-1], "cause")["cause"] == "connection refused"


@pytest.mark.parametrize("leave_after", [1, 20, 90])
async def test_each_start_has_an_end(leave_after: int) -> None:
    def reply(command: StopCharge, now: float) -> Answer | None:
        number = int(command.chargebox.removeprefix("box-"))
        return (OK, Answer(500), None)[number % 3]

    events: list[Event] = []
    thor = FakeTransport(reply)
    with thor.installed():
        async with (
            thor.client(on_event=events.append, max_in_flight=40) as client,
            client.stop_stream(fleet(150)) as stream,
        ):
            async for outcome in stream:
                if outcome.index >= leave_after:
                    break
    count = Counter(kinds(events))
    assert count[CallStarted] == count[CallFinished] > 0
    assert count[AttemptStarted] == count[AttemptFinished] > 0


async def test_no_event_holds_a_secret(command: StopCharge, rests: Rests) -> None:
    echo = Answer(500, msgspec.json.encode({"message": f"tag {TAG} of {KEY}"}))
    events: list[Event] = []
    thor = FakeTransport(lambda *_: echo)
    with thor.installed():
        async with ThorClient(
            KEY, base_url="http://127.0.0.1:1/x", on_event=events.append, retry=rests.policy()
        ) as client:
            with pytest.raises(ThorError) as raised:
                await client.stop_charge(command)
    assert TAG not in shown(raised.value)
    assert {RetryScheduled, CallFinished} < set(kinds(events))
    for event in events:
        for text in (repr(event), msgspec.json.encode(event).decode(), str(event)):
            assert TAG not in text
            assert KEY not in text
        values = [getattr(event, name) for name in event.__struct_fields__]
        assert all(value is None or isinstance(value, str | int | float) for value in values)


async def test_events_are_values_that_come_back_from_json(
    command: StopCharge, rests: Rests
) -> None:
    _, events = await stop(command, script(Answer(500), OK), rests.policy())
    events += [BatchPaused("why"), BatchResumed(1.5), BatchAbandoned(None)]
    events += [PaceLowered(19.5), PaceRestored(None)]
    assert set(kinds(events)) == set(Event.__args__)
    encoded = msgspec.json.encode(events)
    assert msgspec.json.decode(encoded, type=list[Event]) == events
    with pytest.raises(AttributeError):
        events[0].index = 1  # type: ignore[union-attr, misc]


async def test_a_pin_that_finds_nothing_is_not_sent(
    emulator: ThorEmulator,
) -> None:
    events: list[Event] = []
    emulator.add_chargebox("box-1")
    async with ThorClient(KEY, base_url=emulator.base_url, on_event=events.append) as thor:
        # Old enough that the list need not be waited for.
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        [outcome] = await thor.stop_many([StopCharge("box-1", 1, TAG, as_of=hour_ago)])
    assert kinds(events) == [CallStarted, CallFinished]
    assert facts(events[1], "reason", "attempts", "elapsed") == {
        "reason": "not_running",
        "attempts": 0,
        "elapsed": outcome.elapsed,
    }


def raised_by(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as failure:
        return failure
    raise AssertionError


def decode_nonsense() -> object:
    return json.loads("no JSON")


@pytest.mark.parametrize(
    ("function", "described"),
    [
        # In the library that the user's function calls it would help nobody.
        (decode_nonsense, "JSONDecodeError at test_events.py:{}"),
        (partial(int, KEY), "ValueError at test_events.py:"),
        (lambda: check_key(f"{KEY} "), "the API key must be printable ASCII without blanks: look"),
    ],
)
def test_a_failure_is_described_by_class_and_place(function: Any, described: str) -> None:
    failure = raised_by(function)
    line = decode_nonsense.__code__.co_firstlineno + 1
    for text in (describe_failure(failure), describe_cause(failure)):
        assert text is not None
        assert text.startswith(described.format(line))
        assert KEY not in text
        assert "no JSON" not in text
    assert describe_failure(failure, "it").startswith(("it raised ", "it failed: the API key"))


def test_a_failure_without_a_frame_of_the_user_has_the_place_in_the_library() -> None:
    failure = raised_by(partial(json.loads, "no JSON"))
    assert failure.__traceback__ is not None
    failure.__traceback__ = failure.__traceback__.tb_next
    assert describe_failure(failure).startswith("JSONDecodeError at decoder.py:")


def test_a_failure_that_was_never_raised_has_no_place() -> None:
    assert describe_cause(OSError("secret")) == "OSError"
    assert describe_failure(asyncio.CancelledError()) == "CancelledError"
    assert describe_cause(ServerError("as Thor said")) == "as Thor said"
    assert describe_cause(None) is None
