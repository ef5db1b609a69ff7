"""The category of a row, and its times: never better than what is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

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
from thor_async.cli.report.rows import CATEGORIES, ReportRow
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


def at(seconds: float) -> datetime:
    return datetime(2026, 1, 31, 18, 0, tzinfo=UTC) + timedelta(seconds=seconds)


TIMES: list[tuple[str, dict[str, object], float | None, float | None, float | None]] = [
    ("relayed", {"status": 200}, 7, 10, None),
    ("relayed", {}, 7, 10, None),  # of an older version, which wrote no status
    ("rejected", {"status": 400}, 7, 10, None),
    ("indeterminate", {"status": 500}, 7, 10, None),
    ("indeterminate", {}, 7, None, None),
    ("not_sent", {"attempts": 0}, None, None, None),
    ("relayed", {"state": "stopped", "answered_at": at(5)}, 2, 5, 10),
    ("relayed", {"state": "refused", "answered_at": at(5)}, 2, 5, 10),
    ("relayed", {"state": "still_running", "answered_at": at(5)}, 2, 5, 10),
    ("relayed", {"state": "unconfirmed", "answered_at": at(5)}, 2, 5, None),
    ("relayed", {"state": "stopped"}, None, None, 10),  # of an older version
]


@pytest.mark.parametrize(("verdict", "more", "asked", "answered", "proven"), TIMES)
def test_a_time_is_only_told_where_it_is_known(
    verdict: str,
    more: dict[str, object],
    asked: float | None,
    answered: float | None,
    proven: float | None,
) -> None:
    row = make_row(0, verdict, **{"at": at(10), "elapsed": 3.0, "attempts": 1} | more)
    expected = [None if seconds is None else at(seconds) for seconds in (asked, answered, proven)]
    assert [row.asked, row.answered, row.proven] == expected
