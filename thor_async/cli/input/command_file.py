"""Files of charges to stop: every row is checked before the first one is used."""

from __future__ import annotations

import codecs
import hashlib
import sys
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from thor_async import StopCharge

from ..errors import UsageError
from .row_parsers import RowParser, RowSpan, find_parser

STANDARD_INPUT = "standard input"


class CommandFile:
    """The usable rows of a file as commands, in the file's order, duplicates once.

    Each access parses the row again from the file's bytes: beside these, a row needs 24 bytes.
    `name` is for messages, `digest` is the SHA-256 of the file, `bad_rows` has a message for each
    row that cannot be used, `duplicate_lines` the line numbers of the duplicates, and `longest_row`
    is in bytes.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self.digest = hashlib.sha256(content).hexdigest()
        self._has_mark = content.startswith(codecs.BOM_UTF8)
        self._content = content.removeprefix(codecs.BOM_UTF8)
        self._starts, self._ends, self._lines = array("Q"), array("Q"), array("Q")
        self.bad_rows: list[str] = []
        self.duplicate_lines: list[int] = []
        self.longest_row = 0
        self._parser = _find_parser(name, self._content)
        self._check_rows(name)

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return codecs.BOM_UTF8 + self._content if self._has_mark else self._content

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

    def _check_rows(self, name: str) -> None:
        seen: set[bytes] = set()
        for span in self._parser.find_rows(self._content):
            try:
                command = self._parse(span.start, span.end)
            except ValueError as error:
                self.bad_rows.append(f"{name} line {span.line}: {error}")
                continue
            digest = _digest(command)
            if digest in seen:
                self.duplicate_lines.append(span.line)
            else:
                seen.add(digest)
                self._add(span)

    def _add(self, span: RowSpan) -> None:
        self._starts.append(span.start)
        self._ends.append(span.end)
        self._lines.append(span.line)
        self.longest_row = max(self.longest_row, span.end - span.start)

    def _parse(self, start: int, end: int) -> StopCharge:
        return self._parser.parse(self._content[start:end].decode())


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

    Raises UsageError with the line of every bad row, unless `skip_bad` leaves these rows out.
    """
    name = STANDARD_INPUT if path == "-" else path
    return parse_command_file(name, _read(name, path), skip_bad=skip_bad)


def parse_command_file(name: str, content: bytes, *, skip_bad: bool = False) -> CommandFile:
    """Returns the commands of a file that was read before; raises as `read_command_file` does."""
    command_file = CommandFile(name, content)
    bad_rows = command_file.bad_rows
    if bad_rows and not skip_bad:
        cure = f"correct the rows named here ({len(bad_rows):,}), or leave them out by --skip-bad"
        raise UsageError(*bad_rows, f"nothing was sent: {cure}")
    return command_file


def _read(name: str, path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {name} ({error.strerror}): give a CSV file") from None


def _find_parser(name: str, content: bytes) -> RowParser:
    _check_encoding(name, content)
    try:
        return find_parser(content)
    except ValueError as error:
        line = content[: len(content) - len(content.lstrip())].count(b"\n") + 1
        raise UsageError(f"{name} line {line}: {error}") from None


def _check_encoding(name: str, content: bytes) -> None:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    else:
        return
    # Raised after the block: the decoding error holds the whole content.
    raise UsageError(f"{name} line {line}: not UTF-8: save it as CSV in UTF-8")
