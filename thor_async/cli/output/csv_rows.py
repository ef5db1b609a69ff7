"""Writes rows as CSV in the format that `stop-many` reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from thor_async import StopCharge

from ..input.csv_format import COLUMNS, TIME_COLUMNS, find_column
from ..input.spreadsheets import mark
from .printable import printable

MASKED = "***"

# Not by the module csv: up to Python 3.12 it does not quote a carriage return, which ends a row.
_QUOTED = re.compile(r'[",;\t\r\n]|^\s|\s$')


def format_csv(
    columns: Sequence[str], rows: Iterable[dict[str, Any]], *, for_terminal: bool = False
) -> Iterator[str]:
    """Yields the header, then each row.

    `stop-many` reads every text as it is, and no spreadsheet takes one for a formula. For a
    terminal, texts are escaped instead, so that none can move the cursor.
    """
    prepare = printable if for_terminal else mark
    yield _format_row(map(prepare, columns))
    for row in rows:
        cells = (row.get(name) for name in columns)
        yield _format_row(prepare(cell) if isinstance(cell, str) else cell for cell in cells)


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


def _ref_cells(ref: Any) -> dict[str, Any]:
    """Returns the cells of a ref; one that is not a dict is a cell named `ref`."""
    if ref is None:
        return {}
    cells = ref if isinstance(ref, dict) else {"ref": ref}
    return {
        f"ref {name}" if find_column(name) else name: _json(value)
        if isinstance(value, bool | list | dict)
        else value
        for name, value in ((str(name), value) for name, value in cells.items())
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _format_row(cells: Iterable[Any]) -> str:
    texts = ("" if cell is None else str(cell) for cell in cells)
    return ",".join(map(_quote, texts)) + "\n"


def _quote(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text
