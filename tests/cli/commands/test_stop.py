"""`stop`: one charge, one line."""

from __future__ import annotations

import io
import math
import socket
import sys
from typing import Any

import pytest

from tests.cli.conftest import Run, Start, Thor, interrupt
from tests.conftest import KEY, TAG
from thor_async.cli.commands import stop
from thor_async.emulator import Behaviour, ScriptedAnswer


@pytest.fixture
def charge(thor: Thor) -> list[object]:
    """The arguments that stop the one charge that runs."""
    thor.emulator.start_charge("A", 2, TAG, 52)
    return ["stop", "A", 2, TAG, "--transaction", 52]


def test_stop_relayed(thor: Thor, run: Run, charge: list[object]) -> None:
    result = run(*charge)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("relayed: chargebox 'A' connector 2: ")
    assert result.out.endswith("nothing is left to do\n")
    assert result.out.count("\n") == 1
    assert not thor.emulator.charges


def test_a_429_is_sent_again(thor: Thor, run: Run, charge: list[object]) -> None:
    thor.emulator.script("TooManyRequests")
    assert run(*charge, "--rate", 100).status == 0
    assert thor.requests == 2
    assert not thor.emulator.charges


def test_stop_without_transaction(thor: Thor, run: Run, charge: list[object]) -> None:
    assert run(*charge[:4]).status == 0
    (request,) = thor.emulator.ledger.requests
    assert request.command is not None
    assert request.command.transaction is None
    assert not thor.emulator.charges


@pytest.mark.usefixtures("throttled_ends")
@pytest.mark.parametrize(
    ("answer", "status", "start", "end"),
    [
        ("NotInTransaction", 0, "rejected: ", "nothing is left to do"),
        ("WrongTransaction", 1, "rejected: ", "the same command would be refused again"),
        ("APIKeyNotFound", 1, "rejected: ", "the same command would be refused again"),
        ("TooManyRequests", 1, "rejected: ", "send it again"),
        (ScriptedAnswer(drop=True), 1, "indeterminate: ", "another charge: send it again"),
    ],
)
def test_stop_not_relayed(
    thor: Thor, run: Run, charge: list[object], answer: Any, status: int, start: str, end: str
) -> None:
    thor.emulator.script(answer)
    result = run(*charge)
    assert (result.status, result.err) == (status, "")
    assert result.out.startswith(start)
    assert result.out.endswith(f"{end}\n")
    assert result.out.count("\n") == 1


def test_stop_without_a_connection(thor: Thor, run: Run, charge: list[object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = run(*charge, "--base-url", f"http://127.0.0.1:{port}")
    assert result.status == 1
    assert result.out.startswith("not_sent: ")
    assert thor.requests == 0


def test_an_answer_that_echoes_the_tag(thor: Thor, run: Run, charge: list[object]) -> None:
    thor.emulator.script(
        ScriptedAnswer(400, f'{{"message": "no charge of {TAG} or {KEY}"}}'.encode())
    )
    assert "no charge of *** or ***" in run(*charge).out


def test_a_name_that_the_terminal_cannot_show(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    screen = io.TextIOWrapper(written, "ascii")
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    assert run("stop", "Gar\xe9", 1, TAG).status == 1
    assert rb"chargebox 'Gar\xe9' connector 1" in written.getvalue()


def test_stop_interrupted(thor: Thor, start: Start, charge: list[object]) -> None:
    thor.emulator.always(ScriptedAnswer(delay=30))
    process = start(*charge)
    thor.wait_for_requests(1)
    result = interrupt(process)
    assert (result.status, result.err) == (130, "thor-async: interrupted\n")
    assert result.out.startswith("indeterminate: chargebox 'A' connector 2: ")


@pytest.mark.usefixtures("fast_poller")
def test_stop_and_wait(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    result = run("stop", "A", 1, TAG, "--wait", 5)
    assert result.status == 0
    assert ": stopped (seen in the running list, then absent " in result.out
    assert result.out.endswith("nothing is left to do\n")
    assert result.out.count("\n") == 1


@pytest.mark.usefixtures("fast_poller")
def test_stop_that_the_chargebox_refuses(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.behaviours["A"] = Behaviour(refuses=1.0)
    result = run("stop", "A", 1, TAG, "--transaction", 5, "--wait", 1.5)
    assert result.status == 1
    assert result.out.startswith("relayed: ")
    assert ": still running (" in result.out
    assert result.out.endswith("check whether the charge still runs before you send it again\n")


@pytest.mark.usefixtures("fast_poller")
@pytest.mark.parametrize("options", [[], ["--wait", 1]])
def test_a_retry_does_not_stop_the_next_driver(thor: Thor, run: Run, options: list[object]) -> None:
    thor.emulator.behaviours[None] = Behaviour(next_driver=0.0)
    thor.emulator.start_charge("A", 2, TAG, 52)
    thor.emulator.script(ScriptedAnswer(500, effect=True))
    result = run("stop", "A", 2, TAG, *options)
    assert result.status == 1
    assert result.out.endswith("check whether the charge still runs before you send it again\n")
    assert thor.emulator.charges["A", 2].transaction == 53
    assert [request.effect for request in thor.emulator.ledger.requests] == [52]


@pytest.mark.usefixtures("fast_poller")
def test_pin_where_no_charge_runs(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 2, TAG, 5)
    result = run("stop", "A", 1, TAG, "--pin")
    assert (result.status, thor.requests) == (0, 0)
    assert "no charge runs there" in result.out


@pytest.mark.usefixtures("fast_poller")
def test_stop_and_ensure(thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.behaviours["A"] = Behaviour(ignores=3)
    monkeypatch.setattr(stop, "_PROGRESS_GAP", 0.3)
    result = run("stop", "A", 1, TAG, "--ensure", 20)
    assert result.status == 0
    assert ": stopped (" in result.out
    assert (result.out.count("\n"), thor.requests) == (1, 4)
    assert result.err.startswith("thor-async: not yet known to have stopped after ")
    assert result.err.splitlines()[0].endswith("s: chargebox 'A' connector 1")
    assert not thor.emulator.charges


@pytest.mark.usefixtures("fast_poller")
def test_ensure_does_not_call_a_running_charge_done(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.behaviours["A"] = Behaviour(ignores=math.inf)
    result = run("stop", "A", 1, TAG, "--ensure", 1.5)
    assert result.status == 1
    assert "check whether the charge still runs" in result.out


def test_stop_as_json(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    (record,) = run("stop", "A", 1, TAG, "--json").records
    assert (record["verdict"], record["next_step"], record["chargebox"]) == ("relayed", "done", "A")
    assert "id_tag" not in record
    result = run("stop", "B", 1, TAG, "--json")
    (record,) = result.records
    assert (result.status, record["code"]) == (1, "ChargeboxNotFound")


def test_a_quiet_stop_prints_only_what_is_left_to_do(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    assert run("stop", "A", 1, TAG, "--quiet") == (0, "", "")
    result = run("stop", "B", 1, TAG, "--quiet")
    assert result.status == 1
    assert result.out.startswith("rejected: chargebox 'B' connector 1: ")
