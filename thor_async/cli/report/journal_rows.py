"""The rows of a report, read from the output of a batch."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import IO

import msgspec

from thor_async import Verdict

from ..input.command_file import CommandFile
from ..output.journal_reader import decode_line
from ..output.resume import JournalLine, ResumeState
from .history import History
from .rows import ReportRow

_NO_LINE = 2**64 - 1
_UNSENT = "the run ended before it was sent"
_LOST = "the run ended before its outcome was written"


class ReportRows:
    """The rows of a command file, each with the last line that the output has for it.

    A row without a line was not sent, unless its run crashed, or `all_written` is False: some
    outcomes of the last run could not be written. Then it may have been sent, and its category is
    `unknown`. Every access reads the output again: in memory are some thirty bytes a row. `history`
    is that of the whole output.
    """

    def __init__(
        self, file: IO[bytes], command_file: CommandFile, *, all_written: bool = True
    ) -> None:
        self._file, self._command_file, self._all_written = file, command_file, all_written
        self._offsets = array("Q", [_NO_LINE]) * len(command_file)
        self._resume_state = ResumeState(len(command_file))
        self.history: History = History()
        self._read_lines()

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[ReportRow]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, row: int) -> ReportRow:
        offset = self._offsets[row]
        if offset == _NO_LINE:
            return self._make_row_without_line(row)
        self._file.seek(offset)
        found = msgspec.json.decode(self._file.readline(), type=ReportRow)
        if self._resume_state.may_have_been_sent(row):
            found = msgspec.structs.replace(found, maybe_applied=True)
        return found

    def _read_lines(self) -> None:
        offset = 0
        for text in self._file:
            line = decode_line(text)
            if line is None:
                self._resume_state.add_damage()
            else:
                self._resume_state.add(line)
                self._add_to_history(line, text)
                if line.verdict is not None:
                    self._offsets[line.index] = offset
            offset += len(text)
        self._resume_state.finish()

    def _add_to_history(self, line: JournalLine, text: bytes) -> None:
        if line.verdict is not None:
            self.history.add_outcome(msgspec.json.decode(text, type=ReportRow))
        elif line.ended is not None:
            self.history.add_end(text)
        elif line.damaged is None:
            self.history.add_start(text)

    def _make_row_without_line(self, row: int) -> ReportRow:
        command = self._command_file[row]
        maybe_sent = not self._all_written or self._resume_state.may_have_been_sent(row)
        can_repeat = not maybe_sent or command.transaction is not None
        return ReportRow(
            line=self._command_file.line_number(row),
            index=row,
            chargebox=command.chargebox,
            connector=command.connector,
            verdict=Verdict.NOT_SENT,
            next_step="resend" if can_repeat else "check",
            transaction=command.transaction,
            ref=command.ref,
            message=_LOST if maybe_sent else _UNSENT,
            maybe_applied=maybe_sent,
        )
