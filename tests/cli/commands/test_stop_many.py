"""`stop-many`: what it sends, what it writes, and its exit status."""

from __future__ import annotations

import argparse
import io
import math
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.cli.conftest import (
    HEADER,
    Fleet,
    Run,
    Start,
    Thor,
    drop_first_outcome,
    finish,
    interrupt,
)
from tests.conftest import TAG
from thor_async.cli import open_rows
from thor_async.cli.commands import stop_many
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.output.default_journal import format_continue_command
from thor_async.emulator import Behaviour, Faults, RateLimits, ScriptedAnswer

ELSEWHERE = ("--base-url", "https://thor.example")


def test_stop_many(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    result = run("stop-many", path)
    assert result.status == 0
    assert sorted(record["index"] for record in result.records) == list(range(100))
    assert {record["verdict"] for record in result.records} == {"relayed"}
    by_index = {record["index"]: record for record in result.records}
    assert by_index[7]["chargebox"] == "box-7"
    assert by_index[7]["transaction"] == 8
    journal, *progress, _, table, summary, unwatched = result.err.splitlines()
    assert journal.startswith(f"thor-async: the journal is {path.parent}/thor-stops-20")
    assert [line.split(":")[0] for line in progress] == [f"{n} of 100" for n in range(10, 101, 10)]
    assert progress[1].startswith("20 of 100: 20 relayed; ")
    assert progress[1].endswith(" s left")
    assert table.split() == ["relayed", "done", "100"]
    assert summary == "thor-async: 100 of 100 commands: 100 done"
    assert unwatched.startswith("thor-async: 100 relayed stops were not looked at: it is not known")
    assert not thor.emulator.charges


def test_stop_many_from_standard_input(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"\ufeff{HEADER}\r\nA,1,{TAG},5\r\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    thor.emulator.start_charge("A", 1, TAG, 5)
    assert run("stop-many", "-").status == 0
    assert not thor.emulator.charges


def test_stop_many_with_something_left_to_do(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(4)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ConnectorNotValid", chargebox="box-1")
    thor.emulator.script(ScriptedAnswer(drop=True), chargebox="box-2")
    result = run("stop-many", path, "--base-url", thor.base_url)
    steps = {record["chargebox"]: record["next_step"] for record in result.records}
    assert result.status == 1
    assert steps == {"box-0": "done", "box-1": "fix", "box-2": "resend", "box-3": "done"}
    assert "4 of 4 commands: 2 done, " in result.err
    assert "fix: correct the data or the account" in result.err
    assert "resend: a repeat cannot stop another charge: send it again" in result.err


def test_stop_many_of_nothing(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(0)
    result = run("stop-many", path)
    assert result == (2, "", f"thor-async: {path} has a header and no row: nothing was sent\n")


def test_stop_many_that_gives_up_says_how_many_are_left(thor: Thor, run: Run, fleet: Fleet) -> None:
    thor.emulator.api_key = "renewed"
    result = run("stop-many", fleet(500))
    left = 500 - len(result.records)
    assert result.status == 3
    assert thor.requests <= 32
    assert left >= 400
    summary, no_outcome, advice, gave_up, go_on = result.err.splitlines()[-5:]
    unsent = left + sum(record["verdict"] == "not_sent" for record in result.records)
    assert gave_up.endswith(f"APIKeyNotFound: {unsent} of 500 commands were not sent")
    assert no_outcome == f"thor-async: no outcome, {left} commands: {left} fix"
    assert summary.startswith(f"thor-async: {500 - left} of 500 commands: ")
    assert advice.startswith("thor-async: fix: ")
    assert go_on.startswith("thor-async: when that is corrected, go on with: thor-async stop-many ")


def test_stop_many_interrupted_twice_writes_what_is_known(
    thor: Thor, start: Start, fleet: Fleet
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    for number in range(1, 100):
        thor.emulator.always(ScriptedAnswer(delay=30), chargebox=f"box-{number}")
    process = start("stop-many", path)
    assert process.stdout
    first = process.stdout.readline()  # written at once, not when the buffer is full
    thor.wait_for_requests(33)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while "press Ctrl-C again to end the requests in flight" not in process.stderr.readline():
        assert process.poll() is None  # it waits for what is in flight
    result = interrupt(process)
    assert msgspec.json.decode(first)["chargebox"] == "box-0"
    assert Counter(record["verdict"] for record in result.records) == {"indeterminate": 32}
    assert {record["message"] for record in result.records} == {"cut off while it was in flight"}
    assert result.status == 130
    assert "thor-async: interrupted: 67 of 100 commands were not sent\n" in result.err


def test_the_first_interrupt_waits_for_what_is_in_flight(
    thor: Thor, start: Start, fleet: Fleet
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always(ScriptedAnswer(200, b"{}", effect=True, delay=2.0))
    process = start("stop-many", path, "--max-in-flight", 7)
    thor.wait_for_requests(7)
    result = interrupt(process)
    assert result.status == 130
    assert thor.requests == 7
    assert Counter(record["verdict"] for record in result.records) == {"relayed": 7}
    assert "7 of 100 commands: 7 done" in result.err


@pytest.mark.usefixtures("fast_poller")
@pytest.mark.parametrize("option", ["--wait", "--ensure"])
def test_after_an_interrupt_no_first_stop_is_sent(
    thor: Thor, start: Start, fleet: Fleet, option: str
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always(ScriptedAnswer(200, b"{}", effect=True, delay=2.0))
    process = start("stop-many", path, "--max-in-flight", 5, option, 5)
    thor.wait_for_requests(5)
    result = interrupt(process)
    assert result.status == 130
    assert thor.requests == 5
    verdicts = Counter(record["verdict"] for record in result.records)
    assert verdicts["relayed"] == 5
    assert set(verdicts) <= {"relayed", "not_sent"}
    assert "interrupted: 95 of 100 commands were not sent" in result.err


def test_stop_many_into_a_closed_pipe(thor: Thor, start: Start, fleet: Fleet) -> None:
    path = fleet(300)
    thor.emulator.faults = Faults(latency=(0.05, 0.05))
    reading, writing = os.pipe()
    process = start("stop-many", path, "--no-journal", stdout=writing)
    os.close(writing)
    os.close(reading)
    result = finish(process)
    assert result.status == 1
    line = result.err.splitlines()[-1]
    rest, lost = (int(word) for word in line.split() if word.isdecimal() and word != "300")
    assert rest + lost == 300
    assert 1 <= thor.requests <= lost <= 128


def test_stop_many_with_a_closed_standard_error(thor: Thor, start: Start, fleet: Fleet) -> None:
    path = fleet(50)
    thor.emulator.fill(read_command_file(str(path)))
    reading, writing = os.pipe()
    process = start("stop-many", path, stderr=writing)
    os.close(writing)
    os.close(reading)
    result = finish(process)
    assert (result.status, len(result.records)) == (0, 50)


def test_stop_many_does_not_call_a_missing_outcome_done(
    thor: Thor, run: Run, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(10)
    thor.emulator.fill(read_command_file(str(path)))
    drop_first_outcome(monkeypatch)
    result = run("stop-many", path)
    assert (result.status, len(result.records)) == (1, 9)
    assert "9 of 10 commands: 9 done" in result.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_an_output_that_is_full(thor: Thor, start: Start, fleet: Fleet) -> None:
    with Path("/dev/full").open("w") as full:
        result = finish(start("stop-many", fleet(1), stdout=full))
    assert result.status == 1
    assert (
        "thor-async: cannot write the output (No space left on device): "
        "0 of 1 commands were not sent, and 1 of the outcomes could not be written\n" in result.err
    )


def test_an_interrupt_ends_the_wait_for_the_next_stop(
    thor: Thor, start: Start, fleet: Fleet
) -> None:
    path = fleet(10)
    thor.emulator.fill(read_command_file(str(path)))
    process = start("stop-many", path, "--over", 10_000)
    assert process.stdout
    first = process.stdout.readline()
    result = interrupt(process)
    assert msgspec.json.decode(first)["verdict"] == "relayed"
    assert (result.status, result.out, thor.requests) == (130, "", 1)
    assert "interrupted: 9 of 10 commands were not sent" in result.err


@pytest.mark.usefixtures("fast_poller")
@pytest.mark.parametrize("options", [[], ["--wait", 1]])
def test_a_retry_does_not_stop_the_next_driver(
    thor: Thor, run: Run, write: Callable[..., Path], options: list[object]
) -> None:
    """The other charge is not stopped by its first try: the retry has its transaction."""
    thor.emulator.start_charge("A", 1, TAG, 52)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    thor.emulator.start_charge("B", 1, TAG, 53, date_started=hour_ago)
    thor.emulator.behaviours["A"] = Behaviour(next_driver=0.0)
    thor.emulator.script(ScriptedAnswer(500, effect=True), chargebox="A")
    thor.emulator.script(500, chargebox="B")
    result = run("stop-many", write(HEADER, f"A,1,{TAG},", f"B,1,{TAG},"), *options)
    a, b = sorted(result.records, key=lambda record: str(record["chargebox"]))
    assert (a["next_step"], a["transaction"], a["attempts"]) == ("check", None, 1)
    assert (b["verdict"], b["transaction"], b["attempts"]) == ("relayed", 53, 2)
    assert thor.emulator.charges.keys() == {("A", 1)}
    assert {request.effect for request in thor.emulator.ledger.effects} == {52, 53}


@pytest.mark.usefixtures("fast_poller")
def test_pin_fills_in_the_transaction(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    thor.emulator.start_charge("A", 1, TAG, 77)
    assert run("stop-many", write(HEADER, f"A,1,{TAG},"), "--pin").status == 0
    (request,) = thor.emulator.ledger.requests
    assert request.command is not None
    assert request.command.transaction == 77


@pytest.mark.usefixtures("throttled_ends")
@pytest.mark.usefixtures("fast_poller")
def test_stop_many_and_wait(thor: Thor, run: Run, fleet: Fleet, tmp_path: Path) -> None:
    path, output = fleet(20), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.behaviours["box-3"] = Behaviour(refuses=1.0)
    thor.emulator.script("NotInTransaction", chargebox="box-4")
    thor.emulator.script("TooManyRequests", chargebox="box-5")
    result = run("stop-many", path, "--wait", 1.5, "--output", output)
    rows = {
        line["chargebox"]: (line["verdict"], line["state"], line["next_step"])
        for line in map(msgspec.json.decode, output.read_bytes().splitlines())
        if "index" in line
    }
    assert result.status == 1
    assert rows.pop("box-3") == ("relayed", "still_running", "check")
    assert rows.pop("box-4") == ("rejected", "still_running", "check")
    assert rows.pop("box-5") == ("rejected", "unconfirmed", "resend")
    assert set(rows.values()) == {("relayed", "stopped", "done")}
    assert "relayed   " in result.err
    assert "  stopped  " in result.err
    assert "20 of 20: " in result.err
    assert " stopped" in result.err.split("20 of 20: ")[1].splitlines()[0]


@pytest.mark.usefixtures("fast_poller")
def test_a_charge_that_thor_says_is_over_is_done_without_proof(
    thor: Thor, run: Run, fleet: Fleet
) -> None:
    path = fleet(1)
    thor.emulator.add_chargebox("box-0")
    result = run("stop-many", path, "--wait", 1.5)
    (record,) = result.records
    assert (record["code"], record["state"]) == ("NotInTransaction", "unconfirmed")
    assert (record["next_step"], result.status) == ("done", 0)


@pytest.mark.usefixtures("fast_poller")
def test_ensure_stops_again_what_still_runs(
    thor: Thor, run: Run, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(20)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.behaviours["box-3"] = Behaviour(ignores=3)
    thor.emulator.script("NotInTransaction", chargebox="box-4")
    monkeypatch.setattr(open_rows, "_GAP", 0.3)
    result = run("stop-many", path, "--ensure", 20)
    assert result.status == 0
    assert {record["state"] for record in result.records} == {"stopped"}
    assert {record["chargebox"]: record["stops_sent"] for record in result.records}["box-3"] == 4
    assert "not yet known to have stopped: 1: chargebox 'box-3' connector 1\n" in result.err
    assert "not looked at" not in result.err
    assert not thor.emulator.charges


@pytest.mark.usefixtures("fast_poller")
def test_ensure_says_what_still_runs(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(5)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.behaviours["box-3"] = Behaviour(ignores=math.inf)
    result = run("stop-many", path, "--ensure", 1.5)
    assert result.status == 1
    assert "5 of 5 commands: 4 done, 1 check" in result.err
    (left,) = (record for record in result.records if record["next_step"] != "done")
    assert left["chargebox"] == "box-3"
    assert left["state"] in {"still_running", "unconfirmed"}


def test_within_ends_it(thor: Thor, run: Run, fleet: Fleet) -> None:
    thor.emulator.always(ScriptedAnswer(delay=30))
    result = run("stop-many", fleet(50), "--within", 1.5, "--max-in-flight", 5)
    assert result.status == 1
    assert Counter(record["verdict"] for record in result.records) == {"indeterminate": 5}
    assert "45 of 50 commands were not sent" in result.err


def test_attempts(thor: Thor, run: Run, fleet: Fleet) -> None:
    thor.emulator.always("InternalServerError")
    run("stop-many", fleet(3), "--attempts", 1)
    assert thor.requests == 3


def test_a_dry_run_needs_no_key_and_sends_nothing(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THOR_API_KEY")
    output = tmp_path / "out.jsonl"
    result = run("stop-many", fleet(3), "--dry-run", "--output", output, *ELSEWHERE)
    assert (result.status, result.err, thor.requests) == (0, "", 0)
    assert result.out.splitlines() == [
        "would stop 3 charges at 3 chargeboxes through https://thor.example",
        "pace: up to 32 at a time; with answers after 0.5 s that takes about: 0.5 s",
        "line 2: chargebox 'box-0' connector 1 transaction 1",
        "line 3: chargebox 'box-1' connector 1 transaction 2",
        "line 4: chargebox 'box-2' connector 1 transaction 3",
    ]
    assert not output.exists()


@pytest.mark.usefixtures("throttled_ends")
def test_a_dry_run_of_resume_says_what_is_left(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path
) -> None:
    path, output = fleet(4), tmp_path / "out.jsonl"
    thor.emulator.script("TooManyRequests", ScriptedAnswer(200), "WrongTransaction")
    run("stop-many", path, "--output", output)
    before = output.read_bytes()
    result = run("stop-many", path, "--output", output, "--resume", "--dry-run")
    assert result.out.startswith("would stop 1 charges at 1 chargeboxes ")
    assert result.out.endswith(
        "\n1 others were settled by earlier runs\n"
        "2 others need a correction: --resend fix sends them again\n"
    )
    assert (thor.requests, output.read_bytes()) == (4, before)


def test_a_dry_run_says_how_long_it_takes_at_a_rate(thor: Thor, run: Run, fleet: Fleet) -> None:
    result = run("stop-many", fleet(4000), "--dry-run", "--rate", 20)
    assert result.out.splitlines()[1] == "pace: at most 20 a second, as by --rate: 3 min"


def test_a_limited_account_loses_no_row(
    thor: Thor, run: Run, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(400)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.set_limits(RateLimits(100, burst=100))
    result = run("stop-many", path)
    assert result.status == 0
    assert {record["verdict"] for record in result.records} == {"relayed"}
    assert thor.requests <= 500
    assert "relayed; Thor allows about " in result.err
    assert not thor.emulator.charges


def test_at_the_rate_of_the_account_no_429_comes(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(60)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.set_limits(RateLimits(40, burst=5))
    assert run("stop-many", path, "--rate", 30).status == 0
    assert thor.requests == 60


def test_a_429_that_ends_a_row_is_to_be_sent_again(thor: Thor, run: Run, fleet: Fleet) -> None:
    thor.emulator.always("Limit Exceeded")
    result = run("stop-many", fleet(3))
    assert result.status == 1
    assert {record["next_step"] for record in result.records} == {"resend"}


def test_without_rows_there_is_no_question(
    remote_thor: Thor, run: Run, write: Callable[..., Path]
) -> None:
    result = run("stop-many", write(HEADER, "A,x,T,"), "--skip-bad")
    assert (result.status, remote_thor.requests) == (3, 0)
    assert "0 of 0 commands: nothing to do" in result.err


@pytest.mark.parametrize("yes", [True, False])
def test_more_than_at_most_sends_nothing_anywhere(
    thor: Thor, run: Run, fleet: Fleet, yes: bool
) -> None:
    result = run("stop-many", fleet(4), "--at-most", 3, *(["--yes"] if yes else []))
    assert (result.status, thor.requests) == (2, 0)
    assert result.err.startswith("thor-async: 4 charges are more than --at-most 3: check what")


def test_a_dry_run_tells_sites_types_and_the_first_rows(
    thor: Thor, run: Run, write: Callable[..., Path]
) -> None:
    rows = [f"H{n},1,{TAG}-{n},,Harbour {n},{'api' if n > 5 else 'local'}" for n in range(8)]
    path = write(f"{HEADER},alias,type", *rows, f"S1,1,{TAG},,Station,")
    result = run("stop-many", path, "--dry-run", "--over", 600, "--spread", "random")
    assert result.out.splitlines()[1:6] == [
        "by site: Harbour 8, Station 1",
        "by type: local 6, api 2, unknown 1",
        "pace: each at a random moment of 10 min: 10 min",
        "line 2: chargebox 'H0' connector 1 transaction not known",
        "line 3: chargebox 'H1' connector 1 transaction not known",
    ]
    assert result.out.endswith("and 4 other rows\n")
    plan = msgspec.json.decode(run("stop-many", path, "--dry-run", "--json", "--rate", 3).out)
    assert (plan["charges"], plan["sites"], plan["seconds"]) == (9, {"Harbour": 8, "Station": 1}, 3)
    assert plan["first"][0]["ref"] == {"alias": "Harbour 0", "type": "local"}
    assert not list(path.parent.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--canary", 50], "--canary 50 is more than the 20 charges"),
        (["--rate", 1, "--over", 10], "--over 10 is too short: 20 charges need 20 s"),
        (["--rate", 1, "--within", 10], "--within 10 is too short: 20 charges need 20 s"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(
    thor: Thor, run: Run, fleet: Fleet, options: list[object], problem: str
) -> None:
    result = run("stop-many", fleet(20), *options)
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    assert problem in result.err
    assert result.err.count("\n") == 1


def test_more_than_one_charge_gets_a_journal_beside_the_file(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    result = run("stop-many", path)
    (journal,) = path.parent.glob("thor-stops-*.jsonl")
    assert result.err.splitlines()[0] == f"thor-async: the journal is {journal}"
    assert journal.read_text().count("\n") == 5
    assert len(result.records) == 3
    assert run("status", journal).status == 0
    assert "go on with" not in result.err


@pytest.mark.parametrize(("rows", "options"), [(1, []), (3, ["--no-journal"])])
def test_no_journal_for_one_charge_or_by_option(
    thor: Thor, run: Run, fleet: Fleet, rows: int, options: list[str]
) -> None:
    path = fleet(rows)
    assert len(run("stop-many", path, *options).records) == rows
    assert not list(path.parent.glob("*.jsonl"))


def test_with_a_journal_a_terminal_gets_no_outcomes(
    thor: Thor, run: Run, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("stop-many", fleet(3)).out == ""


def test_a_closed_pipe_does_not_end_a_run_with_a_journal(
    thor: Thor, start: Start, fleet: Fleet
) -> None:
    path = fleet(30)
    thor.emulator.fill(read_command_file(str(path)))
    reading, writing = os.pipe()
    process = start("stop-many", path, stdout=writing)
    os.close(writing)
    os.close(reading)
    result = finish(process)
    assert (result.status, thor.requests) == (0, 30)
    assert result.err.count("standard output gets no more outcomes (Broken pipe)") == 1
    (journal,) = path.parent.glob("thor-stops-*.jsonl")
    assert journal.read_text().count("\n") == 32


def test_an_interrupted_run_prints_the_command_that_goes_on(
    thor: Thor, start: Start, run: Run, fleet: Fleet
) -> None:
    path = fleet(20)
    thor.emulator.fill(read_command_file(str(path)))
    process = start("stop-many", path, "--over", 10_000, "--attempts", 2)
    assert process.stdout
    process.stdout.readline()
    *_, last = interrupt(process).err.splitlines()
    words = shlex.split(last.partition("go on with: ")[2])
    assert words[:2] == ["thor-async", "stop-many"]
    assert words[-5:] == ["--resume", "--attempts", "2", "--over", "10000"]
    assert run(*words[1:-2]).status == 0
    assert thor.requests == 20


def test_no_password_is_in_the_command_that_goes_on() -> None:
    args = argparse.Namespace(file="a b.csv", proxy="http://user:pass@proxy:1", max_rate=2.5)
    assert format_continue_command(args, "j.jsonl") == (
        "thor-async stop-many 'a b.csv' --output j.jsonl --resume --proxy URL --rate 2.5"
    )


def test_resume_without_a_journal_names_the_last_one(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(3)
    run("stop-many", path)
    (journal,) = path.parent.glob("thor-stops-*.jsonl")
    assert f"the last one here is {journal} (see" in run("stop-many", path, "--resume").err


def test_the_first_failures_are_named_also_those_of_earlier_runs(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path
) -> None:
    path, output = fleet(9), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always("ConnectorNotValid", chargebox="box-1")
    thor.emulator.script(ScriptedAnswer(drop=True), chargebox="box-4")
    for number in (5, 6, 7, 8):
        thor.emulator.always("WrongTransaction", chargebox=f"box-{number}")
    run("stop-many", path, "--output", output)
    result = run("stop-many", path, "--output", output, "--resume")
    lines = [line for line in result.err.splitlines() if "line " in line]
    assert lines[0] == (
        "thor-async: line 3: chargebox 'box-1' connector 1: ConnectorNotValid: Thor answered 400: "
        "ConnectorNotValid"
    )
    assert [line.split()[2] for line in lines] == ["3:", "7:", "8:", "9:", "10:"]
    assert "slowest" not in result.err


def test_quiet_prints_only_what_is_wrong(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(30)
    thor.emulator.fill(read_command_file(str(path)))
    result = run("stop-many", path, "--quiet")
    assert (result.status, len(result.err.splitlines())) == (0, 1)
    assert result.err.startswith("thor-async: the journal is ")
    thor.emulator.always("ChargeboxNotFound", chargebox="box-3")
    told = run("stop-many", path, "--quiet", "--no-journal").err.splitlines()
    assert "30 of 30 commands: 29 done, 1 fix" in told[0]
    thor.emulator.always(None, chargebox="box-3")
    thor.emulator.api_key = "renewed"
    _, reason, go_on = run("stop-many", path, "--quiet").err.splitlines()
    assert "APIKeyNotFound" in reason
    assert go_on.endswith(" --resume --quiet --resend fix")


def test_a_report_overwrites_no_journal_and_no_input(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path
) -> None:
    path = fleet(2)
    same, other = tmp_path / "r.html", tmp_path / "folder" / ".." / "r.html"
    (tmp_path / "folder").mkdir()
    result = run("stop-many", path, "--output", same, "--report", other)
    assert result.status == 2
    assert "--report would overwrite the journal of --output: give it another name" in result.err
    path.rename(same)
    result = run("stop-many", same, "--report", other)
    assert result.status == 2
    assert "--report would overwrite the input: give it another name" in result.err
    assert same.read_text().startswith("chargebox")
    assert thor.requests == 0


@pytest.mark.parametrize(
    ("option", "seconds", "is_short"),
    [("--ensure", "25", True), ("--wait", "44.9", True), ("--ensure", "45", False)],
)
def test_a_watch_that_can_prove_nothing_is_warned_of(
    option: str, seconds: str, is_short: bool, thor: Thor, run: Run, fleet: Fleet
) -> None:
    path = fleet(1)
    thor.emulator.api_key = "another"  # an account error ends the watch at once
    said = run("stop-many", path, option, seconds).err
    assert (f"{option} {float(seconds):g} is short: " in said) is is_short


def test_fifty_unknown_chargeboxes_and_nothing_else_end_a_run_without_a_terminal(
    thor: Thor, run: Run, fleet: Fleet
) -> None:
    path = fleet(300)
    result = run("stop-many", path)
    assert result.status == 3
    assert 50 <= thor.requests <= 50 + 32
    *_, last = result.err.splitlines()
    assert last == (
        "thor-async: Thor knows none of the first 50 chargeboxes: check the address and the "
        f"account, or give --go-on: {300 - thor.requests} of 300 commands were not sent"
    )
    assert run("stop-many", path, "--go-on").status == 3
    assert thor.requests >= 350


@pytest.mark.parametrize("known", ["box-0", "box-30"])
def test_one_known_chargebox_shows_the_right_environment(
    thor: Thor, run: Run, fleet: Fleet, known: str
) -> None:
    thor.emulator.add_chargebox(known)
    assert run("stop-many", fleet(200)).status == 3
    assert thor.requests == 200


def test_the_question_about_the_environment(
    thor: Thor, run: Run, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[str] = []

    async def answer(question: str, interrupted: object) -> bool:
        questions.append(question)
        return True

    monkeypatch.setattr(stop_many, "ask_to_go_on", answer)
    result = run("stop-many", fleet(200))
    assert (result.status, thor.requests, len(result.records)) == (3, 200, 200)
    (question,) = questions
    left = int(question.split(" charges are left")[0].split()[-1])
    assert 200 - 50 - 32 <= left <= 150


def test_a_few_unknown_chargeboxes_and_no_other_are_told_at_the_end(
    thor: Thor, run: Run, fleet: Fleet
) -> None:
    hint = "Thor knows none of these chargeboxes: check the address and the account, or the file"
    assert hint in run("stop-many", fleet(3)).err
    assert hint not in run("stop-many", fleet(1)).err
    thor.emulator.add_chargebox("box-2")
    assert hint not in run("stop-many", fleet(3)).err
