"""Reads from a journal what earlier runs did: settled rows, and rows that may have been sent."""

from __future__ import annotations

from array import array
from typing import BinaryIO

import msgspec

from thor_async import DomainError, Verdict
from thor_async._errors import CODES

from ..errors import UsageError

# Flags of a row; `_HAS_OUTCOME` is about the latest run only.
_HAS_OUTCOME, _SETTLED, _UNKNOWN, _MAYBE_SENT = 1, 2, 4, 8


class JournalLine(msgspec.Struct, frozen=True):
    """The fields of a journal line that are needed here; it is a start, an outcome or an end."""

    input: str | None = None
    rows: int = 0
    index: int = -1
    verdict: Verdict | None = None
    code: str | None = None
    maybe_applied: bool = False
    ended: str | None = None


class ResumeState:
    """The state of every row after the runs in a journal, one byte for each row.

    `add` takes all lines in order; `finish` must follow the last line.
    """

    def __init__(self, rows: int) -> None:
        self._states = bytearray(rows)
        self._run_is_open = False
        self.runs = 0

    def add(self, line: JournalLine) -> None:
        """Adds the next line."""
        if line.verdict is not None:
            self._add_outcome(line)
        elif line.ended is not None:
            self._run_is_open = False
        else:
            self.finish()
            self._run_is_open = True
            self.runs += 1
            self._states = bytearray(state & ~_HAS_OUTCOME for state in self._states)

    def finish(self) -> None:
        """Marks the unsettled rows of a crashed run as possibly sent.

        A run without an end line crashed: a row without an outcome may have been in flight.
        """
        if self._run_is_open:
            self._states = bytearray(
                state if state & (_HAS_OUTCOME | _SETTLED) else state | _MAYBE_SENT
                for state in self._states
            )
        self._run_is_open = False

    def pending(self, *, resend_unknown: bool = False) -> array[int]:
        """Returns the rows to send: not relayed, not refused by a domain error, not indeterminate.

        `resend_unknown` adds the indeterminate rows.
        """
        excluded = _SETTLED if resend_unknown else _SETTLED | _UNKNOWN
        return array("Q", (row for row, state in enumerate(self._states) if not state & excluded))

    def may_have_been_sent(self, row: int) -> bool:
        """Returns whether an earlier run may have stopped the charge of this row."""
        return bool(self._states[row] & _MAYBE_SENT)

    def _add_outcome(self, line: JournalLine) -> None:
        # Replaces the flags: `maybe_applied` of a line includes the runs before its own.
        state = _HAS_OUTCOME | (_MAYBE_SENT if line.maybe_applied else 0)
        error = CODES.get(line.code or "", object)
        if line.verdict is Verdict.RELAYED or (
            line.verdict is Verdict.REJECTED and issubclass(error, DomainError)
        ):
            state |= _SETTLED
        elif line.verdict is Verdict.INDETERMINATE:
            state |= _UNKNOWN
        self._states[line.index] = state


def read_resume_state(file: BinaryIO, name: str, digest: str, rows: int) -> tuple[ResumeState, int]:
    """Returns the state of the rows, and the size in bytes of the journal's complete lines.

    `digest` and `rows` are those of the input. Raises UsageError if the file belongs to another
    input, or is not a journal.
    """
    resume_state = ResumeState(rows)
    size = 0
    for number, text in enumerate(file, 1):
        try:
            line = msgspec.json.decode(text, type=JournalLine)
            if not text.endswith(b"\n"):
                break
        except ValueError:
            if file.read(1):
                raise UsageError(
                    f"{name} line {number}: not a line of a journal: give the journal of this input"
                ) from None
            break
        _check_line(line, resume_state, name, digest, rows)
        resume_state.add(line)
        size += len(text)
    resume_state.finish()
    return resume_state, size


def _check_line(
    line: JournalLine, resume_state: ResumeState, name: str, digest: str, rows: int
) -> None:
    is_start = line.verdict is None and line.ended is None
    if (is_start and line.input is None) or not (is_start or resume_state.runs):
        raise UsageError(f"{name} is not a journal of stop-many: give another --output")
    fits = (line.input, line.rows) == (digest, rows) if is_start else line.index < rows
    if not fits or (line.verdict is not None and line.index < 0):
        raise UsageError(
            f"{name} is the journal of another input: give that input, or another --output"
        )
