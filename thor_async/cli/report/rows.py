"""The rows of a report, read from the output of a batch, and what is known of their charges."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import msgspec

from thor_async import NotInTransaction, Verdict

from ..input.command_file import CommandFile
from ..output.journal_reader import decode_line
from ..output.resume import ResumeState

_NO_LINE = 2**64 - 1
_PROVEN = {"stopped", "still_running", "refused"}
_UNSENT = "the run ended before it was sent"
_LOST = "the run ended before its outcome was written"


class Category(NamedTuple):
    """What is known of a charge, in words for the page."""

    label: str
    sentence: str
    is_over: bool = False


CATEGORIES = {
    "still_running": Category("still running", "The last complete running list shows the charge."),
    "refused": Category("refused", "Thor or the chargebox refused the stop."),
    "unknown": Category("unknown", "The stop may have been applied, but nothing proves it."),
    "relayed": Category(
        "relayed, not looked at",
        "Thor handed the stop on to the chargebox, which may still refuse it. It was not checked "
        "whether the charge ended.",
    ),
    "not_sent": Category("not sent", "No stop reached Thor."),
    "over": Category("over", "Thor says that the charge does not run. It was not proven.", True),
    "stopped": Category("stopped", "A notification or the running lists prove it.", True),
}
"""The categories of rows, in the order of the page."""


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
    stops_sent: int = 1

    @property
    def category(self) -> str:
        """The key in `CATEGORIES`: never better than what is known."""
        if self.state in _PROVEN:
            return self.state
        if self._is_over_for_thor():
            return "over"
        if self.verdict == Verdict.RELAYED and self.state is None:
            return "relayed"
        if self.verdict == Verdict.NOT_SENT and not self.maybe_applied:
            return "not_sent"
        if self.verdict == Verdict.REJECTED and not self.maybe_applied:
            return "refused"
        return "unknown"

    @property
    def may_still_charge(self) -> bool:
        """False only if the charge is known to be over."""
        return not CATEGORIES[self.category].is_over

    def _is_over_for_thor(self) -> bool:
        """Returns whether Thor's answer or its running list says that the charge does not run."""
        if self.next_step != "done":
            return False
        is_idle = self.verdict == Verdict.REJECTED and self.code == NotInTransaction.__name__
        return is_idle or self.verdict == Verdict.NOT_SENT


class ReportRows:
    """The rows of a command file, each with the last line that the output has for it.

    A row without a line was not sent, unless its run crashed, or `all_written` is False: some
    outcomes of the last run could not be written. Then it may have been sent, and its category is
    `unknown`. Every iteration reads the output again: in memory are some twenty bytes a
    row.
    """

    def __init__(
        self, file: IO[bytes], command_file: CommandFile, *, all_written: bool = True
    ) -> None:
        self._file, self._command_file, self._all_written = file, command_file, all_written
        self._offsets = array("Q", [_NO_LINE]) * len(command_file)
        self._resume_state = ResumeState(len(command_file))
        self._read_lines()

    def __iter__(self) -> Iterator[ReportRow]:
        for row, offset in enumerate(self._offsets):
            if offset == _NO_LINE:
                yield self._make_row_without_line(row)
                continue
            self._file.seek(offset)
            found = msgspec.json.decode(self._file.readline(), type=ReportRow)
            if self._resume_state.may_have_been_sent(row):
                found = msgspec.structs.replace(found, maybe_applied=True)
            yield found

    def _read_lines(self) -> None:
        offset = 0
        for text in self._file:
            line = decode_line(text)
            if line is None:
                self._resume_state.add_damage()
            else:
                self._resume_state.add(line)
                if line.verdict is not None:
                    self._offsets[line.index] = offset
            offset += len(text)
        self._resume_state.finish()

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
