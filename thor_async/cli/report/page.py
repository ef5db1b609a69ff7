"""The report of a batch: one HTML page that loads nothing else."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from datetime import timezone
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import UsageError
from ..output.console import ADVICE
from ..output.printable import encode_line, printable
from ..output.timestamps import utc_timestamp
from .export import find_ref_columns, format_rows
from .groups import RowGroup, count_columns, group_rows
from .history import History
from .rows import CATEGORIES, ReportRow
from .timeline import make_timeline
from .views import (
    ReportHeader,
    RowView,
    make_head,
    make_row_view,
    make_run_views,
    make_sentence,
    make_title,
)

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATE = "report.html.j2"
_MAX_SITES, _NAMED = 100, 5


class Rows(Protocol):
    """The rows of a report: a list, or rows that are read again at each access."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> ReportRow: ...
    def __iter__(self) -> Iterator[ReportRow]: ...


class GroupView(NamedTuple):
    """A group of rows for the page; `views` can be iterated once, `named` has its first rows."""

    group: RowGroup
    views: Iterator[RowView]
    named: list[ReportRow]


def check_report_path(path: str) -> None:
    """Raises UsageError if no report can be written to `path`."""
    if Path(path).suffix != ".html":
        # Another name is probably that of a file that must not be overwritten.
        raise UsageError(f"--report {path}: give it a name that ends with .html")
    folder = Path(path).parent
    if Path(path).is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: give --report a file in a writable folder")
    if importlib.util.find_spec("jinja2") is None:
        raise UsageError("--report needs jinja2: run pip install 'thor_async[cli]'")


def write_report(
    path: str, header: ReportHeader, rows: Rows, history: History | None = None
) -> None:
    """Writes the page as a whole, or raises OSError. Iterates `rows` several times.

    Without a `history`, the timeline has the last outcomes only.
    """
    context = _make_context(header, rows, history or History.from_rows(rows))
    part = Path(f"{path}.part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(_load_template().generate(context))
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _load_template() -> Template:
    # Slow to import, and of an extra.
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_make_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def _make_context(header: ReportHeader, rows: Rows, history: History) -> dict[str, Any]:
    from markupsafe import Markup  # noqa: PLC0415 - comes with jinja2

    zone = history.zone
    counts = Counter(row.category for row in rows)
    steps = {row.next_step for row in rows} - {"done"}
    groups = group_rows(rows)
    style, script = Markup(_read("report.css")), Markup(_read("report.js"))  # noqa: S704 - ours
    return {
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "title": make_title(header, counts),
        "sentence": make_sentence(header, counts),
        "header": header,
        "head": make_head(header, history),
        "runs": make_run_views(history),
        "categories": CATEGORIES,
        "counts": counts,
        "sites": [_view(group, rows, zone) for group in groups[:_MAX_SITES] if not group.is_over],
        "site_count": sum(not group.is_over for group in groups),
        "groups": [_view(group, rows, zone) for group in groups],
        "timeline": make_timeline(history, zone),
        "columns": list(count_columns(rows)),
        "steps": [(step, advice) for step, advice in ADVICE.items() if step in steps],
        "left_out_rows": header.left_out_rows or _left_out_in_journal(history),
        "zone": str(zone),
        "written": utc_timestamp(),
        "csv": _encode_csv(rows, groups, zone),
    }


def _view(group: RowGroup, rows: Rows, zone: timezone) -> GroupView:
    views = (make_row_view(rows[index], zone) for index in group.rows)
    return GroupView(group, views, [rows[index] for index in islice(group.rows, _NAMED)])


def _left_out_in_journal(history: History) -> list[tuple[int, str]]:
    """Returns the rows that the journal names: the input may be a copy without them."""
    named = next((run.left_out_rows for run in reversed(history.runs) if run.left_out_rows), [])
    return [(0, text) for text in named]


def _encode_csv(rows: Rows, groups: list[RowGroup], zone: timezone) -> Iterator[str]:
    """Yields the items of a JSON array: the header, then the lines in the order of the page."""
    from markupsafe import Markup  # noqa: PLC0415 - as above

    ordered = (rows[index] for group in groups for index in group.rows)
    before = "["
    for line in format_rows(ordered, find_ref_columns(rows), zone):
        # No text may end the element.
        text = encode_line(line).decode().rstrip("\n").replace("<", "\\u003c")
        yield Markup(before + text)  # noqa: S704 - JSON without a <
        before = ",\n"
    yield Markup("]")


def _make_printable(value: Any) -> Any:
    """Escapes what is not printable in the texts of data; the page's own parts are Markup."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
