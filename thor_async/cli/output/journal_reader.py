"""Reads the lines of a journal, and checks that it belongs to an input and to an address."""

from __future__ import annotations

from typing import BinaryIO

import msgspec

from ..errors import UsageError
from .resume import JournalLine, ResumeState


def read_resume_state(
    file: BinaryIO, name: str, digest: str | None = None, rows: int = 0
) -> tuple[ResumeState, int]:
    """Returns the state of the rows, and the size in bytes of the journal's complete lines.

    `digest` and `rows` are those of the input; without a digest, those of the first line are used.
    Raises UsageError if the file belongs to another input, or is not a journal.
    """
    resume_state = None if digest is None else ResumeState(rows)
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
        if resume_state is None:
            digest, rows = line.input or "", max(0, line.rows)
            resume_state = ResumeState(rows)
        _check_line(line, resume_state, name, digest or "")
        resume_state.add(line)
        size += len(text)
    resume_state = resume_state or ResumeState(0)
    resume_state.finish()
    if resume_state.runs and resume_state.first_started is None:
        # Without it, a repeat could stop a charge that began later.
        raise UsageError(f"{name} does not say when its first run started: give another --output")
    return resume_state, size


def check_address(resume_state: ResumeState, name: str, address: str) -> None:
    """Raises UsageError if a run of the journal sent its stops to another address."""
    for other in sorted(resume_state.addresses - {address}):
        raise UsageError(
            f"{name} is the journal of stops through {other}, not {address}: "
            "give that address, or another --output"
        )


def _check_line(line: JournalLine, resume_state: ResumeState, name: str, digest: str) -> None:
    rows = len(resume_state)
    is_start = line.verdict is None and line.ended is None
    if (is_start and line.input is None) or not (is_start or resume_state.runs):
        raise UsageError(f"{name} is not a journal of stop-many: give another --output")
    fits = (line.input, line.rows) == (digest, rows) if is_start else line.index < rows
    if not fits or (line.verdict is not None and line.index < 0):
        raise UsageError(
            f"{name} is the journal of another input: give that input, or another --output"
        )
