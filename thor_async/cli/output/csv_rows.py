"""Writes rows as CSV in the format that `stop-many` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from thor_async import StopCharge

from ..input.row_parsers import COLUMNS, TIME_COLUMNS

MASKED = "***"


def format_csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yields the header, then each row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        yield _take(text)
        writer.writerow(row)
    yield _take(text)


def find_columns(commands: Iterable[StopCharge]) -> list[str]:
    """Returns the columns that these commands need: those of the refs come last."""
    names: dict[str, None] = dict.fromkeys(COLUMNS)
    refs: dict[str, None] = {}
    for command in commands:
        names |= {name: None for name in TIME_COLUMNS if getattr(command, name) is not None}
        refs |= dict.fromkeys(_ref_cells(command.ref))
    return [*names, *refs]


def make_row(command: StopCharge) -> dict[str, Any]:
    """Returns a command as one row for `format_csv`."""
    cells = {name: getattr(command, name) for name in COLUMNS}
    for name in TIME_COLUMNS:
        time = getattr(command, name)
        if time is not None:
            cells[name] = time.isoformat()
    return cells | _ref_cells(command.ref)


def _ref_cells(ref: Any) -> dict[str, str]:
    """Returns the cells of a ref; one that is not a dict is a cell named `ref`."""
    if ref is None:
        return {}
    cells = ref if isinstance(ref, dict) else {"ref": ref}
    taken = {*COLUMNS, *TIME_COLUMNS}
    return {
        f"ref {name}" if name in taken else name: value if isinstance(value, str) else _json(value)
        for name, value in ((str(name), value) for name, value in cells.items())
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _take(text: io.StringIO) -> str:
    taken = text.getvalue()
    text.seek(0)
    text.truncate()
    return taken
