"""`--output`: what the journal holds after any end, and what `--resume` makes of it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.conftest import HEADER, PROCESS, Run, Start, Thor, finish, interrupt
from tests.conftest import KEY, TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.output.journal import Journal
from thor_async.emulator import Faults, ScriptedAnswer

Fleet = Callable[[int], Path]
Line = dict[str, Any]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def lines(output: Path) -> list[Line]:
    return [msgspec.json.decode(line) for line in output.read_bytes().splitlines()]


def outcomes(output: Path) -> list[Line]:
    return [line for line in lines(output) if "index" in line]


def final(output: Path) -> dict[int, Line]:
    """The last line of each row."""
    return {line["index"]: line for line in outcomes(output)}


def sent(thor: Thor) -> Counter[str]:
    """How many requests came for each chargebox."""
    return Counter(
        request.command.chargebox for request in thor.emulator.ledger.requests if request.command
    )


def test_a_journal_has_a_start_a_line_for_each_row_and_an_end(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(20)
    thor.emulator.fill(read_command_file(str(path)))
    said = run("stop-many", path, "--output", output)
    start, *told, end = lines(output)
    assert (said.status, said.out) == (0, "")
    assert start["input"] == read_command_file(str(path)).digest
    assert (start["rows"], start["address"]) == (20, thor.base_url)
    assert sorted(line["index"] for line in told) == list(range(20))
    assert all(line["line"] == line["index"] + 2 for line in told)
    assert {(line["verdict"], line["next_step"]) for line in told} == {("relayed", "done")}
    assert end["ended"] >= told[-1]["at"] >= start["started"]
    assert [file.name for file in output.parent.iterdir() if "out" in file.name] == ["out.jsonl"]
    assert TAG not in output.read_text()


def refused(run: Run, thor: Thor, *arguments: object) -> str:
    said = run("stop-many", *arguments)
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert said.err.count("\n") == 1
    return said.err


def test_a_file_that_is_there_is_not_written_over(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    output.write_text("precious")
    assert "is there already: --resume goes on" in refused(run, thor, fleet(1), "--output", output)
    assert output.read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a":1}\n', "is no journal of stop-many"),
        ('{"index":0,"verdict":"relayed"}\n', "is no journal of stop-many"),
        ("precious\nthings\n", "line 1: no line of a journal"),
        ('{"input":"00","rows":1}\n', "is the journal of another input"),
        ('{"input":"DIGEST","rows":2}\n', "is the journal of another input"),
        ('{"input":"DIGEST","rows":1}\n{"index":1,"verdict":"relayed"}\n', "of another input"),
        ('{"input":"DIGEST","rows":1}\n{"index":-1,"verdict":"relayed"}\n', "of another input"),
        ('{"input":"DIGEST","rows":1}\nx\n{"ended":"now"}\n', "line 2: no line of a journal"),
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


def test_a_journal_that_is_missing_is_not_begun_by_resume(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    error = refused(run, thor, fleet(1), "--output", output, "--resume")
    assert error.endswith("leave --resume out to begin one\n")
    assert not output.exists()


@pytest.mark.parametrize("place", ["/dev/null", ".", "no/folder/out.jsonl"])
def test_a_place_where_no_journal_can_be(thor: Thor, run: Run, fleet: Fleet, place: str) -> None:
    assert place in refused(run, thor, fleet(1), "--output", place)


def test_a_second_process_is_refused(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    output.touch()
    reserve = output.with_name("out.jsonl.reserve")
    reserve.touch()
    with output.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another process writes" in refused(run, thor, fleet(1), "--output", output)
    assert reserve.exists()


def test_a_journal_that_was_taken_away_before_it_was_locked_is_not_written(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(held: int, how: int) -> None:
        output.unlink()

    monkeypatch.setattr(fcntl, "flock", lock)
    assert "has just removed" in refused(run, thor, fleet(1), "--output", output)


def test_a_number_that_was_not_typed_leaves_no_file(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    assert "--at-most" in refused(run, thor, fleet(2), "--output", output, "--at-most", 1)
    assert not output.exists()


# Resuming


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
def test_what_is_unknown_is_sent_again_when_that_is_asked_for(
    thor: Thor, run: Run, fleet: Fleet, output: Path, answer: Any
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script(answer, chargebox="box-1")
    arguments = ("stop-many", path, "--output", output, "--attempts", 1)
    assert run(*arguments).status == 1
    said = run(*arguments, "--resume", "--resend-unknown")
    assert (said.status, sent(thor)) == (0, {"box-0": 1, "box-1": 2})
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


def test_a_whole_journal_sends_nothing(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    said = run("stop-many", path, "--output", output, "--resume")
    assert (said.status, thor.requests) == (0, 3)
    assert said.err == "thor-async: 0 of 0 commands: nothing to do\n"


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
def test_a_journal_that_was_hardly_begun(
    thor: Thor, run: Run, fleet: Fleet, output: Path, left: bytes
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    output.write_bytes(left)
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert not any(line["maybe_applied"] for line in outcomes(output))


def cut(output: Path, count: int) -> None:
    """As after a power cut: only so many lines are left."""
    output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:count]))


def test_after_an_unclean_end_a_row_without_a_line_may_have_been_sent(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(4)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    cut(output, 3)
    told = {line["index"] for line in outcomes(output)}
    run("stop-many", path, "--output", output, "--resume")
    for row, line in final(output).items():
        assert line["maybe_applied"] is (row not in told)
        assert line["next_step"] == "done"
        assert line["code"] == (None if row in told else "NotInTransaction")


def test_what_may_have_been_sent_is_still_so_runs_later(
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


def test_a_row_that_a_cut_off_run_was_to_send_again_may_have_been_sent(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(4)
    arguments = ("stop-many", path, "--output", output)
    thor.emulator.always("TooManyRequests")
    run(*arguments)
    run(*arguments, "--resume")
    cut(output, 7)  # start, four outcomes, end; then the start of the run that was cut off
    run(*arguments, "--resume")
    assert all(line["maybe_applied"] for line in final(output).values())


def test_a_killed_run_is_finished_by_resume(
    thor: Thor, run: Run, start: Start, fleet: Fleet, output: Path
) -> None:
    path = fleet(400)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.faults = Faults(latency=(0.005, 0.02))
    process = start("stop-many", path, "--output", output, "--max-in-flight", 16)
    thor.saw(requests=150)
    process.kill()
    process.wait()
    told = {line["index"] for line in outcomes(output)}
    assert 100 <= len(told) < 400
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert set(final(output)) == set(range(400))
    assert len(outcomes(output)) == 400
    twice = {box for box, count in sent(thor).items() if count > 1}
    assert len(twice) <= 2 * 16  # on the wire, or answered just then
    assert max(sent(thor).values()) == 2
    assert not {f"box-{row}" for row in told} & twice
    assert not list(output.parent.glob("*.reserve"))


def test_an_interrupted_run_leaves_nothing_unknown(
    thor: Thor, run: Run, start: Start, fleet: Fleet, output: Path
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.faults = Faults(latency=(0.05, 0.05))
    process = start("stop-many", path, "--output", output, "--max-in-flight", 4)
    thor.saw(requests=8)
    assert interrupt(process).status == 130
    assert "ended" in lines(output)[-1]
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert set(sent(thor).values()) == {1}
    assert not any(line["maybe_applied"] for line in outcomes(output))


# A disk that is full


def test_a_full_disk_stops_the_dispatch_before_an_outcome_is_lost(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(300)
    thor.emulator.fill(read_command_file(str(path)))
    write = os.write

    def write_until_full(fd: int, data: bytes) -> int:
        room = 20_000 - output.stat().st_size
        if reserve.exists() and room < len(data):
            reserved.append(reserve.stat().st_size)
            if room > 0:
                return write(fd, data[:room])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    reserve = output.with_name("out.jsonl.reserve")
    reserved: list[int] = []
    monkeypatch.setattr(os, "write", write_until_full)
    said = run("stop-many", path, "--output", output)
    monkeypatch.undo()
    assert said.status == 1
    assert "takes no more (No space left on device): make room, then go on" in said.err
    assert reserved[0] > 4 * 32 * 2000  # whatever can be in flight
    told = outcomes(output)
    assert 0 < len(told) == thor.requests < 300
    assert "ended" in lines(output)[-1]
    monkeypatch.setenv("THOR_API_KEY", KEY)
    run("stop-many", path, "--output", output, "--resume", "--base-url", thor.base_url)
    assert set(sent(thor).values()) == {1}
    assert set(final(output)) == set(range(300))


def limited(size: int) -> str:
    """The command in a process whose files may have so many bytes."""
    return f"from resource import *\nsetrlimit(RLIMIT_FSIZE, ({size}, {size}))\n{PROCESS}"


def test_a_limit_on_the_size_of_files_is_kept_in_view(
    thor: Thor, start: Start, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(300)
    thor.emulator.fill(read_command_file(str(path)))
    arguments = ("stop-many", path, "--output", output)
    said = finish(start(*arguments, "--max-in-flight", 1, code=limited(60_000)))
    assert said.status == 1
    assert "takes no more (File too large)" in said.err
    assert 0 < len(outcomes(output)) == thor.requests < 300
    assert run(*arguments, "--resume").status == 0
    assert set(sent(thor).values()) == {1}


def test_no_room_at_the_start_sends_nothing(
    thor: Thor, start: Start, fleet: Fleet, output: Path
) -> None:
    said = finish(start("stop-many", fleet(3), "--output", output, code=limited(100)))
    assert (said.status, thor.requests) == (2, 0)
    assert "cannot write" in said.err
    assert not list(output.parent.glob("out*"))


def test_what_cannot_be_written_at_all_ends_the_dispatch(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(300)
    thor.emulator.fill(read_command_file(str(path)))

    def write(self: Journal, line: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Journal, "write", write)
    said = run("stop-many", path, "--output", output)
    assert said.status == 1
    assert "the output takes no more (Input/output error)" in said.err
    assert thor.requests <= 128


def test_a_journal_of_standard_input(
    thor: Thor, start: Start, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    with path.open() as file:
        assert finish(start("stop-many", "-", "--output", output, stdin=file)).status == 0
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert thor.requests == 3


def test_rows_are_counted_without_those_left_out(
    thor: Thor, run: Run, write: Callable[..., Path], output: Path
) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.start_charge("C", 1, TAG, 6)
    path = write(HEADER, f"A,1,{TAG},5", f"B,0,{TAG},5", f"C,1,{TAG},6")
    run("stop-many", path, "--output", output, "--skip-bad")
    assert [(row, line["line"]) for row, line in sorted(final(output).items())] == [(0, 2), (1, 4)]
