"""`--output`: what the journal holds after any end."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tests.cli.conftest import PROCESS, Fleet, Run, Start, Thor, finish
from tests.cli.output.conftest import final, lines, outcomes, refused, sent
from tests.conftest import KEY, TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.output.journal import Journal


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


def test_a_journal_that_is_missing_is_not_begun_by_resume(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    error = refused(run, thor, fleet(1), "--output", output, "--resume")
    assert error.endswith("leave --resume out to begin one\n")
    assert not output.exists()


@pytest.mark.parametrize("place", ["/dev/null", ".", "no/folder/out.jsonl"])
def test_a_path_that_cannot_be_a_journal(thor: Thor, run: Run, fleet: Fleet, place: str) -> None:
    assert place in refused(run, thor, fleet(1), "--output", place)


def test_a_second_process_is_refused(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    output.touch()
    reserve = output.with_name("out.jsonl.reserve")
    reserve.touch()
    with output.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another process is writing" in refused(run, thor, fleet(1), "--output", output)
    assert reserve.exists()


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
