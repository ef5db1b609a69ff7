"""Parses one row of a file, CSV or JSON, into a command; a ValueError names what is wrong.

No message shows a value that may be an id_tag: if the cells of a row are shifted, any cell may be.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from thor_async import StopCharge

# A header must have all four. A misspelt `transaction` would be ignored otherwise, and without the
# transaction a repeated stop can end the next driver's charge.
COLUMNS = ("chargebox", "connector", "id_tag", "transaction")
TIME_COLUMNS = ("not_after", "as_of")

_SEPARATORS = (",", ";", "\t")
_BLANK = b' \t\r\n,;"'
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
# Some programs write blanks between the closing quote of a cell and the separator.
_PADDED_QUOTE = re.compile(r'" +(?=[,;\t\r\n]|$)')


class RowSpan(NamedTuple):
    """The place of a row in a file: its bytes from `start` to `end`; it begins on line `line`."""

    line: int
    start: int
    end: int


class RowParser(Protocol):
    """Finds and parses the rows of one file."""

    def find_rows(self, content: bytes) -> Iterator[RowSpan]:
        """Yields every row that is not blank."""

    def parse(self, text: str) -> StopCharge:
        """Returns the command of a row, or raises ValueError."""


def find_parser(content: bytes) -> RowParser:
    """Returns the parser for a file: JSON lines if it begins with a brace, else CSV.

    Raises ValueError for a bad CSV header.
    """
    return JsonLinesParser() if content.lstrip()[:1] == b"{" else CsvParser(content)


def parse_integer(text: str) -> int | None:
    """Parses ASCII digits; returns None for other texts, also for those that `int` accepts."""
    return int(text) if _INTEGER.fullmatch(text) else None


class CsvParser:
    """CSV with a header; columns in any order, separated by commas, semicolons or tabs."""

    def __init__(self, content: bytes) -> None:
        lines = (line[0] for line in _LINE.finditer(content))
        header = next((line for line in lines if line.strip(_BLANK)), b"").decode()
        self._separator = max(_SEPARATORS, key=lambda mark: _count_known_columns(header, mark))
        self._names = [name.strip() for name in _split(header, self._separator)]
        _check_header(header, self._names)
        self._ref_columns = [
            (position, name)
            for position, name in enumerate(self._names)
            if name and name not in (*COLUMNS, *TIME_COLUMNS)
        ]

    def find_rows(self, content: bytes) -> Iterator[RowSpan]:
        """Yields every row after the header that is not blank."""
        read_lines, read_bytes = 0, 0

        def lines() -> Iterator[str]:
            nonlocal read_lines, read_bytes
            for line in _LINE.finditer(content):
                read_lines, read_bytes = read_lines + 1, line.end()
                yield line[0].decode()

        reader = csv.reader(lines(), delimiter=self._separator, strict=True, skipinitialspace=True)
        is_header = True
        while True:
            line, start = read_lines + 1, read_bytes
            try:
                is_blank = not any(map(str.strip, next(reader)))
            except StopIteration:
                return
            except csv.Error:
                is_blank = False  # `parse` raises an error that names the problem
            if not is_blank and not is_header:
                yield RowSpan(line, start, read_bytes)
            is_header = is_header and is_blank

    def parse(self, text: str) -> StopCharge:
        """Returns the command of a row, or raises ValueError."""
        cells = [cell.strip() for cell in _split(text, self._separator)]
        if len(cells) != len(self._names):
            raise ValueError(
                f"{len(cells)} cells under {len(self._names)} columns: add or quote what is missing"
            )
        by_name = dict(zip(self._names, cells, strict=True))
        chargebox, connector, id_tag, transaction = (by_name[name] for name in COLUMNS)
        return StopCharge(
            chargebox,
            _parse_number("connector", connector),
            id_tag,
            _parse_number("transaction", transaction) if transaction else None,
            ref={name: cells[position] for position, name in self._ref_columns} or None,
            not_after=_parse_time("not_after", by_name.get("not_after")),
            as_of=_parse_time("as_of", by_name.get("as_of")),
        )


class JsonLinesParser:
    """JSON lines: each an object with the fields of a StopCharge; other fields become its `ref`."""

    def find_rows(self, content: bytes) -> Iterator[RowSpan]:
        """Yields every line that is not blank."""
        for number, line in enumerate(_LINE.finditer(content), 1):
            if line[0].strip():
                yield RowSpan(number, line.start(), line.end())

    def parse(self, text: str) -> StopCharge:
        """Returns the command of a line, or raises ValueError."""
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a JSON object ({error}): look for a quote or a comma") from None
        missing = [name for name in COLUMNS[:3] if name not in fields]
        if missing:
            raise ValueError(f"no {', '.join(missing)}: add it")
        command_fields = {name: fields.pop(name, None) for name in COLUMNS}
        not_after, as_of = (fields.pop(name, None) for name in TIME_COLUMNS)
        ref = fields.pop("ref", None)
        if ref is not None and fields:
            raise ValueError(f"ref beside {', '.join(map(repr, fields))}: put these into ref")
        return StopCharge(
            **command_fields,
            ref=fields or ref,
            not_after=_parse_time("not_after", not_after),
            as_of=_parse_time("as_of", as_of),
        )


def _split(text: str, separator: str) -> list[str]:
    """Splits a row into cells. Strict, because an unclosed quote would swallow the next rows."""
    try:
        return _read_cells(text, separator)
    except csv.Error as error:
        problem = str(error)
    try:
        return _read_cells(_PADDED_QUOTE.sub('"', text), separator)
    except csv.Error:
        raise ValueError(
            f"not CSV ({problem}): look for a quote that is not closed or not doubled"
        ) from None


def _read_cells(text: str, separator: str) -> list[str]:
    lines = io.StringIO(text, newline="")
    return next(csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True), [])


def _count_known_columns(header: str, separator: str) -> int:
    try:
        return sum(cell.strip() in COLUMNS for cell in _split(header, separator))
    except ValueError:
        return 0


def _check_header(header: str, names: Sequence[str]) -> None:
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}: {_suggest_header(header)}")
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"two columns {name}: leave one out or rename it")


def _suggest_header(header: str) -> str:
    """Quotes the header that was found, unless it may be a row, because a row has an id_tag."""
    if not any(word.strip().lower() in COLUMNS for word in re.split(r"[,;|\t]", header)):
        return f"put {','.join(COLUMNS)} into the first line"
    return (
        f"found {header.strip()[:200]!r}: spell the columns {', '.join(COLUMNS)}, "
        "separated by commas, semicolons or tabs"
    )


def _parse_number(name: str, cell: str) -> int:
    number = parse_integer(cell)
    if number is None:
        raise ValueError(f"{name} must be a whole number of digits only")
    return number


def _parse_time(name: str, value: Any) -> datetime | None:
    if value is None or not str(value):
        return None
    try:
        return msgspec.convert(str(value), datetime)
    except ValueError:
        raise ValueError(
            f"{name} must be a time with its offset: like 2026-01-31T18:00:00Z"
        ) from None
