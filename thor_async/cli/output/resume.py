"""What a journal says of the runs before: which rows are settled, and which may have been sent."""

from __future__ import annotations

from array import array
from typing import BinaryIO

import msgspec

from thor_async import DomainError, Verdict
from thor_async._errors import CODES

from ..errors import UsageError

_SEEN, _SETTLED, _UNKNOWN, _MAYBE = 1, 2, 4, 8


class Line(msgspec.Struct, frozen=True):
    """As much of a journal's line as has to be understood: a start, an outcome or an end."""

    input: str | None = None
    rows: int = 0
    index: int = -1
    verdict: Verdict | None = None
    code: str | None = None
    maybe_applied: bool = False
    ended: str | None = None


class ResumeState:
    """The state of every row, one byte each, after the runs that a journal tells of."""

    def __init__(self, rows: int) -> None:
        self._states = bytearray(rows)
        self._is_open = False
        self.runs = 0

    def add(self, line: Line) -> None:
        """Takes in the next line."""
        if line.verdict is not None:
            self._note(line)
        elif line.ended is not None:
            self._is_open = False
        else:
            self.close()
            self._is_open = True
            self.runs += 1
            self._states = bytearray(state & ~_SEEN for state in self._states)

    def close(self) -> None:
        """After the last line, or before a start: whatever that run did not tell, it may have done.

        Without the line of its end, a run was cut off: any row that it had not settled may have
        been on the wire.
        """
        if self._is_open:
            self._states = bytearray(
                state if state & (_SEEN | _SETTLED) else state | _MAYBE for state in self._states
            )
        self._is_open = False

    def pending(self, *, resend_unknown: bool = False) -> array[int]:
        """The rows to send: neither relayed, nor refused by a domain error, nor indeterminate."""
        out = _SETTLED if resend_unknown else _SETTLED | _UNKNOWN
        return array("Q", (row for row, state in enumerate(self._states) if not state & out))

    def may_have_been_sent(self, row: int) -> bool:
        """Whether an earlier run may have stopped it, for all that its journal tells."""
        return bool(self._states[row] & _MAYBE)

    def _note(self, line: Line) -> None:
        # What may have been sent before a run is in the lines of that run.
        state = _SEEN | (_MAYBE if line.maybe_applied else 0)
        error = CODES.get(line.code or "", object)
        if line.verdict is Verdict.RELAYED or (
            line.verdict is Verdict.REJECTED and issubclass(error, DomainError)
        ):
            state |= _SETTLED
        elif line.verdict is Verdict.INDETERMINATE:
            state |= _UNKNOWN
        self._states[line.index] = state


def read_resume_state(file: BinaryIO, name: str, digest: str, rows: int) -> tuple[ResumeState, int]:
    """The past, and the length of the journal without a torn last line.

    Raises BadInput if it belongs to another input, or is no journal.
    """
    past = ResumeState(rows)
    whole = 0
    for number, text in enumerate(file, 1):
        try:
            line = msgspec.json.decode(text, type=Line)
            if not text.endswith(b"\n"):
                break
        except ValueError:
            if not _is_last(file):
                raise UsageError(
                    f"{name} line {number}: no line of a journal: give its own"
                ) from None
            break
        _check(line, past, name, digest, rows)
        past.add(line)
        whole += len(text)
    past.close()
    return past, whole


def _is_last(file: BinaryIO) -> bool:
    return not file.read(1)


def _check(line: Line, past: ResumeState, name: str, digest: str, rows: int) -> None:
    is_start = line.verdict is None and line.ended is None
    if (is_start and line.input is None) or not (is_start or past.runs):
        raise UsageError(f"{name} is no journal of stop-many: give another --output")
    is_ours = (line.input, line.rows) == (digest, rows) if is_start else line.index < rows
    if not is_ours or (line.verdict is not None and line.index < 0):
        raise UsageError(
            f"{name} is the journal of another input: give that one, or another --output"
        )
