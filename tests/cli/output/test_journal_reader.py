"""Damaged lines of a journal: they are named, and `--repair` takes nothing in them for unsent."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.cli.conftest import Fleet, Run, Thor
from tests.cli.output.conftest import final, lines, refused, sent
from thor_async.cli.input.command_file import read_command_file

NUL = b"\0"


@pytest.fixture
def journal(thor: Thor, run: Run, fleet: Fleet, output: Path, throttled_ends: None) -> Path:
    """The journal of eight stops that were relayed, of which two are refused first."""
    path = fleet(8)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("TooManyRequests", chargebox="box-0")
    thor.emulator.script("TooManyRequests", chargebox="box-7")
    run("stop-many", path, "--output", output, "--max-in-flight", 1)
    return output


def make_hole(journal: Path, first: int, last: int, content: bytes = NUL) -> set[int]:
    """Overwrites lines from the middle of the first to that of the last.

    Returns the rows whose outcomes are lost.
    """
    rows = set(final(journal))
    texts = journal.read_bytes().splitlines(keepends=True)
    start = sum(map(len, texts[: first - 1])) + 20
    end = sum(map(len, texts[: last - 1])) + 60
    whole = journal.read_bytes()
    journal.write_bytes(whole[:start] + content * (end - start) + whole[end:])
    kept = texts[: first - 1] + texts[last:]
    return rows - {msgspec.json.decode(text).get("index") for text in kept}


@pytest.mark.parametrize(("first", "last"), [(3, 3), (3, 5), (2, 9)])
def test_a_hole_is_named_and_repair_takes_its_rows_for_maybe_sent(
    thor: Thor, run: Run, fleet: Fleet, journal: Path, first: int, last: int
) -> None:
    lost = make_hole(journal, first, last)
    before, requests = journal.read_bytes(), thor.requests
    path = fleet(8)
    result = run("stop-many", path, "--output", journal, "--resume")
    assert (result.status, result.out, thor.requests) == (2, "", requests)
    assert f"out.jsonl line {first}: " in result.err
    assert " NUL bytes in place of outcomes, as after a power failure: stop-many --re" in result.err
    assert journal.read_bytes() == before
    assert run("status", journal).status == 2
    assert run("stop-many", path, "--output", journal, "--resume", "--repair").status == 0
    known = final(journal)
    assert set(known) == set(range(8))
    for row, line in known.items():
        assert line["maybe_applied"] is (row in lost), row
        assert line["next_step"] == "done"
        assert sent(thor)[f"box-{row}"] == 1 + (row in lost or row in {0, 7})
    # The damage is known now, and every line is JSON.
    assert [line["damaged"] > 40 for line in lines(journal) if "damaged" in line] == [True]
    assert run("status", journal).status == 0
    assert run("stop-many", path, "--output", journal, "--resume").status == 0


def test_the_end_after_a_hole_proves_nothing(
    thor: Thor, run: Run, fleet: Fleet, journal: Path
) -> None:
    lost = make_hole(journal, 4, 5)
    assert b'"ended"' in journal.read_bytes().splitlines()[-1]
    run("stop-many", fleet(8), "--output", journal, "--resume", "--repair")
    assert all(final(journal)[row]["maybe_applied"] for row in lost)


def test_a_hole_between_two_runs_may_have_been_a_run(
    thor: Thor, run: Run, fleet: Fleet, journal: Path
) -> None:
    whole = journal.read_bytes()
    ended = whole.splitlines(keepends=True)[-1]
    journal.write_bytes(whole + NUL * 4096 + b"\n" + ended)
    run("stop-many", fleet(8), "--output", journal, "--resume", "--repair")
    assert {row for row, line in final(journal).items() if line["maybe_applied"]} == {0, 7}


def test_a_hole_at_the_end_needs_no_repair(
    thor: Thor, run: Run, fleet: Fleet, journal: Path
) -> None:
    texts = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(texts[:4]) + NUL * 4096)
    run("stop-many", fleet(8), "--output", journal, "--resume")
    maybe = {row for row, line in final(journal).items() if line["maybe_applied"]}
    assert len(maybe) == 5
    assert NUL not in journal.read_bytes()


def test_other_damage_can_be_repaired_too(
    thor: Thor, run: Run, fleet: Fleet, journal: Path
) -> None:
    lost = make_hole(journal, 4, 4, b"x")
    problem = run("stop-many", fleet(8), "--output", journal, "--resume").err
    assert "line 4: not a line of a journal: give the journal of this input; if this" in problem
    assert run("stop-many", fleet(8), "--output", journal, "--resume", "--repair").status == 0
    assert {row for row, line in final(journal).items() if line["maybe_applied"]} == lost


@pytest.mark.parametrize("more", [[], ["--repair"]])
def test_without_its_start_a_journal_cannot_be_repaired(
    thor: Thor, run: Run, fleet: Fleet, output: Path, more: list[str]
) -> None:
    output.write_bytes(NUL * 4096 + b'\n{"ended":"now"}\n')
    arguments = ("--output", output, "--resume", *more)
    assert "line 1: not a line of a journal" in refused(run, thor, fleet(1), *arguments)


def test_the_report_of_a_repaired_journal(
    thor: Thor, run: Run, fleet: Fleet, journal: Path, tmp_path: Path
) -> None:
    make_hole(journal, 3, 5)
    report = tmp_path / "report.html"
    more = ("--resume", "--repair", "--report", report, "--at-most", 9)
    assert run("stop-many", fleet(8), "--output", journal, *more).status == 0
    assert "to stop 8 charges of" in report.read_text()
