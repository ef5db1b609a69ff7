"""Parses one row of a file, CSV or JSON, into a command; a ValueError names what is wrong.

No message shows a value that may be an id_tag: if the cells of a row are shifted, any cell may be.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from thor_async import StopCharge

from .commands import make_command
from .csv_format import COLUMNS, LINE, TIME_COLUMNS, parse_text, read_header, read_rows, split_row
from .spreadsheets import BLANKS, find_damage, find_marked

_INTEGER = re.compile(r"-?[0-9]{1,18}")
# Spreadsheets and data frames write whole numbers as 1.0 or 1,00. With three zeros it is thousands.
_WHOLE = re.compile(r"(-?[0-9]+)[.,]0{1,2}")


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
        self._header = read_header(content)
        self._ref_columns = [
            (position, name)
            for position, name in enumerate(self._header.names)
            if name and name not in (*COLUMNS, *TIME_COLUMNS)
        ]

    def find_rows(self, content: bytes) -> Iterator[RowSpan]:
        """Yields every row after the header that is not blank."""
        if b'"' not in content:
            yield from self._find_plain_rows(content)
            return
        read_lines, read_bytes = self._header.line, self._header.end

        def lines() -> Iterator[str]:
            nonlocal read_lines, read_bytes
            for line in LINE.finditer(content, read_bytes):
                read_lines, read_bytes = read_lines + 1, line.end()
                yield line[0].decode()

        reader = read_rows(lines(), self._header.separator)
        while True:
            line, start = read_lines + 1, read_bytes
            try:
                is_blank = not any(map(str.strip, next(reader)))
            except StopIteration:
                return
            except csv.Error:
                is_blank = False  # `parse` raises an error that names the problem
            if not is_blank:
                yield RowSpan(line, start, read_bytes)

    def _find_plain_rows(self, content: bytes) -> Iterator[RowSpan]:
        """Yields the rows of a file without quotes, in which each line is a row."""
        lines = LINE.finditer(content, self._header.end)
        for number, line in enumerate(lines, self._header.line + 1):
            if line[0].decode().replace(self._header.separator, "").strip():
                yield RowSpan(number, line.start(), line.end())

    def parse(self, text: str) -> StopCharge:
        """Returns the command of a row, or raises ValueError."""
        names = self._header.names
        cells = split_row(text, self._header.separator)
        if len(cells) != len(names):
            raise ValueError(
                f"{len(cells)} cells under {len(names)} columns: add or quote what is missing"
            )
        by_name = dict(zip(names, cells, strict=True))
        transaction = by_name.get("transaction", "").strip()
        return make_command(
            _parse_identifier("chargebox", by_name["chargebox"]),
            _parse_number("connector", by_name["connector"].strip()),
            _parse_identifier("id_tag", by_name["id_tag"]),
            _parse_number("transaction", transaction) if transaction else None,
            ref={name: parse_text(cells[position]) for position, name in self._ref_columns} or None,
            not_after=_parse_time("not_after", by_name.get("not_after")),
            as_of=_parse_time("as_of", by_name.get("as_of")),
        )


class JsonLinesParser:
    """JSON lines: each an object with the fields of a StopCharge; other fields become its `ref`."""

    def find_rows(self, content: bytes) -> Iterator[RowSpan]:
        """Yields every line that is not blank."""
        for number, line in enumerate(LINE.finditer(content), 1):
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
        return make_command(
            **command_fields,
            ref=fields or ref,
            not_after=_parse_time("not_after", not_after),
            as_of=_parse_time("as_of", as_of),
        )


def _parse_identifier(name: str, cell: str) -> str:
    """Returns the text of a cell. Raises ValueError for one that a spreadsheet has changed."""
    marked = find_marked(cell)
    if marked is not None:
        return marked
    cell = cell.strip(BLANKS)
    damage = find_damage(cell)
    if damage is not None:
        raise ValueError(f"{name} {damage}")
    return cell


def _parse_number(name: str, cell: str) -> int:
    number = parse_integer(cell)
    if number is None and (whole := _WHOLE.fullmatch(cell)):
        number = parse_integer(whole[1])
    if number is None:
        raise ValueError(f"{name} must be a whole number of digits only")
    return number


def _parse_time(name: str, value: Any) -> datetime | None:
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    try:
        time = msgspec.convert(text, datetime)
    except ValueError:
        time = None
    if time is None or time.utcoffset() is None:
        raise ValueError(f"{name} must be a time with its offset: like 2026-01-31T18:00:00Z")
    return time
