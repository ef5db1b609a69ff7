"""`--resume`: which rows it sends again, and which may have been sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.conftest import HEADER, Fleet, Run, Start, Thor, finish, interrupt
from tests.cli.output.conftest import final, lines, outcomes, refused, sent
from tests.conftest import KEY, TAG
from thor_async import StopCharge, Verdict
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.output.journal_reader import read_resume_state
from thor_async.cli.output.resume import JournalLine, ResumeState
from thor_async.emulator import Behaviour, Faults, RateLimits, ScriptedAnswer


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a":1}\n', "is not a journal of stop-many"),
        ('{"index":0,"verdict":"relayed"}\n', "is not a journal of stop-many"),
        ("precious\nthings\n", "line 1: not a line of a journal"),
        ('{"input":"00","rows":1}\n', "is the journal of another input"),
        ('{"input":"DIGEST","rows":2}\n', "is the journal of another input"),
        ('{"input":"DIGEST","rows":1}\n{"index":1,"verdict":"relayed"}\n', "of another input"),
        ('{"input":"DIGEST","rows":1}\n{"index":-1,"verdict":"relayed"}\n', "of another input"),
        ('{"input":"DIGEST","rows":1}\n', "does not say when its first run started"),
        ('{"input":"DIGEST","rows":1}\nx\n{"ended":"now"}\n', "line 2: not a line of a journal"),
    ],
)
def test_what_cannot_be_resumed(
    thor: Thor, run: Run, fleet: Fleet, output: Path, content: str, problem: str
) -> None:
    path = fleet(1)
    content = content.replace("DIGEST", read_command_file(str(path)).digest)
    output.write_text(content)
    assert problem in refused(run, thor, path, "--output", output, "--resume")
    assert output.read_text() == content


RESENT = [
    ("TooManyRequests", True),
    (ScriptedAnswer(400, b'{"message":"NobodyKnows"}'), False),
    (ScriptedAnswer(418), False),
    ("ConnectorNotValid", False),
    ("NotInTransaction", False),
    ("WrongTransaction", False),
    ("ChargeboxNotFound", False),
    (ScriptedAnswer(drop=True), True),
    ("InternalServerError", True),
    (ScriptedAnswer(200), False),
]


@pytest.mark.usefixtures("throttled_ends")
@pytest.mark.parametrize(("answer", "is_resent"), RESENT)
def test_what_is_sent_again(
    thor: Thor, run: Run, fleet: Fleet, output: Path, answer: Any, is_resent: bool
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script(answer, chargebox="box-1")
    arguments = ("stop-many", path, "--output", output, "--attempts", 1)
    run(*arguments)
    run(*arguments, "--resume")
    assert sent(thor) == {"box-0": 1, "box-1": 1 + is_resent}
    assert len(outcomes(output)) == 2 + is_resent


def test_resend_fix_sends_the_fix_rows(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ChargeboxNotFound", chargebox="box-1")
    arguments = ("stop-many", path, "--output", output)
    assert run(*arguments).status == 3
    result = run(*arguments, "--resume")
    assert (result.status, sent(thor)) == (3, {"box-0": 1, "box-1": 1})
    result = run(*arguments, "--resume", "--resend", "fix")
    assert (result.status, sent(thor)) == (0, {"box-0": 1, "box-1": 2})
    assert final(output)[1]["verdict"] == "relayed"
    assert final(output)[1]["maybe_applied"] is False


def test_a_wrong_key_leaves_no_row_unsent(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(200)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.api_key = "renewed"
    assert run("stop-many", path, "--output", output).status == 3
    thor.emulator.api_key = KEY
    arguments = ("stop-many", path, "--output", output, "--resume")
    assert run(*arguments).status == 3
    assert run(*arguments, "--resend", "fix").status == 0
    assert {row: line["verdict"] for row, line in final(output).items()} == dict.fromkeys(
        range(200), "relayed"
    )
    assert not any(line["maybe_applied"] for line in outcomes(output))


@pytest.mark.usefixtures("throttled_ends")
def test_a_storm_of_429_leaves_no_row_unsent(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.set_limits(RateLimits(200, burst=60))
    assert run("stop-many", path, "--output", output).status == 1
    thor.emulator.set_limits(RateLimits())
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert {line["verdict"] for line in final(output).values()} == {"relayed"}
    assert set(sent(thor).values()) == {1, 2}


def test_resume_of_a_complete_journal_sends_nothing(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    result = run("stop-many", path, "--output", output, "--resume", "--over", 60)
    assert (result.status, thor.requests) == (0, 3)
    assert "thor-async: 3 of 3 commands: 3 done\n" in result.err
    assert "3 relayed stops were not looked at" in result.err.splitlines()[-1]


def test_a_torn_last_line_is_repaired(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    *whole, last, _ = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(whole) + last[:-20])
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert set(final(output)) == {0, 1, 2}
    assert len(outcomes(output)) == 3


@pytest.mark.parametrize("left", [b"", b'{"journal":1,"inp'])
def test_resume_of_an_empty_file_or_a_torn_start(
    thor: Thor, run: Run, fleet: Fleet, output: Path, left: bytes
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    output.write_bytes(left)
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert not any(line["maybe_applied"] for line in outcomes(output))


def cut(output: Path, count: int) -> None:
    """Keeps the first `count` lines, as after a power failure."""
    output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:count]))


def test_after_a_crash_a_row_without_a_line_may_have_been_sent(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(4)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    cut(output, 3)
    written = {line["index"] for line in outcomes(output)}
    run("stop-many", path, "--output", output, "--resume")
    for row, line in final(output).items():
        assert line["maybe_applied"] is (row not in written)
        assert line["next_step"] == "done"
        assert line["code"] == (None if row in written else "NotInTransaction")


@pytest.mark.usefixtures("throttled_ends")
def test_after_a_crash_a_row_with_a_line_was_not_sent_unless_its_line_says_so(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(4)
    arguments = ("stop-many", path, "--output", output, "--attempts", 1)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always("TooManyRequests")
    run(*arguments)
    cut(output, 5)  # start and four outcomes, without the end
    thor.emulator.always(None)
    assert run(*arguments, "--resume").status == 0
    assert len(outcomes(output)) == 8
    assert not any(line["maybe_applied"] for line in outcomes(output))


@pytest.mark.usefixtures("throttled_ends")
def test_maybe_applied_is_kept_in_later_runs(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(4)
    arguments = ("stop-many", path, "--output", output)
    thor.emulator.always("TooManyRequests")
    run(*arguments)
    cut(output, 1)
    run(*arguments, "--resume")
    assert {line["next_step"] for line in final(output).values()} == {"resend"}
    assert all(line["maybe_applied"] for line in final(output).values())
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always(None)
    assert run(*arguments, "--resume").status == 0
    assert all(line["maybe_applied"] for line in final(output).values())


@pytest.mark.usefixtures("throttled_ends")
def test_a_row_that_a_crashed_run_was_to_resend_may_have_been_sent(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(4)
    arguments = ("stop-many", path, "--output", output)
    thor.emulator.always("TooManyRequests")
    run(*arguments)
    run(*arguments, "--resume")
    cut(output, 7)  # start, four outcomes, end; then the start of the crashed run
    run(*arguments, "--resume")
    assert all(line["maybe_applied"] for line in final(output).values())


def test_a_killed_run_is_finished_by_resume(
    thor: Thor, run: Run, start: Start, fleet: Fleet, output: Path
) -> None:
    path = fleet(1000)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.faults = Faults(latency=(0.01, 0.03))
    process = start("stop-many", path, "--output", output, "--max-in-flight", 16)
    thor.wait_for_requests(150)
    process.kill()
    process.wait()
    written = {line["index"] for line in outcomes(output)}
    assert 100 <= len(written) < 1000
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert set(final(output)) == set(range(1000))
    assert len(outcomes(output)) == 1000
    twice = {box for box, count in sent(thor).items() if count > 1}
    assert len(twice) <= 2 * 16  # in flight, or answered but not yet written
    assert max(sent(thor).values()) == 2
    assert not {f"box-{row}" for row in written} & twice
    assert not list(output.parent.glob("*.reserve"))


def test_an_interrupted_run_leaves_nothing_unknown(
    thor: Thor, run: Run, start: Start, fleet: Fleet, output: Path
) -> None:
    path = fleet(300)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.faults = Faults(latency=(0.05, 0.05))
    process = start("stop-many", path, "--output", output, "--max-in-flight", 4)
    thor.wait_for_requests(8)
    assert interrupt(process).status == 130
    assert "ended" in lines(output)[-1]
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert set(sent(thor).values()) == {1}
    assert not any(line["maybe_applied"] for line in outcomes(output))


def test_rows_are_counted_without_those_left_out(
    thor: Thor, run: Run, write: Callable[..., Path], output: Path
) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.start_charge("C", 1, TAG, 6)
    path = write(HEADER, f"A,1,{TAG},5", f"B,0,{TAG},5", f"C,1,{TAG},6")
    run("stop-many", path, "--output", output, "--skip-bad")
    assert [(row, line["line"]) for row, line in sorted(final(output).items())] == [(0, 2), (1, 4)]


def test_a_journal_of_standard_input(
    thor: Thor, start: Start, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    with path.open() as file:
        assert finish(start("stop-many", "-", "--output", output, stdin=file)).status == 0
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert thor.requests == 3


def command_lines(thor: Thor) -> list[tuple[str, int | None]]:
    """Returns the chargebox and the transaction of each request."""
    requests = (request.command for request in thor.emulator.ledger.requests)
    return [(command.chargebox, command.transaction) for command in requests if command]


def no_transactions(write: Callable[..., Path], count: int) -> Path:
    """Writes a file of charges without their transactions."""
    return write(HEADER, *(f"box-{n},1,{TAG}," for n in range(count)))


def age(output: Path, seconds: float) -> None:
    """Moves the start of all runs in the journal into the past."""
    moved = []
    for line in lines(output):
        if "started" in line:
            started = datetime.fromisoformat(line["started"]) - timedelta(seconds=seconds)
            line["started"] = started.isoformat()
        moved.append(msgspec.json.encode(line) + b"\n")
    output.write_bytes(b"".join(moved))


def hours_ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


@pytest.mark.usefixtures("throttled_ends")
@pytest.mark.usefixtures("fast_poller")
def test_resume_never_stops_a_charge_that_began_after_the_first_run(
    thor: Thor, run: Run, write: Callable[..., Path], output: Path
) -> None:
    path = no_transactions(write, 3)
    for box in range(3):
        thor.emulator.start_charge(f"box-{box}", 1, TAG, box + 1)
    for box in range(2):
        thor.emulator.always(ScriptedAnswer(drop=True, effect=not box), chargebox=f"box-{box}")
    thor.emulator.always("TooManyRequests", chargebox="box-2")
    arguments = ("stop-many", path, "--output", output, "--attempts", 1)
    assert run(*arguments).status == 1
    age(output, 1800)
    # One stop worked: the next driver's charge runs there. The other charges run on.
    thor.emulator.charges.clear()
    thor.emulator.start_charge("box-0", 1, TAG, 10, date_started=hours_ago(0.1))
    thor.emulator.start_charge("box-1", 1, TAG, 2, date_started=hours_ago(1))
    thor.emulator.start_charge("box-2", 1, TAG, 11, date_started=hours_ago(0.1))
    for box in range(3):
        thor.emulator.always(None, chargebox=f"box-{box}")
    result = run(*arguments, "--resume", "--ensure", 5)
    assert command_lines(thor)[3:] == [("box-1", 2)]
    assert {place[0] for place in thor.emulator.charges} == {"box-0", "box-2"}
    assert {line["state"] for line in final(output).values()} == {"stopped"}
    assert result.status == 0


@pytest.mark.usefixtures("fast_poller")
@pytest.mark.parametrize("option", [[], ["--wait", "3"], ["--ensure", "3"]])
def test_resume_looks_at_a_check_row_before_it_sends(
    thor: Thor, run: Run, write: Callable[..., Path], output: Path, option: list[str]
) -> None:
    path = no_transactions(write, 2)
    for box in range(2):
        thor.emulator.start_charge(f"box-{box}", 1, TAG, box + 1, date_started=hours_ago(1))
        answer = ScriptedAnswer(drop=True, effect=bool(box))
        thor.emulator.script(answer, chargebox=f"box-{box}")
    arguments = ("stop-many", path, "--output", output, "--attempts", 1)
    run(*arguments)
    assert {line["next_step"] for line in outcomes(output)} == {"check"}
    age(output, 60)
    assert run(*arguments, "--resume", *option).status == 0
    assert command_lines(thor)[2:] == [("box-0", 1)]
    assert {line["state"] for line in final(output).values()} == {"stopped"}
    assert not thor.emulator.charges


@pytest.mark.usefixtures("fast_poller")
def test_a_still_running_row_is_not_settled(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.behaviours["box-1"] = Behaviour(ignores=1)
    arguments = ("stop-many", path, "--output", output, "--wait", 1)
    assert run(*arguments).status == 1
    assert final(output)[1]["state"] == "still_running"
    assert run(*arguments, "--resume").status == 0
    assert (final(output)[1]["state"], sent(thor)["box-1"]) == ("stopped", 2)
    assert not thor.emulator.charges


@pytest.mark.usefixtures("fast_poller")
def test_a_charge_that_never_stops_ends_with_a_person(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.behaviours["box-1"] = Behaviour(ignores=math.inf)
    arguments = ("stop-many", path, "--output", output, "--resume", "--ensure", 0.7)
    statuses = [run(*arguments).status]
    while statuses[-1] == 1 and len(statuses) < 5:
        statuses.append(run(*arguments).status)
    assert statuses == [1, 3]
    assert final(output)[1]["next_step"] == "check"
    thor.emulator.behaviours.clear()
    assert run(*arguments).status == 0


@pytest.mark.usefixtures("fast_poller")
@pytest.mark.parametrize("option", ["--wait", "--ensure"])
def test_a_relayed_row_is_not_done_for_a_run_that_watches(
    thor: Thor, run: Run, fleet: Fleet, output: Path, option: str
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.behaviours["box-1"] = Behaviour(ignores=1)
    arguments = ("stop-many", path, "--output", output)
    assert run(*arguments).status == 0
    assert run(*arguments, "--resume", option, 3).status == 0
    assert sent(thor) == {"box-0": 1, "box-1": 2, "box-2": 1}
    assert {line["state"] for line in final(output).values()} == {"stopped"}
    assert not thor.emulator.charges
    assert all(line["maybe_applied"] for line in final(output).values())
    assert run(*arguments, "--resume", option, 3).err.endswith("3 of 3 commands: 3 done\n")


@pytest.mark.usefixtures("throttled_ends")
@pytest.mark.usefixtures("fast_poller")
def test_the_status_is_that_of_all_rows_not_of_the_last_run(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ConnectorNotValid", chargebox="box-0")
    thor.emulator.script("TooManyRequests", chargebox="box-1")
    arguments = ("stop-many", path, "--output", output)
    assert run(*arguments).status == 1  # both kinds are left
    result = run(*arguments, "--resume")
    assert result.status == 3
    assert "3 of 3 commands: 2 done, 1 fix\n" in result.err
    assert "  fix  " in result.err  # in the table


def test_a_journal_of_another_address_is_refused(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    assert run("stop-many", path, "--output", output).status == 0
    for extra in ([], ["--dry-run"]):
        result = run(
            "stop-many", path, "--output", output, "--resume", *extra,
            "--base-url", "https://thor.example",
        )  # fmt: skip
        assert (result.status, result.out) == (2, "")
        assert f"is the journal of stops through {thor.base_url}, not https://thor" in result.err


@pytest.mark.usefixtures("fast_poller")
def test_rows_of_failed_canaries_are_not_done(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(12)
    thor.emulator.fill(read_command_file(str(path)))
    for number in range(12):
        thor.emulator.behaviours[f"box-{number}"] = Behaviour(ignores=math.inf)
    arguments = ("stop-many", path, "--output", output, "--canary", 4, "--wait", 0.7)
    assert run(*arguments).status == 1
    result = run(*arguments, "--resume")
    assert result.status == 3  # the same canary would fail again
    assert set(sent(thor)) == {f"box-{number}" for number in range(4)}
    assert "4 of 12 commands: 4 check\n" in result.err
    thor.emulator.behaviours.clear()
    assert run(*arguments, "--resume", "--wait", 5).status == 0
    assert not thor.emulator.charges


@pytest.mark.usefixtures("throttled_ends")
def test_a_crashed_run_does_not_spoil_rows_that_it_did_not_send(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(2)
    thor.emulator.script("ConnectorNotValid", chargebox="box-0")
    thor.emulator.script("TooManyRequests", chargebox="box-1")
    run("stop-many", path, "--output", output)
    run("stop-many", path, "--output", output, "--resume")
    cut(output, 5)  # start, two outcomes, end; then the start of the crashed run
    with output.open("rb") as file:
        state, _ = read_resume_state(file, "x")
    assert [state.may_have_been_sent(row) for row in range(2)] == [False, True]


def test_a_row_that_two_runs_leave_open_needs_a_person() -> None:
    def status(*rows: tuple[str, str | None]) -> int:
        state = ResumeState(1)
        for step, reason in rows:
            verdict = Verdict.NOT_SENT
            state.add(JournalLine(index=0, verdict=verdict, next_step=step, reason=reason))
        return state.find_status()

    assert status() == 1
    assert status(("check", None)) == 1
    assert status(("check", None), ("check", None)) == 3
    assert status(("resend", "pin"), ("check", None)) == 3
    assert status(("resend", "pin"), ("resend", "pin")) == 3
    assert status(("resend", "connect"), ("resend", "connect")) == 1
    assert status(("check", None), ("resend", "connect"), ("check", None)) == 1
    assert status(("fix", None)) == 3
    assert status(("done", None)) == 0


def test_an_interrupted_run_does_not_count_for_that() -> None:
    state = ResumeState(1)
    for is_interrupted in (False, True, True):
        line = JournalLine(
            index=0, verdict=Verdict.RELAYED, next_step="check", interrupted=is_interrupted
        )
        state.add(line)
        assert state.find_status() == 1
    state.add(msgspec.structs.replace(line, interrupted=False))
    assert state.find_status() == 3


@pytest.mark.usefixtures("throttled_ends")
def test_an_old_journal_is_read(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ConnectorNotValid", chargebox="box-0")
    thor.emulator.script("TooManyRequests", chargebox="box-1")
    run("stop-many", path, "--output", output)
    new = {"left_out", "resend", "watch", "reason", "stops_sent", "interrupted"}
    old = [{name: line[name] for name in line if name not in new} for line in lines(output)]
    output.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in old))
    assert run("status", output).status == 1
    assert run("stop-many", path, "--output", output, "--resume").status == 3
    assert sent(thor) == {"box-0": 1, "box-1": 2, "box-2": 1}
    # An old run without an end may have sent the fix rows again.
    output.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in [*old, old[0]]))
    with output.open("rb") as file:
        state, _ = read_resume_state(file, "x")
    assert [state.may_have_been_sent(row) for row in range(3)] == [True, True, False]


def test_what_a_crashed_run_may_have_sent_is_not_called_unsent(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(50)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    cut(output, 11)
    thor.emulator.api_key = "renewed"
    result = run("stop-many", path, "--output", output, "--resume", "--max-in-flight", 4)
    left = 50 - len(final(output))
    assert f": 0 of 50 commands were not sent\nthor-async: a crashed run may have sent {left}" in (
        result.err
    )


def test_a_transaction_that_was_found_is_used_again() -> None:
    state = ResumeState(2)
    first = datetime(2026, 1, 31, 18, tzinfo=UTC)
    state.add(JournalLine(input="x", rows=2, started=first))
    state.add(JournalLine(input="x", rows=2, started=first + timedelta(hours=1)))
    state.add(JournalLine(index=0, verdict=Verdict.RELAYED, transaction=52))
    command = StopCharge("A", 1, TAG)
    assert state.resume(0, command) == StopCharge("A", 1, TAG, 52)
    assert state.resume(1, command) == StopCharge("A", 1, TAG, as_of=first)
    earlier = msgspec.structs.replace(command, as_of=first - timedelta(hours=2))
    assert state.resume(1, earlier) == earlier
    pinned = StopCharge("A", 1, TAG, 7)
    assert state.resume(0, pinned) == pinned
    assert ResumeState(1).resume(0, command) == command


@pytest.mark.parametrize(("was_sent", "why"), [(False, "pin"), (True, "pin, sent before")])
def test_a_row_that_an_earlier_run_may_have_sent_is_not_shown_as_never_sent(
    was_sent: bool, why: str
) -> None:
    line = JournalLine(verdict=Verdict.NOT_SENT, reason="pin", maybe_applied=was_sent)
    assert line.kind == ("not_sent", why, "", "resend")
