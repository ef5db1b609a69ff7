"""Fleet files: the charges to stop, each row of them checked before any is used."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec

from thor_async import StopCharge

from ..errors import UsageError
from .row_parsers import Reader, Record, find_reader

_MARK = b"\xef\xbb\xbf"


class CommandFile:
    """The good rows of a file, in their order, exact duplicates once.

    A command is made from the file's bytes each time that it is asked for: what is kept beside
    these are 24 bytes a row, however many rows there are. `digest` is the SHA-256 of the bytes,
    `bad` a sentence for each row that cannot be used, `repeated` the lines of the duplicates.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.digest = hashlib.sha256(content).hexdigest()
        self._content = content.removeprefix(_MARK)
        self._starts, self._ends, self._lines = array("Q"), array("Q"), array("Q")
        self.bad: list[str] = []
        self.repeated: list[int] = []
        self.longest = 0
        self._reader = _find_reader(name, self._content)
        self._check(name)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> StopCharge:
        """The command of a row, counted from 0."""
        return self._read(self._starts[index], self._ends[index])

    def __iter__(self) -> Iterator[StopCharge]:
        return map(self.__getitem__, range(len(self)))

    def line(self, index: int) -> int:
        """On which line of the file the row begins, counted from 1."""
        return self._lines[index]

    def _check(self, name: str) -> None:
        seen: set[bytes] = set()
        for record in self._reader.records(self._content):
            try:
                command = self._read(record.start, record.end)
            except ValueError as error:
                self.bad.append(f"{name} line {record.line}: {error}")
                continue
            known = len(seen)
            # Digests, because the commands themselves would cost several times as much.
            seen.add(hashlib.blake2b(msgspec.json.encode(command), digest_size=16).digest())
            if len(seen) == known:
                self.repeated.append(record.line)
            else:
                self._add(record)

    def _add(self, record: Record) -> None:
        self._starts.append(record.start)
        self._ends.append(record.end)
        self._lines.append(record.line)
        self.longest = max(self.longest, record.end - record.start)

    def _read(self, start: int, end: int) -> StopCharge:
        return self._reader.command(self._content[start:end].decode())


def read_command_file(path: str, *, skip_bad: bool = False) -> CommandFile:
    """The rows of a CSV or JSON lines file, or of standard input for `-`.

    Raises BadInput, which names every bad row by its line, unless these are to be left out.
    """
    name = "standard input" if path == "-" else path
    fleet = CommandFile(name, _read(name, path))
    if fleet.bad and not skip_bad:
        cure = f"correct the rows named here ({len(fleet.bad):,}), or leave them out by --skip-bad"
        raise UsageError(*fleet.bad, f"nothing was sent: {cure}")
    return fleet


def _read(name: str, path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {name} ({error.strerror}): give a CSV file") from None


def _find_reader(name: str, content: bytes) -> Reader:
    _check_encoding(name, content)
    try:
        return find_reader(content)
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
    # Outside the handler: the error carries the whole content.
    raise UsageError(f"{name} line {line}: not UTF-8: save it as CSV in UTF-8")
