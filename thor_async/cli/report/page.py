"""The report of a batch: one HTML page that loads nothing else."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..output.console import ADVICE
from ..output.printable import printable
from ..output.timestamps import utc_timestamp
from .rows import CATEGORIES, ReportRow
from .timeline import draw_timeline

_MAX_GROUPS = 500
_CHUNK = 50


class ReportHeader(NamedTuple):
    """The input of a batch, and why it ended early, if it did."""

    name: str
    digest: str
    address: str
    charges: int
    left_out: int
    failure: str | None


def check_report_path(path: str) -> None:
    """Raises UsageError if no report can be written to `path`."""
    if Path(path).suffix != ".html":
        # Another name is probably that of a file that must not be overwritten.
        raise UsageError(f"--report {path}: give it a name that ends with .html")
    folder = Path(path).parent
    if Path(path).is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: give --report a file in a writable folder")


def write_report(path: str, header: ReportHeader, rows: Iterable[ReportRow]) -> None:
    """Writes the page as a whole, or raises OSError. Iterates `rows` several times."""
    part = Path(f"{path}.part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{piece}\n" for piece in _draw_page(header, rows))
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _draw_page(header: ReportHeader, rows: Iterable[ReportRow]) -> Iterator[str]:
    counts = Counter(row.category for row in rows)
    over = sum(count for category, count in counts.items() if CATEGORIES[category].is_over)
    still = counts.total() - over
    css = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    yield _HEAD.format(css=css, title=f"{still:,} of {counts.total():,} may still be charging")
    yield from _draw_summary(header, counts)
    yield '<p><a href="#when">When</a>, <a href="#all">all charges</a></p>'
    yield f'<section class="{"alarm" if still or header.left_out else "calm"}">'
    yield f"<h2>May still be charging: {still:,}</h2>"
    if still:
        yield "<p>The command <code>thor-async running</code> lists what runs now.</p>"
    yield from _draw_still_charging(rows, counts)
    yield f"</section><section><h2>Known to be over: {over:,}</h2>"
    yield from _draw_over(counts)
    yield "</section>"
    yield '<h2 id="when">When</h2>'
    yield from draw_timeline(rows)
    yield from _draw_groups(rows)
    yield f'<details id="all"><summary>All {header.charges:,} charges</summary>'
    lines = (f"{_plain_line(row)}: {CATEGORIES[row.category].label}" for row in rows)
    yield from _in_chunks("pre", lines)
    yield "</details>"


# The policy forbids the browser to run scripts and to load anything.
_HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{css}</style>"""


def _draw_summary(header: ReportHeader, counts: Counter[str]) -> Iterator[str]:
    yield f"<h1>{header.charges:,} charges to stop</h1>"
    yield f"<p>from {escape(header.name)} through {escape(header.address)}</p>"
    yield f'<p class="note">written {utc_timestamp()}, input {header.digest[:12]}</p>'
    if header.left_out:
        yield (
            f'<p class="alarm">{header.left_out:,} rows were left out: '
            "their charges may still run</p>"
        )
    if header.failure:
        yield f'<p class="alarm">{escape(header.failure)}</p>'
    yield '<ul class="tiles">'
    for category, (label, *_) in CATEGORIES.items():
        if counts[category]:
            yield f'<li><b>{counts[category]:,}</b><span class="tag {category}">{label}</span></li>'
    yield "</ul>"


def _draw_still_charging(rows: Iterable[ReportRow], counts: Counter[str]) -> Iterator[str]:
    for category, (label, sentence, is_over) in CATEGORIES.items():
        if counts[category] and not is_over:
            yield f"<h3>{label}: {counts[category]:,}</h3><p>{sentence}</p>"
            # What was relayed has no details: plain lines are enough.
            tag, draw = ("pre", _plain_line) if category == "relayed" else ("ul", _list_item)
            yield from _in_chunks(tag, (draw(row) for row in rows if row.category == category))


def _draw_over(counts: Counter[str]) -> Iterator[str]:
    for category, (label, sentence, is_over) in CATEGORIES.items():
        if counts[category] and is_over:
            yield f"<p><b>{counts[category]:,} {label}</b>: {sentence}</p>"


def _in_chunks(tag: str, lines: Iterator[str]) -> Iterator[str]:
    """Puts each fifty lines into an element: a browser skips whole elements off the screen."""
    while chunk := list(islice(lines, _CHUNK)):
        yield f'<{tag} class="charges">'
        yield from chunk
        yield f"</{tag}>"


def _list_item(row: ReportRow) -> str:
    details = "; ".join(escape(text) for text in (row.message, row.evidence) if text)
    maybe = ", may have been applied" if row.maybe_applied else ""
    sent = f", {row.stops_sent:,} stops sent" if row.stops_sent > 1 else ""
    return (
        f"<li><b>{escape(printable(row.chargebox))}</b> {_connector(row)}"
        f" <small>line {row.line}{_format_ref(row.ref)}</small><br>"
        f"{details}{maybe}{sent} <small>{ADVICE.get(row.next_step, '')}</small></li>"
    )


def _plain_line(row: ReportRow) -> str:
    """Plain text, because a browser needs seconds to open ten thousand list items."""
    return f"{row.line}: {escape(printable(row.chargebox))} {_connector(row)}{_format_ref(row.ref)}"


def _connector(row: ReportRow) -> str:
    transaction = "" if row.transaction is None else f", transaction {row.transaction}"
    return f"connector {row.connector}{transaction}"


def _draw_groups(rows: Iterable[ReportRow]) -> Iterator[str]:
    """Draws a table for each column of the refs: the charges by the column's values."""
    groups: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        for name, value in _ref_columns(row.ref):
            group = groups.setdefault(name, {})
            if len(group) <= _MAX_GROUPS:
                counts = group.setdefault(value, [0, 0])
                counts[0] += row.may_still_charge
                counts[1] += 1
    for name, group in groups.items():
        # A column with more values probably names single charges, so a table has no use.
        if len(group) <= _MAX_GROUPS:
            yield from _draw_group(name, group)


def _draw_group(name: str, group: dict[str, list[int]]) -> Iterator[str]:
    yield f'<h2>By {escape(name)}</h2><table><tr><th>{escape(name)}<th class="n">charges'
    yield '<th class="n">may still be charging'
    for value, (still, count) in sorted(group.items(), key=lambda item: item[1], reverse=True):
        yield f'<tr><td>{escape(value)}<td class="n">{count:,}<td class="n">{still:,}'
    yield "</table>"


def _ref_columns(ref: Any) -> list[tuple[str, str]]:
    """Returns the names and values of a ref; one that is not a dict is a column named `ref`."""
    if ref is None:
        return []
    if isinstance(ref, dict):
        return [(printable(str(name)), _text(value)) for name, value in ref.items()]
    return [("ref", _text(ref))]


def _text(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _format_ref(ref: Any) -> str:
    return "".join(f", {escape(name)}: {escape(value)}" for name, value in _ref_columns(ref))
