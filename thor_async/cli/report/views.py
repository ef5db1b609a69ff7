"""The texts of the page: its head, its sentence about the result, and each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from .groups import ref_columns
from .history import History, Run
from .rows import CATEGORIES, ReportRow

_UNKNOWN = "not recorded"


class ReportHeader(NamedTuple):
    """The input of a batch, and why it ended early, if it did.

    `left_out_rows` are the rows that could not be used, `duplicate_lines` those that repeat another
    row.
    """

    name: str
    digest: str
    address: str
    charges: int
    left_out: int
    failure: str | None
    left_out_rows: Sequence[tuple[int, str]] = ()
    duplicate_lines: Sequence[int] = ()


class RowView(NamedTuple):
    """The texts of one row of the page."""

    line: int
    category: str
    label: str
    chargebox: str
    connector: int
    transaction: int | None
    refs: str
    details: str
    next_step: str
    asked: str
    answered: str
    proven: str
    attempts: int
    verdict: str
    code: str
    request_id: str
    energy: str


def make_row_view(row: ReportRow, zone: timezone) -> RowView:
    return RowView(
        line=row.line,
        category=row.category,
        label=CATEGORIES[row.category].label,
        chargebox=row.chargebox,
        connector=row.connector,
        transaction=row.transaction,
        refs=", ".join(f"{name}: {value}" for name, value in ref_columns(row.ref)),
        details=describe_details(row),
        next_step="" if row.next_step == "done" else row.next_step,
        asked=format_time(row.asked, zone),
        answered=format_time(row.answered, zone),
        proven=format_time(row.proven, zone),
        attempts=row.attempts,
        verdict=row.verdict,
        code=describe_code(row),
        request_id=row.request_id or "",
        energy=format_energy(row.energy),
    )


def describe_details(row: ReportRow) -> str:
    """Returns what happened: the message, the evidence, and what may have been sent before."""
    maybe = "may have been applied" if row.maybe_applied else None
    sent = f"{row.stops_sent:,} stops sent" if row.stops_sent > 1 else None
    return "; ".join(filter(None, [row.message, row.evidence, maybe, sent]))


def describe_code(row: ReportRow) -> str:
    """Returns Thor's code, else the reason, with the HTTP status if there was an answer."""
    parts = (row.code or row.reason, None if row.status is None else str(row.status))
    return " ".join(filter(None, parts))


def format_energy(energy: float | None) -> str:
    return "" if energy is None else f"{energy:.12g}"


def format_time(at: datetime | None, zone: timezone) -> str:
    """Returns the time in a zone without its name, to milliseconds; empty for None."""
    if at is None:
        return ""
    return at.astimezone(zone).isoformat(" ", "milliseconds")[:23]


def format_span(span: timedelta) -> str:
    """Returns a duration as `1 h 02 min 03.4 s`."""
    minutes, seconds = divmod(span.total_seconds(), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours:,} h {minutes:02} min {seconds:02.0f} s"
    return f"{minutes} min {seconds:04.1f} s" if minutes else f"{seconds:.1f} s"


def make_title(header: ReportHeader, counts: Counter[str]) -> str:
    """Returns the result in a few words."""
    still, total = _count_open(counts), counts.total()
    left_out = f", {_count_rows(header.left_out)} left out" if header.left_out else ""
    return f"{still:,} of {total:,} may still be charging{left_out}"


def make_sentence(header: ReportHeader, counts: Counter[str]) -> str:
    """Returns the result in one sentence: what may still be charging, and what is over."""
    still, total = _count_open(counts), counts.total()
    charges = "1 charge" if total == 1 else f"{total:,} charges"
    over, verb = total - still, "is" if total - still == 1 else "are"
    sentence = (
        f"Of {charges}, {still:,} may still be charging{_list(counts, is_over=False)}, and "
        f"{over:,} {verb} known to be over{_list(counts, is_over=True)}"
    )
    if header.left_out:
        were = "was" if header.left_out == 1 else "were"
        sentence += f". {_count_rows(header.left_out)} {were} left out, and may still be charging"
    return f"{sentence}."


def make_head(header: ReportHeader, history: History) -> list[tuple[str, str]]:
    """Returns the names and values of the head: what was asked, by whom, where and when."""
    run = history.runs[-1] if history.runs else Run()
    zone = history.zone
    began, ended = history.began, history.ended
    duration = _UNKNOWN if began is None or ended is None else format_span(ended - began)
    return [
        ("Asked for", f"to stop {header.charges:,} charges of {header.name}"),
        ("Operator", run.operator or _UNKNOWN),
        ("Machine", run.machine or _UNKNOWN),
        ("Began", _with_zone(began, zone)),
        ("Ended", _with_zone(ended, zone)),
        ("Duration", duration),
        ("Stops sent to", header.address),
        ("Lists read from", run.lists or _UNKNOWN),
        ("Version", f"thor-async {run.version}" if run.version else _UNKNOWN),
        ("Run", run.run or _UNKNOWN),
        ("Command", run.command or _UNKNOWN),
        ("SHA-256 of the input", header.digest),
    ]


def make_run_views(history: History) -> list[dict[str, str]]:
    """Returns the texts of each run, if there was more than one."""
    zone = history.zone
    return [
        {
            "run": run.run or _UNKNOWN,
            "operator": run.operator or _UNKNOWN,
            "machine": run.machine or _UNKNOWN,
            "began": format_time(run.started, zone) or _UNKNOWN,
            "ended": format_time(run.ended, zone) or "no end was written",
            "outcomes": f"{run.outcomes:,}",
            "failure": run.failure or "",
            "command": run.command or _UNKNOWN,
        }
        for run in (history.runs if len(history.runs) > 1 else [])
    ]


def _with_zone(at: datetime | None, zone: timezone) -> str:
    return f"{format_time(at, zone)} {zone}" if at else _UNKNOWN


def _count_rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _count_open(counts: Counter[str]) -> int:
    return sum(count for category, count in counts.items() if not CATEGORIES[category].is_over)


def _list(counts: Counter[str], *, is_over: bool) -> str:
    """Returns the categories as ` (5 refused, 1 unknown)`."""
    parts = [
        f"{counts[name]:,} {category.label}"
        for name, category in CATEGORIES.items()
        if counts[name] and category.is_over == is_over
    ]
    return f" ({'; '.join(parts)})" if parts else ""
