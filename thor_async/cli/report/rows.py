"""The rows of a report, read from the output of a batch."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from thor_async import Verdict

from ..input.command_file import CommandFile

_NO_LINE = 2**64 - 1


class ReportRow(msgspec.Struct, frozen=True):
    """One row of the input: its charge and its latest result."""

    line: int
    index: int
    chargebox: str
    connector: int
    verdict: str
    next_step: str
    at: str | None = None
    transaction: int | None = None
    ref: Any = None
    code: str | None = None
    message: str | None = None
    maybe_applied: bool = False
    state: str | None = None
    evidence: str | None = None

    @property
    def kind(self) -> str:
        """The state of the confirmation; the verdict if the charge was not watched."""
        return self.state or self.verdict

    @property
    def may_still_charge(self) -> bool:
        """False if the row is done. Without a confirmation, a relayed stop counts as done."""
        return self.next_step != "done"


class ReportRows:
    """The rows of a command file, each with the last line that the output has for it.

    A row without a line was not sent. Every iteration reads the output again: in memory are eight
    bytes a row, the offset of its line.
    """

    def __init__(self, file: IO[bytes], command_file: CommandFile) -> None:
        self._file, self._command_file = file, command_file
        self._offsets = array("Q", [_NO_LINE]) * len(command_file)
        offset = 0
        for text in file:
            index = msgspec.json.decode(text, type=_LineIndex).index
            if index is not None:
                self._offsets[index] = offset
            offset += len(text)

    def __iter__(self) -> Iterator[ReportRow]:
        for row, offset in enumerate(self._offsets):
            if offset == _NO_LINE:
                yield self._make_unsent_row(row)
            else:
                self._file.seek(offset)
                yield msgspec.json.decode(self._file.readline(), type=ReportRow)

    def _make_unsent_row(self, row: int) -> ReportRow:
        command = self._command_file[row]
        return ReportRow(
            line=self._command_file.line_number(row),
            index=row,
            chargebox=command.chargebox,
            connector=command.connector,
            verdict=Verdict.NOT_SENT,
            next_step="resend",
            transaction=command.transaction,
            ref=command.ref,
            message="the run ended before it was sent",
        )


class _LineIndex(msgspec.Struct, frozen=True):
    index: int | None = None
