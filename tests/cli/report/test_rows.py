"""The category of a row, and the rows of an output with and without crashes."""

from __future__ import annotations

import io

import msgspec
import pytest

from tests.cli.conftest import Fleet
from tests.conftest import TAG
from thor_async import (
    APIKeyNotFound,
    ChargeboxNotFound,
    Confirmation,
    NotInTransaction,
    NotSentError,
    ServerError,
    StopCharge,
    StopOutcome,
    ThorError,
    Verdict,
)
from thor_async.cli.input.command_file import CommandFile, read_command_file
from thor_async.cli.report.rows import CATEGORIES, ReportRow, ReportRows
from thor_async.cli.stop_results import StopResult

from .samples import ROWS, make_row


@pytest.mark.parametrize(("category", "verdict", "more"), ROWS)
def test_the_category_of_a_row_is_never_better_than_what_is_known(
    category: str, verdict: str, more: dict[str, object]
) -> None:
    row = make_row(0, verdict, **more)
    assert row.category == category
    assert row.may_still_charge is (category not in {"stopped", "over"})


def stop_outcome(error: ThorError | None, *, maybe_applied: bool = False) -> StopOutcome:
    verdict = Verdict.RELAYED if error is None else error.verdict
    return StopOutcome(StopCharge("A", 1, TAG, 7), 0, verdict, error, 1, 0.1, maybe_applied)


IDLE = NotInTransaction("no", status=400, code="NotInTransaction")
THOR_IS_UP_AND_FAILS = ServerError("no", status=500, code="NotInTransaction")
RELAYED = stop_outcome(None)
RESULTS: list[tuple[str, StopResult]] = [
    ("relayed", StopResult(RELAYED)),
    ("relayed", StopResult(RELAYED, may_have_been_sent=True)),
    ("over", StopResult(stop_outcome(IDLE))),
    ("over", StopResult(stop_outcome(IDLE), may_have_been_sent=True)),
    ("over", StopResult(stop_outcome(NotSentError("no", reason="not_running")))),
    ("not_sent", StopResult(stop_outcome(NotSentError("no", reason="expired")))),
    ("not_sent", StopResult(stop_outcome(NotSentError("no", reason="pin")))),
    ("unknown", StopResult(stop_outcome(NotSentError("no")), may_have_been_sent=True)),
    ("refused", StopResult(stop_outcome(ChargeboxNotFound("no", status=404)))),
    ("refused", StopResult(stop_outcome(APIKeyNotFound("no", status=403)))),
    ("unknown", StopResult(stop_outcome(APIKeyNotFound("no", status=403), maybe_applied=True))),
    ("unknown", StopResult(stop_outcome(THOR_IS_UP_AND_FAILS, maybe_applied=True))),
    ("stopped", StopResult(RELAYED, Confirmation("stopped", "seen", RELAYED))),
    ("still_running", StopResult(RELAYED, Confirmation("still_running", "seen", RELAYED, 3))),
    ("refused", StopResult(RELAYED, Confirmation("refused", "seen", RELAYED))),
    ("unknown", StopResult(RELAYED, Confirmation("unconfirmed", "no list", RELAYED))),
]


@pytest.mark.parametrize(("category", "result"), RESULTS)
def test_a_result_has_its_category_after_it_was_written(category: str, result: StopResult) -> None:
    line = msgspec.json.encode({"line": 2, **result.record()})
    assert msgspec.json.decode(line, type=ReportRow).category == category


def test_there_is_a_row_of_every_category() -> None:
    assert {category for category, _, _ in ROWS} == CATEGORIES.keys()


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
