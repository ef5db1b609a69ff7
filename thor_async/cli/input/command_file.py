"""Files of charges to stop: every row is checked before the first one is used."""

from __future__ import annotations

import difflib
import hashlib
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic

import msgspec

from thor_async import StopCharge

from ..errors import UsageError
from ..output.console import print_error
from .bad_rows import BadRows
from .encodings import find_encoding
from .row_parsers import CsvParser, RowParser, RowSpan, find_parser
from .spreadsheets import LeadingZeros

STANDARD_INPUT = "standard input"

_CUTOFF = 0.8
_PROGRESS_GAP = 5.0
_PROGRESS_ROWS = 10_000
"""The clock is looked at after this number of rows."""


class CommandFile:
    """The usable rows of a file as commands, in the file's order, duplicates once.

    Each access parses the row again from the file's text: beside this, a row needs 24 bytes.
    `name` is for messages, `digest` is the SHA-256 of the file, `bad_rows` has the rows that cannot
    be used, `duplicate_lines` the line numbers of the duplicates, and `longest_row` is in bytes.
    `warnings` are about what is read, and may not be what was meant.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self.digest: str = hashlib.sha256(content).hexdigest()
        self._encoding = find_encoding(name, content)
        self._content = self._encoding.to_utf_8(content)
        self._starts, self._ends, self._lines = array("Q"), array("Q"), array("Q")
        self.bad_rows: BadRows = BadRows()
        self.duplicate_lines: list[int] = []
        self.warnings: list[str] = self._encoding.warnings(name)
        self.longest_row: int = 0
        self._parser = _find_parser(name, self._content)
        self._check_rows(name)

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self._encoding.from_utf_8(self._content)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> StopCharge:
        """Returns the command of a row; the first row has index 0."""
        return self._parse(self._starts[index], self._ends[index])

    def __iter__(self) -> Iterator[StopCharge]:
        return map(self.__getitem__, range(len(self)))

    def line_number(self, index: int) -> int:
        """Returns the line of the file on which a row begins; the first line is 1."""
        return self._lines[index]

    def count_chargeboxes(self, rows: Iterable[int]) -> int:
        """Returns the number of different chargeboxes in these rows."""
        return len({self[row].chargebox for row in rows})

    def find_bad_rows(self) -> Iterator[tuple[int, str]]:
        """Yields the line and the fault of every row that cannot be used.

        It parses the file again: `bad_rows` has only the first ones.
        """
        for span in self._parser.find_rows(self._content):
            try:
                self._parse(span.start, span.end)
            except ValueError as error:
                yield span.line, str(error)

    def _check_rows(self, name: str) -> None:
        seen: set[bytes] = set()
        columns = ("chargebox", "id_tag") if isinstance(self._parser, CsvParser) else ()
        zeros = {column: LeadingZeros() for column in columns}
        report = _ReadProgress(name, len(self._content))
        for count, span in enumerate(self._parser.find_rows(self._content), 1):
            report(count, span.end)
            try:
                command = self._parse(span.start, span.end)
            except ValueError as error:
                self.bad_rows.add(f"{name} line {span.line}: {error}")
                continue
            for column, numbers in zeros.items():
                numbers.add(getattr(command, column), span.line)
            digest = _digest(command)
            if digest in seen:
                self.duplicate_lines.append(span.line)
            else:
                seen.add(digest)
                self._add(span)
        for column, numbers in zeros.items():
            self._warn_of_zeros(column, numbers.find_short())

    def _warn_of_zeros(self, column: str, lines: list[int]) -> None:
        if lines:
            self.warnings.append(
                f"{self.name}: the {column} of {len(lines):,} rows may have lost a leading zero, "
                f"which others have ({format_lines(lines)}): format the column as text, and enter "
                "it again"
            )

    def _add(self, span: RowSpan) -> None:
        self._starts.append(span.start)
        self._ends.append(span.end)
        self._lines.append(span.line)
        self.longest_row = max(self.longest_row, span.end - span.start)

    def _parse(self, start: int, end: int) -> StopCharge:
        return self._parser.parse(self._content[start:end].decode())


class _ReadProgress:
    """Prints how far the rows are read, every few seconds."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._next = monotonic() + _PROGRESS_GAP

    def __call__(self, rows: int, position: int) -> None:
        if rows % _PROGRESS_ROWS == 0 and monotonic() >= self._next:
            self._next += _PROGRESS_GAP
            percent = 100 * position // self._size
            print_error(f"{self._name}: {rows:,} rows read, {percent} %")


def format_lines(lines: Sequence[int]) -> str:
    """Returns the first ten of these line numbers."""
    more = ", ..." if len(lines) > 10 else ""
    return f"line {', '.join(map(str, lines[:10]))}{more}"


def _digest(command: StopCharge) -> bytes:
    """Returns what duplicates have in common; it needs a fraction of the memory of a command.

    Without a transaction, a second stop could go to the next driver's charge: then it is a
    duplicate whatever its `ref` and its times are.
    """
    if command.transaction is None:
        command = StopCharge(command.chargebox, command.connector, command.id_tag)
    return hashlib.blake2b(msgspec.json.encode(command), digest_size=16).digest()


def read_command_file(path: str, *, skip_bad: bool = False) -> CommandFile:
    """Reads a CSV or JSON lines file, or standard input for `-`.

    Raises UsageError without a row, and with the lines of the bad rows unless `skip_bad` leaves
    these out.
    """
    name = STANDARD_INPUT if path == "-" else path
    return parse_command_file(name, _read(name, path), skip_bad=skip_bad)


def parse_command_file(name: str, content: bytes, *, skip_bad: bool = False) -> CommandFile:
    """Returns the commands of a file that was read before; raises as `read_command_file` does."""
    command_file = CommandFile(name, content)
    print_error(*command_file.warnings)
    bad_rows = command_file.bad_rows
    if bad_rows.count and not skip_bad:
        cure = f"correct the bad rows ({bad_rows.count:,}), or leave them out by --skip-bad"
        raise UsageError(*bad_rows.lines, f"nothing was sent: {cure}")
    if not bad_rows.count and not command_file:
        raise UsageError(f"{name} has a header and no row: nothing was sent")
    return command_file


def _read(name: str, path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        near = _find_near_file(Path(path)) if isinstance(error, FileNotFoundError) else None
        cure = "give a CSV file" if near is None else f"did you mean {near}?"
        raise UsageError(f"cannot read {name} ({error.strerror}): {cure}") from None


def _find_near_file(path: Path) -> Path | None:
    """Returns the file in the same folder with the nearest name, or None."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return None
    near = difflib.get_close_matches(path.name, names, 1, _CUTOFF)
    return path.with_name(near[0]) if near else None


def _find_parser(name: str, content: bytes) -> RowParser:
    try:
        return find_parser(content)
    except ValueError as error:
        line = content[: len(content) - len(content.lstrip())].count(b"\n") + 1
        raise UsageError(f"{name} line {line}: {error}") from None
