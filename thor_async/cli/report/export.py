"""The rows of a report as CSV, which the page offers to save."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from ..output.csv_rows import format_csv
from ..output.printable import printable
from .groups import ref_columns
from .rows import CATEGORIES, ReportRow

_COLUMNS = (
    *("line", "known", "chargebox", "connector", "transaction", "verdict", "code", "status"),
    *("message", "state", "evidence", "asked", "answered", "proven", "attempts", "stops_sent"),
    *("maybe_applied", "request_id", "energy_wh", "next_step"),
)


def find_ref_columns(rows: Iterable[ReportRow]) -> list[str]:
    """Returns the names of all columns of the refs, in the order of their first use."""
    return list(dict.fromkeys(name for row in rows for name, _ in ref_columns(row.ref)))


def format_rows(
    rows: Iterable[ReportRow], ref_names: Iterable[str], zone: timezone
) -> Iterator[str]:
    """Yields a header, then a line for each row; no spreadsheet takes a cell for a formula."""
    columns = [*_COLUMNS, *map(_ref_column, ref_names)]
    return format_csv(columns, (_make_cells(row, zone) for row in rows))


def _make_cells(row: ReportRow, zone: timezone) -> dict[str, Any]:
    cells = {name: getattr(row, name, None) for name in _COLUMNS} | {
        "known": CATEGORIES[row.category].label,
        "code": row.code or row.reason,
        "asked": _format_time(row.asked, zone),
        "answered": _format_time(row.answered, zone),
        "proven": _format_time(row.proven, zone),
        "maybe_applied": "yes" if row.maybe_applied else "no",
        "energy_wh": row.energy,
    }
    cells |= {_ref_column(name): value for name, value in ref_columns(row.ref)}
    return {name: _make_printable(cell) for name, cell in cells.items()}


def _make_printable(cell: Any) -> Any:
    return printable(cell) if isinstance(cell, str) else cell


def _ref_column(name: str) -> str:
    return printable(f"ref {name}" if name in _COLUMNS else name)


def _format_time(at: datetime | None, zone: timezone) -> str | None:
    return None if at is None else at.astimezone(zone).isoformat(timespec="milliseconds")
