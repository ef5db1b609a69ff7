"""`publish`: puts a file on the subject of the workers, on a real broker."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import PubAck, StreamConfig

from tests.cli.commands.conftest import Broker
from tests.cli.conftest import HEADER, Fleet, Run
from tests.conftest import TAG
from tests.worker.conftest import Place
from thor_async.cli import nats_publisher
from thor_async.cli.commands import publish

pytestmark = pytest.mark.broker


def test_a_file_is_published(run: Run, fleet: Fleet, broker: Broker) -> None:
    broker.make()
    before = datetime.now(UTC)
    result = run("publish", fleet(300), *broker.options)
    assert result == (0, f"published 300 commands to {broker.names['subject']}\n", "")
    commands = broker.commands()
    assert [command.transaction for command in commands] == list(range(1, 301))
    times = {command.as_of for command in commands}
    assert len(times) == 1
    assert before <= (times.pop() or before) <= datetime.now(UTC)


def test_the_same_file_is_not_doubled(run: Run, fleet: Fleet, broker: Broker) -> None:
    broker.make()
    run("publish", fleet(3), *broker.options)
    again = run("publish", fleet(3), *broker.options)
    assert (again.status, again.out.splitlines()) == (
        0,
        [
            f"published 0 commands to {broker.names['subject']}",
            "3 others were there already: this file was published in the last 120 s",
        ],
    )
    assert run("publish", fleet(4), *broker.options).out.startswith("published 4 commands")
    assert len(broker.commands()) == 7


def test_the_same_file_for_another_subject_is_another_intent(
    run: Run, fleet: Fleet, broker: Broker
) -> None:
    broker.make()
    run("publish", fleet(3), *broker.options)
    other = ("--subject", f"{broker.names['subject']}.eu")
    assert run("publish", fleet(3), *broker.options, *other).out.startswith("published 3 commands")


def test_times_of_the_rows_and_of_the_option(
    run: Run, write: Callable[..., Path], broker: Broker
) -> None:
    broker.make()
    own = "2026-01-01T10:00:00Z"
    path = write(f"{HEADER},as_of", f"A,1,{TAG},,{own}", f"B,1,{TAG},,")
    result = run("publish", path, "--as-of", "2026-01-01T12:00:00Z", *broker.options)
    assert result.status == 0
    assert [command.as_of for command in broker.commands()] == [
        datetime(2026, 1, 1, 10, tzinfo=UTC),
        datetime(2026, 1, 1, 12, tzinfo=UTC),
    ]
    # Another time is another intent.
    assert run("publish", path, *broker.options).out.startswith("published 2 commands")


def test_a_bad_row_publishes_nothing(run: Run, write: Callable[..., Path], broker: Broker) -> None:
    broker.make()
    path = write(HEADER, f"A,1,{TAG},", f"B,zero,{TAG},")
    result = run("publish", path, *broker.options)
    assert (result.status, result.out) == (2, "")
    assert "line 3: connector must be a whole number" in result.err
    assert broker.commands() == []
    assert run("publish", path, "--skip-bad", *broker.options).status == 0
    assert [command.chargebox for command in broker.commands()] == ["A"]


def test_the_guards(
    run: Run, fleet: Fleet, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.make()
    result = run("publish", fleet(3), "--at-most", "2", *broker.options)
    assert result.status == 2
    assert result.err.startswith("thor-async: 3 charges are more than --at-most 2: check what")
    monkeypatch.setattr(publish, "is_local", lambda _: False)
    result = run("publish", fleet(3), *broker.options)
    assert result.status == 2
    assert "no terminal to ask on: give --yes --at-most COUNT" in result.err
    assert broker.commands() == []
    assert run("publish", fleet(3), "--yes", "--at-most", "3", *broker.options).status == 0


def test_a_missing_stream_or_broker(
    run: Run, fleet: Fleet, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("publish", fleet(3), *broker.options)
    assert (result.status, result.out) == (2, "")
    assert f"there is no stream '{broker.names['stream']}'" in result.err
    assert "thor-async worker --init" in result.err

    async def make_another(place: Place) -> None:
        await place.jetstream.add_stream(StreamConfig(place.names["stream"], None, ["other"]))

    broker.do(make_another)
    result = run("publish", fleet(3), *broker.options)
    assert result.status == 2
    assert f"does not hold '{broker.names['subject']}'" in result.err
    monkeypatch.setenv("NATS_URL", "nats://u:s3cret@127.0.0.1:1")
    result = run("publish", fleet(3), *broker.options[2:])
    assert result.status == 2
    assert "cannot connect to NATS" in result.err
    assert "s3cret" not in result.err


def test_a_full_stream_is_no_silence(
    run: Run, fleet: Fleet, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_publisher, "_AT_ONCE", 2)
    broker.make(max_msgs=3)
    result = run("publish", fleet(10), *broker.options)
    assert (result.status, result.out) == (1, "")
    assert "maximum messages exceeded" in result.err
    assert "3 of 10 commands are stored, 7 are not: run the same command again within 120 s" in (
        result.err
    )
    broker.do(lambda place: place.make_room())
    assert "published 7 commands" in run("publish", fleet(10), *broker.options).out
    assert len(broker.commands()) == 10


def test_ctrl_c_says_what_is_stored(
    run: Run, fleet: Fleet, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_publisher, "_AT_ONCE", 2)
    broker.make()
    store = JetStreamContext.publish
    calls: list[Any] = []

    async def store_and_interrupt(self: Any, *args: Any, **settings: Any) -> PubAck:
        calls.append(args)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return await store(self, *args, **settings)

    monkeypatch.setattr(JetStreamContext, "publish", store_and_interrupt)
    result = run("publish", fleet(10), *broker.options)
    assert (result.status, result.out) == (130, "")
    assert "interrupted: 4 of 10 commands are stored, 6 are not" in result.err
    assert len(broker.commands()) == 4


def test_an_answer_that_does_not_come(
    run: Run, fleet: Fleet, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.make()

    async def lose(*_: Any, **__: Any) -> PubAck:
        raise TimeoutError

    monkeypatch.setattr(JetStreamContext, "publish", lose)
    result = run("publish", fleet(3), *broker.options)
    assert (result.status, result.out) == (1, "")
    assert "TimeoutError: 0 of 3 commands are stored, 3 may be stored, 0 are not" in result.err
