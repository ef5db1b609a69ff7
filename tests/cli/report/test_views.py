"""The texts of the page: the head, the sentence about the result, and the rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from thor_async.cli.report.history import History, Run
from thor_async.cli.report.views import (
    ReportHeader,
    format_span,
    format_time,
    make_head,
    make_row_view,
    make_run_views,
    make_sentence,
    make_title,
)

from .samples import make_row

BEGAN = datetime(2026, 1, 31, 18, 0, tzinfo=UTC)
RUN = Run(
    started=BEGAN,
    run="a1b2c3",
    operator="Nadia",
    machine="ops-7",
    command="thor-async stop-many fleet.csv",
    version="0.1.0",
    lists="https://lists.example",
    ended=BEGAN + timedelta(seconds=83.5),
)


def header(left_out: int = 0) -> ReportHeader:
    return ReportHeader("fleet.csv", "d1ge57", "https://thor.example", 8, left_out, None)


@pytest.fixture
def kathmandu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "NPT-5:45")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("kathmandu")
def test_the_head_says_who_asked_for_what_where_and_when() -> None:
    history = History()
    history.runs = [RUN]
    assert dict(make_head(header(), history)) == {
        "Asked for": "to stop 8 charges of fleet.csv",
        "Operator": "Nadia",
        "Machine": "ops-7",
        "Began": "2026-01-31 23:45:00.000 UTC+05:45",
        "Ended": "2026-01-31 23:46:23.500 UTC+05:45",
        "Duration": "1 min 23.5 s",
        "Stops sent to": "https://thor.example",
        "Lists read from": "https://lists.example",
        "Version": "thor-async 0.1.0",
        "Run": "a1b2c3",
        "Command": "thor-async stop-many fleet.csv",
        "SHA-256 of the input": "d1ge57",
    }
    assert make_run_views(history) == []


def test_an_older_journal_tells_less() -> None:
    head = dict(make_head(header(), History()))
    unknown = {name for name, value in head.items() if value == "not recorded"}
    assert unknown >= {"Operator", "Machine", "Command", "Run", "Began", "Ended", "Duration"}


def test_every_run_is_told_where_there_are_several() -> None:
    history = History()
    history.runs = [Run(failure="interrupted", outcomes=3), RUN]
    first, second = make_run_views(history)
    assert (first["failure"], first["outcomes"]) == ("interrupted", "3")
    assert first["ended"] == "no end was written"
    assert second["operator"] == "Nadia"
    assert dict(make_head(header(), history))["Run"] == "a1b2c3"


SENTENCES = [
    ({"stopped": 8}, 0, "Of 8 charges, 0 may still be charging, and 8 are known to be over "
     "(8 stopped)."),
    ({"stopped": 1, "refused": 5, "relayed": 2}, 0, "Of 8 charges, 7 may still be charging "
     "(5 refused; 2 relayed, not looked at), and 1 is known to be over (1 stopped)."),
    ({"not_sent": 1}, 1, "Of 1 charge, 1 may still be charging (1 not sent), and 0 are known to be "
     "over. 1 row was left out, and may still be charging."),
]  # fmt: skip


@pytest.mark.parametrize(("counts", "left_out", "sentence"), SENTENCES)
def test_the_result_in_a_sentence(counts: dict[str, int], left_out: int, sentence: str) -> None:
    assert make_sentence(header(left_out), Counter(counts)) == sentence


def test_the_title_counts_rows_that_were_left_out() -> None:
    counts = Counter({"stopped": 1})
    assert make_title(header(), counts) == "0 of 1 may still be charging"
    assert make_title(header(1_234), counts).endswith(", 1,234 rows left out")


def test_a_row_has_all_that_is_known() -> None:
    row = make_row(
        7,
        "rejected",
        at=BEGAN + timedelta(seconds=3),
        elapsed=1.25,
        attempts=2,
        status=400,
        code="WrongTransaction",
        message="Thor answered 400",
        request_id="4d5a",
        transaction=52,
        energy=12345.5,
        ref={"site": "Harbour", "rows": [1]},
        next_step="fix",
        maybe_applied=True,
        stops_sent=1_234,
    )
    assert make_row_view(row, timezone(timedelta(hours=-3)))._asdict() == {
        "line": 9,
        "category": "unknown",
        "label": "unknown",
        "chargebox": "box-7",
        "connector": 1,
        "transaction": 52,
        "refs": "site: Harbour, rows: [1]",
        "details": "Thor answered 400; may have been applied; 1,234 stops sent",
        "next_step": "fix",
        "asked": "2026-01-31 15:00:01.750",
        "answered": "2026-01-31 15:00:03.000",
        "proven": "",
        "attempts": 2,
        "verdict": "rejected",
        "code": "WrongTransaction 400",
        "request_id": "4d5a",
        "energy": "12345.5",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (83.5, "1 min 23.5 s"), (7384, "2 h 03 min 04 s")],
)
def test_a_duration(seconds: float, text: str) -> None:
    assert format_span(timedelta(seconds=seconds)) == text


def test_no_time_is_empty() -> None:
    assert format_time(None, UTC) == ""
