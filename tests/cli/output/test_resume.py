"""`--resume`: which rows it sends again, and which may have been sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import HEADER, Fleet, Run, Start, Thor, finish, interrupt
from tests.cli.output.conftest import final, lines, outcomes, refused, sent
from tests.conftest import KEY, TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.emulator import Faults, ScriptedAnswer


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
    (ScriptedAnswer(400, b'{"message":"NobodyKnows"}'), True),
    (ScriptedAnswer(418), True),
    ("ConnectorNotValid", False),
    ("NotInTransaction", False),
    ("WrongTransaction", False),
    ("ChargeboxNotFound", False),
    (ScriptedAnswer(drop=True), False),
    ("InternalServerError", False),
    (ScriptedAnswer(200), False),
]


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


@pytest.mark.parametrize("answer", [ScriptedAnswer(drop=True), "InternalServerError"])
def test_resend_unknown_sends_indeterminate_rows(
    thor: Thor, run: Run, fleet: Fleet, output: Path, answer: Any
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script(answer, chargebox="box-1")
    arguments = ("stop-many", path, "--output", output, "--attempts", 1)
    assert run(*arguments).status == 1
    result = run(*arguments, "--resume", "--resend-unknown")
    assert (result.status, sent(thor)) == (0, {"box-0": 1, "box-1": 2})
    assert final(output)[1]["verdict"] == "relayed"
    assert final(output)[1]["maybe_applied"] is True


def test_a_wrong_key_leaves_no_row_unsent(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(200)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.api_key = "renewed"
    assert run("stop-many", path, "--output", output).status == 1
    thor.emulator.api_key = KEY
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert {row: line["verdict"] for row, line in final(output).items()} == dict.fromkeys(
        range(200), "relayed"
    )
    assert not any(line["maybe_applied"] for line in outcomes(output))


def test_a_storm_of_429_leaves_no_row_unsent(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script(*["TooManyRequests"] * 60)
    assert run("stop-many", path, "--output", output).status == 1
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert {line["verdict"] for line in final(output).values()} == {"relayed"}
    assert set(sent(thor).values()) == {1, 2}


def test_resume_of_a_complete_journal_sends_nothing(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    result = run("stop-many", path, "--output", output, "--resume")
    assert (result.status, thor.requests) == (0, 3)
    assert result.err == "thor-async: 0 of 0 commands: nothing to do\n"


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


def test_maybe_applied_is_kept_in_later_runs(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(4)
    arguments = ("stop-many", path, "--output", output)
    thor.emulator.always("TooManyRequests")
    run(*arguments)
    cut(output, 1)
    run(*arguments, "--resume")
    assert {line["next_step"] for line in final(output).values()} == {"check"}
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always(None)
    assert run(*arguments, "--resume").status == 0
    assert all(line["maybe_applied"] for line in final(output).values())


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
