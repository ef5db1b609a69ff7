"""The rows of an output with and without crashes, and the history of all its lines."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import msgspec

from tests.cli.conftest import Fleet
from thor_async.cli.input.command_file import CommandFile, read_command_file
from thor_async.cli.report.journal_rows import ReportRows
from thor_async.cli.report.page import write_report
from thor_async.cli.report.views import ReportHeader

from .samples import make_row, write_page


def make_output(*lines: dict[str, object]) -> io.BytesIO:
    return io.BytesIO(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


START: dict[str, object] = {"journal": 1, "input": "d1ge57", "rows": 4}
END: dict[str, object] = {"ended": "2026-01-31T18:00:00.000Z"}


def outcome(index: int, verdict: str, **more: object) -> dict[str, object]:
    row: dict[str, object] = msgspec.to_builtins(make_row(index, verdict, **more))
    return row


def categories(command_file: CommandFile, *lines: dict[str, object], **settings: bool) -> list[str]:
    return [row.category for row in ReportRows(make_output(*lines), command_file, **settings)]


def test_rows_without_a_line(fleet: Fleet) -> None:
    command_file = read_command_file(str(fleet(4)))
    relayed, throttled = outcome(0, "relayed"), outcome(1, "rejected", next_step="resend")
    run = START, relayed, throttled
    assert categories(command_file) == ["not_sent"] * 4
    assert categories(command_file, *run, END) == ["relayed", "refused", "not_sent", "not_sent"]
    # A run without an end crashed: it may have sent what has no outcome of it.
    assert categories(command_file, *run) == ["relayed", "refused", "unknown", "unknown"]
    crashed = *run, END, START, outcome(2, "not_sent")
    assert categories(command_file, *crashed) == ["relayed", "unknown", "not_sent", "unknown"]
    later = *crashed, START, END
    assert categories(command_file, *later) == ["relayed", "unknown", "not_sent", "unknown"]


def test_outcomes_that_could_not_be_written_are_unknown(fleet: Fleet) -> None:
    command_file = read_command_file(str(fleet(2)))
    relayed = outcome(0, "relayed")
    assert categories(command_file, relayed) == ["relayed", "not_sent"]
    assert categories(command_file, relayed, all_written=False) == ["relayed", "unknown"]
    [_, row] = ReportRows(make_output(relayed), command_file, all_written=False)
    assert row.message == "the run ended before its outcome was written"
    assert row.next_step == "resend"  # with its transaction a repeat is safe
    assert row.maybe_applied


def test_an_incomplete_last_line_is_left_out(fleet: Fleet) -> None:
    command_file = read_command_file(str(fleet(2)))
    output = make_output(START, outcome(0, "relayed"), outcome(1, "relayed"))
    cut = io.BytesIO(output.getvalue()[:-5])
    assert [row.category for row in ReportRows(cut, command_file)] == ["relayed", "unknown"]


def test_the_history_has_every_run_and_every_outcome(fleet: Fleet) -> None:
    command_file = read_command_file(str(fleet(2)))
    first = START | {"run": "one", "operator": "Nadia", "started": "2026-01-31T18:00:00.000Z"}
    output = make_output(
        first,
        outcome(0, "not_sent", at="2026-01-31T18:00:01.000Z"),
        END | {"failure": "interrupted"},
        START | {"run": "two"},
        {"damaged": 17},
        outcome(0, "relayed", at="2026-01-31T18:00:09.000Z"),
        outcome(1, "relayed", at="2026-01-31T18:00:10.000Z"),
    )
    history = ReportRows(output, command_file).history
    assert [run.run for run in history.runs] == ["one", "two"]
    assert [run.outcomes for run in history.runs] == [1, 2]
    assert [run.failure for run in history.runs] == ["interrupted", None]
    assert history.runs[0].operator == "Nadia"
    assert history.ended is None  # the second run crashed
    assert [category for _, category in history.outcomes] == ["not_sent", "relayed", "relayed"]


def measure_peak(fleet: Fleet, page: Path, count: int) -> int:
    """Returns the most bytes in memory while a report of `count` rows is written."""
    command_file = read_command_file(str(fleet(count)))
    output = make_output(START, *(outcome(n, "relayed", message="x" * 200) for n in range(count)))
    header = ReportHeader("fleet.csv", "d1ge57", "https://thor.example", count, 0, None)
    tracemalloc.start()
    rows = ReportRows(output, command_file)
    write_report(str(page), header, rows, rows.history)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert page.stat().st_size > count * 600
    return peak


def test_a_report_is_written_row_by_row(fleet: Fleet, tmp_path: Path) -> None:
    page = tmp_path / "stop.html"
    write_page(page, [make_row(0)])  # what is imported once does not count
    small, large = (measure_peak(fleet, page, count) for count in (1000, 4000))
    assert large - small < 3000 * 100


def test_rows_can_be_read_in_any_order(fleet: Fleet) -> None:
    command_file = read_command_file(str(fleet(3)))
    rows = ReportRows(make_output(START, *(outcome(n, "relayed") for n in (2, 0, 1))), command_file)
    assert len(rows) == 3
    assert [rows[n].index for n in (1, 2, 0)] == [1, 2, 0]
    assert [row.index for row in rows] == [0, 1, 2]
