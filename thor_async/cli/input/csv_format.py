"""The format of CSV files: separators, the header, and the cells of a row."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from .spreadsheets import BLANKS, find_marked

COLUMNS = ("chargebox", "connector", "id_tag", "transaction")
"""A header must have the first three."""
TIME_COLUMNS = ("not_after", "as_of")

_SEPARATORS = (",", ";", "\t")
_BLANK = b' \t\r\n,;"'
# The first line that Excel needs where the separator is not that of the user's country.
_SEPARATOR_LINE = re.compile(rb'"?sep=([^"\r\n])"?[,;\t]*\s*', re.IGNORECASE)
LINE = re.compile(rb"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_HEADER_LINES = 10
# Some programs write blanks between the closing quote of a cell and the separator.
_PADDED_QUOTE = re.compile(r'" +(?=[,;\t\r\n]|$)')


class CsvHeader(NamedTuple):
    """The header of a file: it ends on line `line`, before the byte `end`."""

    separator: str
    names: list[str]
    line: int
    end: int


def read_header(content: bytes) -> CsvHeader:
    """Reads the header, and a line `sep=;` above it. Raises ValueError for a bad one."""
    separators: tuple[str, ...] = _SEPARATORS
    line, end, text = _find_line(content, 0, 0)
    named = _SEPARATOR_LINE.fullmatch(text)
    if named is not None:
        separators = (named[1].decode(errors="replace"), *_SEPARATORS)
        line, end, text = _find_line(content, line, end)
    header = text.decode()
    separator = max(separators, key=lambda mark: _count_known_columns(header, mark))
    names = [parse_text(name) for name in split_row(header, separator)]
    names = [find_column(name) or name for name in names]
    _check_header(header, names)
    return CsvHeader(separator, names, line, end)


def find_column(name: str) -> str | None:
    """Returns the column that a header means by a name, as `Id Tag` or `idTag`, or None."""
    return _SPELLINGS.get(_squeeze(name))


def parse_text(cell: str) -> str:
    """Returns the text of a cell that is no identifier."""
    marked = find_marked(cell)
    return cell.strip(BLANKS) if marked is None else marked


def read_rows(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """Yields the cells of each row. Raises csv.Error, and then goes on with the next row."""
    return csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)


def split_row(text: str, separator: str) -> list[str]:
    """Splits a row into cells. Strict, because an unclosed quote would swallow the next rows."""
    if '"' not in text:
        return text.rstrip("\r\n").split(separator)  # as below, in a third of the time
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
    return next(read_rows(io.StringIO(text, newline=""), separator), [])


def _find_line(content: bytes, lines: int, start: int) -> tuple[int, int, bytes]:
    """Returns the first line from `start` that is not blank, with its number and its end.

    With an open quote, the line goes on to the one that closes it.
    """
    for line in LINE.finditer(content, start):
        lines += 1
        if line[0].strip(_BLANK):
            following = LINE.finditer(content, line.end())
            return _close_quote(lines, line.end(), line[0], islice(following, _HEADER_LINES))
    return lines, len(content), b""


def _close_quote(
    lines: int, end: int, line: bytes, following: Iterable[re.Match[bytes]]
) -> tuple[int, int, bytes]:
    """Appends the lines up to the end of an open quote. If there is none, it was forgotten."""
    parts = [line]
    for other in following:
        if b"".join(parts).count(b'"') % 2 == 0:
            break
        parts.append(other[0])
    text = b"".join(parts)
    if text.count(b'"') % 2:
        return lines, end, line
    return lines + len(parts) - 1, end + len(text) - len(line), text


def _count_known_columns(header: str, separator: str) -> int:
    try:
        return sum(find_column(cell) in COLUMNS for cell in split_row(header, separator))
    except (TypeError, ValueError):
        return 0  # the module csv does not take every character for a separator


def _check_header(header: str, names: Sequence[str]) -> None:
    missing = [column for column in COLUMNS[:3] if column not in names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}: {_suggest_header(header)}")
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"two columns {name!r}: leave one out or rename it")
    if "transaction" not in names:
        _check_other_columns(names)


def _check_other_columns(names: Sequence[str]) -> None:
    """Raises ValueError for a column that may be the transaction.

    Without the transaction, a repeated stop can end the next driver's charge.
    """
    for name in names:
        text = _squeeze(name)
        if text.startswith("trans") or difflib.get_close_matches(text, ["transaction"], 1, 0.7):
            raise ValueError(
                f"no column transaction, but {name!r}: name it transaction, or other than that"
            )


def _suggest_header(header: str) -> str:
    """Quotes the header that was found, unless it may be a row, because a row has an id_tag."""
    if not any(find_column(word) in COLUMNS for word in re.split(r"[,;|\t]", header)):
        return f"put {','.join(COLUMNS)} into the first line"
    return (
        f"found {header.strip()[:200]!r}: spell the columns {', '.join(COLUMNS)}, "
        "separated by commas, semicolons or tabs"
    )


def _squeeze(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


_SPELLINGS = {_squeeze(name): name for name in (*COLUMNS, *TIME_COLUMNS)}
