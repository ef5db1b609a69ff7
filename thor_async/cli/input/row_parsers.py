"""One row of a file: a line of CSV or of JSON becomes a command, or a ValueError that says why not.

No message shows what may be an id_tag: in a row whose cells are shifted, any cell may be one.
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

# All four must be there: a misspelt `transaction` would else be dropped in silence, and with it
# what keeps a repeat from stopping the next driver's charge.
COLUMNS = ("chargebox", "connector", "id_tag", "transaction")
NOT_AFTER = "not_after"

_SEPARATORS = (",", ";", "\t")
_BLANK = b' \t\r\n,;"'
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
# Some programs pad their quoted cells.
_PADDED = re.compile(r'" +(?=[,;\t\r\n]|$)')


class Record(NamedTuple):
    """A piece of a file: its bytes from `start` to `end`, the first of them on line `line`."""

    line: int
    start: int
    end: int


class Reader(Protocol):
    """How the rows of one file are found and read."""

    def records(self, content: bytes) -> Iterator[Record]:
        """Every row that is not blank."""

    def command(self, text: str) -> StopCharge:
        """The command that a row's text stands for."""


def find_reader(content: bytes) -> Reader:
    """JSON lines begin with a brace, everything else is CSV; ValueError for a bad header."""
    return JsonLines() if content.lstrip()[:1] == b"{" else CsvRows(content)


def read_number(text: str) -> int | None:
    """A whole number in ASCII digits, or None for anything else that Python would take for one."""
    return int(text) if _NUMBER.fullmatch(text) else None


class CsvRows:
    """CSV with a header, its columns in any order, separated by commas, semicolons or tabs."""

    def __init__(self, content: bytes) -> None:
        lines = (line[0] for line in _LINE.finditer(content))
        first = next((line for line in lines if line.strip(_BLANK)), b"").decode()
        self._separator = max(_SEPARATORS, key=lambda mark: _known(first, mark))
        self._names = [name.strip() for name in _split(first, self._separator)]
        _check_header(first, self._names)
        self._extra = [
            (place, name)
            for place, name in enumerate(self._names)
            if name and name not in (*COLUMNS, NOT_AFTER)
        ]

    def records(self, content: bytes) -> Iterator[Record]:
        """Every row behind the header that is not blank."""
        at = [0, 0]

        def lines() -> Iterator[str]:
            for line in _LINE.finditer(content):
                at[:] = at[0] + 1, line.end()
                yield line[0].decode()

        reader = csv.reader(lines(), delimiter=self._separator, strict=True, skipinitialspace=True)
        is_header = True
        while True:
            line, start = at[0] + 1, at[1]
            try:
                is_blank = not any(map(str.strip, next(reader)))
            except StopIteration:
                return
            except csv.Error:
                is_blank = False  # what is wrong with it is said when it is read
            if not is_blank and not is_header:
                yield Record(line, start, at[1])
            is_header = is_header and is_blank

    def command(self, text: str) -> StopCharge:
        """The command of one row."""
        cells = [cell.strip() for cell in _split(text, self._separator)]
        if len(cells) != len(self._names):
            raise ValueError(
                f"{len(cells)} cells under {len(self._names)} columns: add or quote what is missing"
            )
        by_name = dict(zip(self._names, cells, strict=True))
        chargebox, connector, id_tag, transaction = (by_name[name] for name in COLUMNS)
        return StopCharge(
            chargebox,
            _whole("connector", connector),
            id_tag,
            _whole("transaction", transaction) if transaction else None,
            ref={name: cells[place] for place, name in self._extra} or None,
            not_after=_moment(by_name.get(NOT_AFTER)),
        )


class JsonLines:
    """JSON lines: one object each, with the fields of a StopCharge; others go into its `ref`."""

    def records(self, content: bytes) -> Iterator[Record]:
        """Every line that is not blank."""
        for number, line in enumerate(_LINE.finditer(content), 1):
            if line[0].strip():
                yield Record(number, line.start(), line.end())

    def command(self, text: str) -> StopCharge:
        """The command of one line."""
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a JSON object ({error}): look for a quote or a comma") from None
        missing = [name for name in COLUMNS[:3] if name not in fields]
        if missing:
            raise ValueError(f"no {', '.join(missing)}: add it")
        known = {name: fields.pop(name, None) for name in COLUMNS}
        moment = fields.pop(NOT_AFTER, None)
        ref = fields.pop("ref", None)
        if ref is not None and fields:
            raise ValueError(f"ref beside {', '.join(map(repr, fields))}: put these into ref")
        return StopCharge(
            **known, ref=fields or ref, not_after=None if moment is None else _moment(str(moment))
        )


def _split(text: str, separator: str) -> list[str]:
    """The cells of one row. Strict: a quote that is never closed would swallow the next rows."""
    try:
        return _cells(text, separator)
    except csv.Error as error:
        problem = str(error)
    try:
        return _cells(_PADDED.sub('"', text), separator)
    except csv.Error:
        raise ValueError(
            f"not CSV ({problem}): look for a quote that is not closed or not doubled"
        ) from None


def _cells(text: str, separator: str) -> list[str]:
    lines = io.StringIO(text, newline="")
    return next(csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True), [])


def _known(header: str, separator: str) -> int:
    try:
        return sum(cell.strip() in COLUMNS for cell in _split(header, separator))
    except ValueError:
        return 0


def _check_header(header: str, names: Sequence[str]) -> None:
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}: {_describe(header)}")
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"two columns {name}: leave one out or rename it")


def _describe(header: str) -> str:
    """What was found in place of the header; without one, a row, whose id_tag is not to be seen."""
    if not any(word.strip().lower() in COLUMNS for word in re.split(r"[,;|\t]", header)):
        return f"put {','.join(COLUMNS)} into the first line"
    return (
        f"found {header.strip()[:200]!r}: spell the columns {', '.join(COLUMNS)}, "
        "separated by commas, semicolons or tabs"
    )


def _whole(name: str, cell: str) -> int:
    number = read_number(cell)
    if number is None:
        raise ValueError(f"{name} must be a whole number of digits only")
    return number


def _moment(cell: str | None) -> datetime | None:
    if not cell:
        return None
    try:
        return msgspec.convert(cell, datetime)
    except ValueError:
        raise ValueError(
            f"{NOT_AFTER} must be a time with its offset: like 2026-01-31T18:00:00Z"
        ) from None
