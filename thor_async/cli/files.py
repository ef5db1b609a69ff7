"""Fleet files: CSV of which every row is right, or none is used."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from thor_async import StopCharge

# All four must be there: a misspelt `transaction` would else be dropped in silence, and with it
# what keeps a repeat from stopping the next driver's charge.
COLUMNS = ("chargebox", "connector", "id_tag", "transaction")

_NUMBER = re.compile(r"-?[0-9]{1,18}")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class BadInput(Exception):
    """What was given cannot be used, so nothing was sent; each line says why, and the cure."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines


def read_fleet(path: str) -> list[StopCharge]:
    """The command of every row of a CSV file, or of standard input for `-`.

    Raises BadInput, which names every bad row by its line, and never shows an id_tag.
    """
    name = "standard input" if path == "-" else path
    rows = _rows(_decode(name, _read(name, path)))
    line, header = next(rows, (1, []))
    try:
        places = _find_columns(header)
    except ValueError as error:
        raise BadInput(f"{name} line {line}: {error}") from None
    commands: list[StopCharge] = []
    bad: list[str] = []
    for line, cells in rows:
        try:
            commands.append(_command(cells, places))
        except ValueError as error:
            bad.append(f"{name} line {line}: {error}")
    if bad:
        raise BadInput(*bad, f"nothing was sent: correct the rows named here ({len(bad):,})")
    return commands


def read_number(text: str) -> int | None:
    """A whole number in ASCII digits, or None for anything else that Python would take for one."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _read(name: str, path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {name} ({error.strerror}): give a CSV file") from None


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    # Outside the handler: the error carries the whole content.
    raise BadInput(f"{name} line {line}: not UTF-8: save it as CSV in UTF-8")


def _rows(text: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Every row that is not blank, with the number of its first line."""
    # Strict, because a quote that is never closed would else swallow the rows after it.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells: list[str] | csv.Error = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = error
        if cells:
            yield line, cells


def _find_columns(header: list[str] | csv.Error) -> list[int]:
    """The places of the four columns, and behind them the number of all."""
    names = _checked(header)
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}: {_describe(','.join(names))}")
    for column in COLUMNS:
        if names.count(column) > 1:
            raise ValueError(f"two columns {column}: leave one out")
    return [*map(names.index, COLUMNS), len(names)]


def _describe(header: str) -> str:
    """What was found in place of the header; without one, a row, whose id_tag is not to be seen."""
    if not any(word.strip().lower() in COLUMNS for word in re.split(r"[,;|\t]", header)):
        return f"put {','.join(COLUMNS)} into the first line"
    found = f"found {header[:200]!r}"
    other = next((words for mark, words in _SEPARATORS.items() if mark in header), None)
    if other:
        return f"{found}: separate the columns with commas, not {other}"
    return f"{found}: spell the columns {', '.join(COLUMNS)}"


def _command(cells: list[str] | csv.Error, places: list[int]) -> StopCharge:
    cells = _checked(cells)
    *places, width = places
    if len(cells) != width:
        raise ValueError(f"{len(cells)} cells under {width} columns: add or quote what is missing")
    chargebox, connector, id_tag, transaction = (cells[place] for place in places)
    return StopCharge(
        chargebox,
        _whole("connector", connector),
        id_tag,
        _whole("transaction", transaction) if transaction else None,
    )


def _checked(cells: list[str] | csv.Error) -> list[str]:
    if isinstance(cells, csv.Error):
        raise ValueError(f"not CSV ({cells}): look for a quote that is not closed or not doubled")  # noqa: TRY004
    return cells


def _whole(name: str, cell: str) -> int:
    number = read_number(cell)
    if number is None:
        # Not shown: in a row whose cells are shifted it may be the id_tag.
        raise ValueError(f"{name} must be a whole number of digits only")
    return number
