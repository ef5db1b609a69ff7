"""The copy of standard input beside the journal: a batch from a pipe can be resumed."""

from __future__ import annotations

import io
import stat
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CommandOutput, Fleet, Run, Thor
from tests.cli.output.conftest import final, refused, sent
from thor_async.cli.input.command_file import read_command_file


def run_with_input(
    run: Run, monkeypatch: pytest.MonkeyPatch, content: bytes, *arguments: object
) -> CommandOutput:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return run("stop-many", *arguments)


@pytest.fixture
def kept(output: Path) -> Path:
    return output.with_name("out.jsonl.input")


@pytest.mark.usefixtures("throttled_ends")
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("file", [[], ["-"]])
def test_a_batch_from_a_pipe_is_resumed_without_its_input(
    thor: Thor,
    run: Run,
    fleet: Fleet,
    output: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    mark: bytes,
    file: list[str],
) -> None:
    path = fleet(3)
    content = mark + path.read_bytes()
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("TooManyRequests")
    assert run_with_input(run, monkeypatch, content, "-", "--output", output).status == 1
    assert kept.read_bytes() == content
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    result = run_with_input(
        run, monkeypatch, b"" if file else b"another input", *file, "--resume", "--output", output
    )
    assert result.status == 0
    assert sorted(sent(thor).values()) == [1, 1, 2]
    assert set(final(output)) == {0, 1, 2}
    assert sorted(found.name for found in output.parent.glob("out*")) == [output.name, kept.name]


def test_a_file_is_not_copied(thor: Thor, run: Run, fleet: Fleet, output: Path, kept: Path) -> None:
    path = fleet(1)
    run("stop-many", path, "--output", output)
    assert not kept.exists()
    output.unlink()
    kept.write_text("of a journal that was removed")
    error = refused_after_one(run, thor, "--resume", "--output", output)
    assert f"no input at {kept}: give the input of the journal as FILE" in error


def refused_after_one(run: Run, thor: Thor, *arguments: object) -> str:
    before = thor.requests
    result = run("stop-many", *arguments)
    assert (result.status, result.out, thor.requests) == (2, "", before)
    return result.err


def test_a_copy_of_another_input_is_refused(
    thor: Thor, run: Run, fleet: Fleet, output: Path, kept: Path
) -> None:
    digest = read_command_file(str(fleet(1))).digest
    output.write_text(f'{{"input":"{digest}","rows":1}}\n')
    kept.write_bytes(fleet(2).read_bytes())
    assert "journal of another input" in refused(run, thor, "--resume", "--output", output)


def test_without_resume_the_file_is_needed(thor: Thor, run: Run) -> None:
    assert "give FILE: only --resume knows" in refused(run, thor)


def test_other_rows_from_a_pipe_are_not_taken_for_the_kept_ones(
    thor: Thor, run: Run, fleet: Fleet, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = fleet(3).read_bytes(), fleet(5).read_bytes()
    assert run_with_input(run, monkeypatch, first, "-", "--output", output).status in {0, 1, 3}
    before = thor.requests
    result = run_with_input(run, monkeypatch, other, "-", "--resume", "--output", output)
    assert (result.status, thor.requests) == (2, before)
    assert "another input" in result.err


def test_a_file_that_is_no_copy_is_not_overwritten(
    thor: Thor,
    run: Run,
    fleet: Fleet,
    output: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept.write_text("old")
    kept.chmod(0o644)
    content = fleet(1).read_bytes()
    arguments = ("-", "--output", output, "--resume")
    result = run_with_input(run, monkeypatch, content, *arguments)
    assert (result.status, kept.read_text(), thor.requests) == (2, "old", 0)
    assert "out.jsonl.input exists already" in result.err
    # A crash may leave the copy without a journal.
    kept.write_bytes(content)
    run_with_input(run, monkeypatch, content, *arguments)
    assert kept.read_bytes() == content
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
