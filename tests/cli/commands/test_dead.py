"""`dead`: lists, shows and sends again the dead letters of a real stream."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from tests.cli.commands.conftest import Broker
from tests.cli.conftest import CommandOutput, Run
from tests.conftest import TAG
from thor_async import StopCharge
from thor_async.cli.commands import dead

pytestmark = pytest.mark.broker

BARE = StopCharge("A", 1, TAG, ref="r7")
PINNED = StopCharge("B", 2, TAG, 52)
CREATED = datetime(2026, 1, 1, 11, tzinfo=UTC)
NOT_FOUND = "Thor answered 404: ChargeboxNotFound"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def bury(broker: Broker, body: StopCharge | bytes, reason: str = NOT_FOUND, **more: str) -> int:
    headers = {
        "Thor-Reason": reason,
        "Thor-Maybe-Applied": "false",
        "Thor-Created": "2026-01-01T11:00:00Z",
    }
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return broker.publish("dead_letter", body, headers | named)


def lines(result: CommandOutput) -> list[list[str]]:
    return [line.split() for line in result.out.splitlines()]


def test_list(run: Run, broker: Broker) -> None:
    broker.make()
    assert run("dead", "list", *broker.options) == (0, "", "thor-async: 0 dead letters\n")
    first = bury(broker, BARE)
    second = bury(broker, b"{}", "not a StopCharge: \x1b[2J", Thor_Maybe_Applied="true")
    result = run("dead", "list", *broker.options)
    assert (result.status, result.err) == (0, "thor-async: 2 dead letters\n")
    heading, *rows = lines(result)
    assert heading[:5] == ["number", "age", "chargebox", "connector", "maybe"]
    assert [row[0] for row in rows] == [str(first), str(second)]
    assert rows[0][2:] == ["s", "A", "1", "no", *NOT_FOUND.split()]
    assert rows[1][3:] == ["-", "-", "yes", "not", "a", "StopCharge:", r"\x1b[2J"]
    result = run("dead", "list", "--reason", "*NotFound", *broker.options)
    assert [row[0] for row in lines(result)[1:]] == [str(first)]


def test_show(run: Run, broker: Broker) -> None:
    broker.make()
    number = bury(broker, BARE, traceparent=TRACE)
    result = run("dead", "show", number, *broker.options)
    assert (result.status, result.err) == (0, "")
    row = msgspec.json.decode(result.out)
    assert row["number"] == number
    assert row["command_stored"] == "2026-01-01T11:00:00Z"
    assert row["body"] == msgspec.json.decode(msgspec.json.encode(BARE)) | {"id_tag": "***"}
    assert row["headers"]["Thor-Reason"] == NOT_FOUND
    assert row["headers"]["traceparent"] == TRACE
    result = run("dead", "show", number + 1, *broker.options)
    assert (result.status, result.out) == (2, "")
    assert f"{number + 1} is no dead letter" in result.err


def test_one_is_sent_again_with_the_time_of_its_message(run: Run, broker: Broker) -> None:
    broker.make()
    number = bury(broker, BARE, traceparent=TRACE, Thor_Sent_By="somebody@else")
    bury(broker, PINNED)
    result = run("dead", "send", number, *broker.options)
    assert result == (0, f"sent 1 dead letters to {broker.names['subject']}\n", "")
    (message,) = broker.read("subject")
    sent = msgspec.json.decode(message.data, type=StopCharge)
    assert sent == msgspec.structs.replace(BARE, as_of=CREATED)
    headers = message.headers or {}
    assert headers["Thor-Dead-Sequence"] == str(number)
    assert headers["Thor-Sent-By"] == f"{getpass.getuser()}@{socket.gethostname()}"
    assert headers["traceparent"] == TRACE
    assert "Thor-Reason" not in headers


def test_a_sender_without_a_name(run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is only a number."""

    def fail() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", fail)
    monkeypatch.setattr(socket, "gethostname", lambda: "bü\nro")
    broker.make()
    assert run("dead", "send", bury(broker, BARE), *broker.options).status == 0
    (message,) = broker.read("subject")
    assert (message.headers or {})["Thor-Sent-By"] == f"{os.getuid()}@b\\xfc\\nro"


def test_it_is_not_doubled(run: Run, broker: Broker) -> None:
    broker.make()
    number = bury(broker, BARE)
    run("dead", "send", number, number, *broker.options)
    result = run("dead", "send", number, *broker.options)
    assert (result.status, result.out.splitlines()[1]) == (
        0,
        "1 others were sent before, in the last 120 s",
    )
    assert len(broker.commands()) == 1


def test_all_of_one_reason_are_sent(run: Run, broker: Broker) -> None:
    broker.make()
    for reason in (NOT_FOUND, "Thor answered 400: WrongTransaction", NOT_FOUND):
        bury(broker, BARE, reason)
    result = run("dead", "send", "--reason", "*ChargeboxNotFound", *broker.options)
    assert result == (0, f"sent 2 dead letters to {broker.names['subject']}\n", "")
    result = run("dead", "send", "--reason", "*Nothing*", *broker.options)
    assert (result.status, result.out) == (2, "")
    assert "no dead letter has such a reason" in result.err


def test_what_cannot_be_sent_is_named(run: Run, broker: Broker) -> None:
    """A command without a transaction is never sent without an as_of."""
    broker.make()
    past = datetime.now(UTC) - timedelta(hours=1)
    bodies: list[StopCharge | bytes] = [
        b"{}",
        msgspec.structs.replace(BARE, not_after=past),
        BARE,
        PINNED,
    ]
    numbers = [bury(broker, body, Thor_Created="unknown") for body in bodies]
    result = run("dead", "send", *numbers, *broker.options)
    assert (result.status, result.out) == (1, f"sent 1 dead letters to {broker.names['subject']}\n")
    named = result.err.splitlines()
    assert [line.split(": ")[1] for line in named] == [
        f"dead letter {number} is not sent" for number in numbers[:3]
    ]
    assert "has no transaction, and the time of its message is not known" in named[2]
    assert broker.commands() == [PINNED]
    result = run("dead", "send", numbers[0], *broker.options)
    assert result.status == 1
    assert len(broker.commands()) == 1


def test_an_unknown_number_sends_nothing(run: Run, broker: Broker) -> None:
    broker.make()
    number = bury(broker, BARE)
    result = run("dead", "send", number, 99, *broker.options)
    assert (result.status, result.out) == (2, "")
    assert "99 is no dead letter" in result.err
    assert broker.commands() == []


def test_the_guards(run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.make()
    number = bury(broker, BARE)
    bury(broker, PINNED)
    all_of_them = ("dead", "send", "--reason", "*", *broker.options)
    result = run(*all_of_them, "--at-most", "1")
    assert result.status == 2
    assert result.err.startswith("thor-async: 2 charges are more than --at-most 1: check what")
    monkeypatch.setattr(dead, "is_local", lambda _: False)
    for arguments in (all_of_them, ("dead", "send", number, *broker.options)):
        result = run(*arguments)
        assert result.status == 2
        assert "no terminal to ask on" in result.err
    assert broker.commands() == []
    assert run("dead", "send", number, "--yes", *broker.options).status == 0
    assert run(*all_of_them, "--yes", "--at-most", "2").status == 0
    assert len(broker.commands()) == 2


@pytest.mark.parametrize("action", [["list"], ["show", "1"], ["send", "1"]])
def test_a_missing_stream(run: Run, broker: Broker, action: list[str]) -> None:
    result = run("dead", *action, *broker.options)
    assert (result.status, result.out) == (2, "")
    assert f"there is no stream '{broker.names['stream']}'" in result.err
