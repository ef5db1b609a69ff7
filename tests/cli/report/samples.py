"""Rows of every category, and pages of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from thor_async.cli.report.history import History, Run
from thor_async.cli.report.page import write_report
from thor_async.cli.report.rows import ReportRow
from thor_async.cli.report.views import ReportHeader

EVIL = "</script><script>document.title='evil'</script><img src=http://evil.example/>&\"'"


def make_row(index: int, verdict: str = "relayed", **more: object) -> ReportRow:
    step = {"relayed": "done", "not_sent": "resend"}.get(verdict, "check")
    line = {"line": index + 2, "index": index, "chargebox": f"box-{index}", "connector": 1}
    return msgspec.convert(line | {"verdict": verdict, "next_step": step} | more, ReportRow)


WORD: dict[str, object] = {"code": "NotInTransaction", "next_step": "done"}

ROWS: list[tuple[str, str, dict[str, object]]] = [
    ("stopped", "relayed", {"state": "stopped"}),
    ("stopped", "not_sent", {"state": "stopped", "next_step": "done"}),
    ("stopped", "rejected", {"state": "stopped", **WORD}),
    ("over", "rejected", WORD),
    ("over", "rejected", {"maybe_applied": True, **WORD}),
    ("over", "rejected", {"state": "unconfirmed", **WORD}),
    ("over", "not_sent", {"next_step": "done"}),
    ("over", "not_sent", {"state": "unconfirmed", "next_step": "done"}),
    ("still_running", "relayed", {"state": "still_running", "next_step": "check"}),
    ("still_running", "rejected", {"state": "still_running", "code": "NotInTransaction"}),
    ("refused", "relayed", {"state": "refused", "next_step": "check"}),
    ("refused", "rejected", {"code": "ChargeboxNotFound", "next_step": "fix"}),
    ("refused", "rejected", {"code": "WrongTransaction", "next_step": "fix"}),
    ("refused", "rejected", {"state": "unconfirmed", "next_step": "fix"}),
    ("refused", "rejected", {"code": "TooManyRequests", "next_step": "resend"}),
    ("unknown", "indeterminate", {"next_step": "resend"}),
    ("unknown", "indeterminate", {"state": "unconfirmed"}),
    ("unknown", "indeterminate", WORD),
    ("unknown", "relayed", {"state": "unconfirmed", "next_step": "check"}),
    ("unknown", "rejected", {"maybe_applied": True, "code": "WrongTransaction"}),
    ("unknown", "rejected", {"maybe_applied": True, "next_step": "resend"}),
    ("unknown", "not_sent", {"maybe_applied": True}),
    ("unknown", "a verdict of a later version", {"next_step": "done"}),
    ("relayed", "relayed", {}),
    ("relayed", "relayed", {"maybe_applied": True}),
    ("not_sent", "not_sent", {}),
    ("not_sent", "not_sent", {"state": "unconfirmed"}),
    ("not_sent", "not_sent", {"next_step": "fix"}),
]


def write_page(
    page: Path,
    rows: list[ReportRow],
    *,
    failure: str | None = None,
    left_out: int = 0,
    left_out_rows: Sequence[tuple[int, str]] = (),
    runs: Sequence[Run] = (),
) -> None:
    """Writes a report of these rows."""
    history = History.from_rows(rows)
    history.runs = list(runs)
    header = ReportHeader(
        "fleet.csv",
        "d1ge57" * 10 + "d1ge",
        "https://thor.example",
        len(rows),
        left_out,
        failure,
        left_out_rows,
    )
    write_report(str(page), header, rows, history)
