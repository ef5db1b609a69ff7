"""The CSV of a report: all that is known of a row, and no formula."""

from __future__ import annotations

import csv
from datetime import timedelta, timezone

from thor_async.cli.report.export import find_ref_columns, format_rows
from thor_async.cli.report.rows import ReportRow

from .samples import make_row


def read(*rows: ReportRow) -> list[dict[str, str]]:
    zone = timezone(timedelta(hours=1))
    return list(csv.DictReader(format_rows(rows, find_ref_columns(rows), zone)))


def test_a_line_has_all_that_is_known() -> None:
    row = make_row(
        0,
        at="2026-01-31T18:00:10.000Z",
        answered_at="2026-01-31T18:00:05.000Z",
        elapsed=1.0,
        attempts=1,
        status=200,
        request_id="4d5a",
        state="stopped",
        evidence="seen",
        energy=12.5,
        ref={"site": "Harbour", "state": "Liguria"},
    )
    [line] = read(row)
    assert line["known"] == line["state"] == "stopped"
    assert line["asked"] == "2026-01-31T19:00:04.000+01:00"
    assert line["answered"] == "2026-01-31T19:00:05.000+01:00"
    assert line["proven"] == "2026-01-31T19:00:10.000+01:00"
    assert (line["attempts"], line["status"], line["request_id"]) == ("1", "200", "4d5a")
    assert (line["energy_wh"], line["evidence"], line["maybe_applied"]) == ("12.5", "seen", "no")
    assert (line["site"], line["ref state"]) == ("Harbour", "Liguria")


def test_no_cell_is_a_formula() -> None:
    evil = '=HYPERLINK("http://evil.example")'
    [line] = read(make_row(0, "rejected", message=evil, code="+1", ref={"-x": "@SUM(A1)"}))
    assert line["message"] == f"'{evil}"
    assert line["code"] == "'+1"
    assert line["'-x"] == "'@SUM(A1)"


def test_rows_with_different_refs_share_the_columns() -> None:
    first, second = read(make_row(0, ref={"a": "1"}), make_row(1, ref={"b": "2"}))
    assert (first["a"], first["b"], second["a"], second["b"]) == ("1", "", "", "2")
