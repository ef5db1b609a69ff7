"""`--output`: what the journal holds after any end."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import (
    HEADER,
    PROCESS,
    Fleet,
    Run,
    Start,
    Thor,
    drop_first_outcome,
    finish,
)
from tests.cli.output.conftest import final, lines, outcomes, refused, sent
from tests.conftest import KEY, TAG
from thor_async import Confirmation, RejectedError, StopCharge, StopOutcome, Verdict
from thor_async._confirm.tracker import LATER_CHARGE
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.output import journal
from thor_async.cli.output.journal import Journal
from thor_async.cli.output.printable import encode_line
from thor_async.cli.stop_results import StopResult


def test_a_journal_has_a_start_a_line_for_each_row_and_an_end(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(20)
    thor.emulator.fill(read_command_file(str(path)))
    result = run("stop-many", path, "--output", output)
    start, *rows, end = lines(output)
    assert (result.status, result.out) == (0, "")
    assert start["input"] == read_command_file(str(path)).digest
    assert (start["rows"], start["address"]) == (20, thor.base_url)
    assert sorted(line["index"] for line in rows) == list(range(20))
    assert all(line["line"] == line["index"] + 2 for line in rows)
    assert {(line["verdict"], line["next_step"]) for line in rows} == {("relayed", "done")}
    assert end["ended"] >= rows[-1]["at"] >= start["started"]
    assert [file.name for file in output.parent.iterdir() if "out" in file.name] == ["out.jsonl"]
    assert TAG not in output.read_text()


def test_an_existing_file_is_not_overwritten(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    output.write_text("precious")
    assert "exists already: continue it with --resume" in refused(
        run, thor, fleet(1), "--output", output
    )
    assert output.read_text() == "precious"


def test_a_journal_that_is_missing_is_begun_by_resume(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(1)
    thor.emulator.fill(read_command_file(str(path)))
    result = run("stop-many", path, "--output", output, "--resume")
    assert (result.status, len(outcomes(output))) == (0, 1)
    assert result.err.startswith(f"thor-async: no journal at {output} yet: this run begins it\n")


@pytest.mark.parametrize("place", ["/dev/null", ".", "no/folder/out.jsonl"])
def test_a_path_that_cannot_be_a_journal(thor: Thor, run: Run, fleet: Fleet, place: str) -> None:
    assert place in refused(run, thor, fleet(1), "--output", place)


def test_the_start_is_on_the_disk_before_the_first_stop(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    synced: list[tuple[str, int, int]] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        fsync(fd)
        name = Path(f"/proc/self/fd/{fd}").resolve().name
        synced.append((name, os.fstat(fd).st_size, thor.requests))

    monkeypatch.setattr(os, "fsync", note)
    run("stop-many", path, "--output", output)
    monkeypatch.undo()
    content = output.read_bytes()
    start, end = content.index(b"\n") + 1, content.rindex(b'{"ended"')
    assert synced[0] == ("out.jsonl", start, 0)
    assert synced[1][0] == output.parent.name
    assert synced[1][2] == 0
    assert [size for _, size, _ in synced[2:]] == [end, len(content)]


def test_without_a_folder_sync_the_batch_runs(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def refuse_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    path = fleet(1)
    thor.emulator.fill(read_command_file(str(path)))
    monkeypatch.setattr(os, "fsync", refuse_folders)
    assert run("stop-many", path, "--output", output).status == 0


def test_a_start_that_cannot_reach_the_disk_sends_nothing(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    assert "Input/output error" in refused(run, thor, fleet(1), "--output", output)
    assert not list(output.parent.glob("out*"))


def test_a_second_process_is_refused(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    output.touch()
    reserve = output.with_name("out.jsonl.reserve")
    reserve.touch()
    with output.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another process is writing" in refused(run, thor, fleet(1), "--output", output)
    assert reserve.exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks(
    thor: Thor,
    run: Run,
    fleet: Fleet,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    assert refused(run, thor, path, "--output", output) == (
        f"thor-async: cannot lock {output} ({os.strerror(code)}): give an --output on a file "
        "system with locks, or --no-lock if no other process writes this one\n"
    )
    assert not list(output.parent.glob("out*"))
    assert run("stop-many", path, "--output", output, "--no-lock").status == 0
    before = output.read_bytes()
    assert run("stop-many", path, "--output", output, "--resume").status == 2
    assert output.read_bytes() == before


def test_no_lock_does_not_write_what_another_process_writes(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    output.touch()
    with output.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        problem = refused(run, thor, fleet(1), "--output", output, "--no-lock")
    assert "another process is writing" in problem


def test_a_journal_removed_before_the_lock_is_not_written(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(held: int, how: int) -> None:
        output.unlink()

    monkeypatch.setattr(fcntl, "flock", lock)
    assert "has just removed" in refused(run, thor, fleet(1), "--output", output)


def test_a_refused_batch_leaves_no_file(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    assert "--at-most" in refused(run, thor, fleet(2), "--output", output, "--at-most", 1)
    assert not output.exists()


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
    result = run("stop-many", path, "--output", output)
    monkeypatch.undo()
    assert result.status == 1
    assert "(No space left on device): free some space, then continue" in result.err
    assert reserved[0] > 4 * 32 * 2000  # room for all requests in flight
    rows = outcomes(output)
    assert 0 < len(rows) == thor.requests < 300
    assert "ended" in lines(output)[-1]
    monkeypatch.setenv("THOR_API_KEY", KEY)
    run("stop-many", path, "--output", output, "--resume", "--base-url", thor.base_url)
    assert set(sent(thor).values()) == {1}
    assert set(final(output)) == set(range(300))


def test_the_reserve_has_room_for_the_longest_line() -> None:
    long = "\U0001f600" * 200
    error = RejectedError(long, status=400, code=long)
    error.request_id = long
    command = StopCharge("A" * 100, 9, TAG, 2**63 - 1, ref="B" * 100)
    rejected = StopOutcome(command, 10**9, Verdict.REJECTED, error, 10**9, 1e9 / 3, True, long)
    confirmation = Confirmation("still_running", LATER_CHARGE, rejected, 10**9, energy=1e300)
    line = {"line": 10**9, **StopResult(rejected, confirmation).record(), "interrupted": True}
    assert 2048 < len(encode_line(line)) - 200 < journal._MAX_LINE


def limited(size: int) -> str:
    """Returns the code of a process whose files cannot have more than `size` bytes."""
    return f"from resource import *\nsetrlimit(RLIMIT_FSIZE, ({size}, {size}))\n{PROCESS}"


def test_a_limit_on_the_file_size_ends_the_dispatch_in_time(
    thor: Thor, start: Start, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(300)
    thor.emulator.fill(read_command_file(str(path)))
    arguments = ("stop-many", path, "--output", output)
    result = finish(start(*arguments, "--max-in-flight", 1, code=limited(60_000)))
    assert result.status == 1
    assert "(File too large)" in result.err
    assert 0 < len(outcomes(output)) == thor.requests < 300
    assert run(*arguments, "--resume").status == 0
    assert set(sent(thor).values()) == {1}


def test_no_room_at_the_start_sends_nothing(
    thor: Thor, start: Start, fleet: Fleet, output: Path
) -> None:
    result = finish(start("stop-many", fleet(3), "--output", output, code=limited(100)))
    assert (result.status, thor.requests) == (2, 0)
    assert "cannot write" in result.err
    assert not list(output.parent.glob("out*"))


def test_an_output_that_fails_ends_the_dispatch(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(300)
    thor.emulator.fill(read_command_file(str(path)))

    def write(self: Journal, line: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Journal, "write", write)
    result = run("stop-many", path, "--output", output)
    assert result.status == 1
    assert "cannot write the output (Input/output error)" in result.err
    assert thor.requests <= 128


@pytest.mark.parametrize("lost", [1, 5])
def test_without_every_outcome_the_journal_does_not_say_ended(
    thor: Thor,
    run: Run,
    write: Callable[..., Path],
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: int,
) -> None:
    path = write(HEADER, *(f"box-{n},1,{TAG},{n + 1}" for n in range(20)))
    thor.emulator.fill(read_command_file(str(path)))
    written = Journal.write
    count = 0

    def fill_up(self: Journal, line: bytes) -> None:
        nonlocal count
        count += 1
        if 10 < count <= 10 + lost:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(self, line)

    arguments = ("stop-many", path, "--output", output, "--max-in-flight", 4)
    monkeypatch.setattr(Journal, "write", fill_up)
    result = run(*arguments)
    monkeypatch.undo()
    assert result.status == 1
    assert not any("ended" in line for line in lines(output))
    applied = {
        request.command.chargebox
        for request in thor.emulator.ledger.requests
        if request.command and request.effect is not None
    }
    known = {line["chargebox"] for line in outcomes(output)}
    assert applied > known
    monkeypatch.setenv("THOR_API_KEY", KEY)
    run(*arguments, "--resume", "--base-url", thor.base_url)
    codes = {line["chargebox"]: line["code"] for line in final(output).values()}
    assert {codes[chargebox] for chargebox in applied - known} == {"NotInTransaction"}
    for line in final(output).values():
        assert line["maybe_applied"] or line["verdict"] == "relayed"


def test_a_lost_outcome_leaves_the_journal_open(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(10)
    thor.emulator.fill(read_command_file(str(path)))
    drop_first_outcome(monkeypatch)
    assert run("stop-many", path, "--output", output).status == 1
    assert "ended" not in lines(output)[-1]
