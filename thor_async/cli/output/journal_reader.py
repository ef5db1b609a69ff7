"""Reads the lines of a journal, and checks that it belongs to an input and to an address."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

import msgspec

from ..errors import UsageError
from .resume import JournalLine, ResumeState


class Damage(NamedTuple):
    """A line that cannot be read, with lines after it: its number, its place and its bytes."""

    number: int
    start: int
    text: bytes

    def describe(self, name: str) -> str:
        repair = "stop-many --resume --repair goes on: it takes what has no outcome for maybe sent"
        nul_bytes = self.text.count(0)
        if nul_bytes:
            return (
                f"{name} line {self.number}: {nul_bytes:,} NUL bytes in place of outcomes, as "
                f"after a power failure: {repair}"
            )
        return (
            f"{name} line {self.number}: not a line of a journal: give the journal of this input; "
            f"if this is it, {repair}"
        )

    def replacement(self) -> bytes:
        """Returns a line of the same length that says how many bytes were lost."""
        line = msgspec.json.encode({"damaged": len(self.text)})
        return line.ljust(len(self.text) - 1) + b"\n"


def read_resume_state(
    file: BinaryIO,
    name: str,
    digest: str | None = None,
    rows: int = 0,
    *,
    damages: list[Damage] | None = None,
) -> tuple[ResumeState, int]:
    """Returns the state of the rows, and the size in bytes of the journal's complete lines.

    `digest` and `rows` are those of the input; without a digest, those of the first line are used.
    `damages` gets the damaged lines; without it, they are errors. Raises UsageError if the file
    belongs to another input, or is not a journal.
    """
    resume_state = None if digest is None else ResumeState(rows)
    size = position = 0
    torn: Damage | None = None
    for number, text in enumerate(file, 1):
        if torn is not None:
            # Not the last line, which a crash may have cut short.
            _add_damage(resume_state, torn, name, damages)
        line = decode_line(text)
        torn = Damage(number, position, text) if line is None else None
        position += len(text)
        if line is None:
            continue
        if resume_state is None:
            digest, rows = line.input or "", max(0, line.rows)
            resume_state = ResumeState(rows)
        _check_line(line, resume_state, name, digest or "")
        resume_state.add(line)
        size = position
    resume_state = resume_state or ResumeState(0)
    resume_state.finish()
    if resume_state.runs and resume_state.first_started is None:
        # Without it, a repeat could stop a charge that began later.
        raise UsageError(f"{name} does not say when its first run started: give another --output")
    return resume_state, size


def decode_line(text: bytes) -> JournalLine | None:
    """Returns a line of a journal, or None for one that is damaged or not complete."""
    if not text.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(text, type=JournalLine)
    except ValueError:
        return None


def check_address(resume_state: ResumeState, name: str, address: str) -> None:
    """Raises UsageError if a run of the journal sent its stops to another address."""
    for other in sorted(resume_state.addresses - {address}):
        raise UsageError(
            f"{name} is the journal of stops through {other}, not {address}: "
            "give that address, or another --output"
        )


def _add_damage(
    resume_state: ResumeState | None, damage: Damage, name: str, damages: list[Damage] | None
) -> None:
    if resume_state is None or not resume_state.runs:
        raise UsageError(
            f"{name} line {damage.number}: not a line of a journal: give the journal of this input"
        )
    if damages is None or len(damage.replacement()) > len(damage.text):
        raise UsageError(damage.describe(name))
    damages.append(damage)
    resume_state.add_damage()


def _check_line(line: JournalLine, resume_state: ResumeState, name: str, digest: str) -> None:
    rows = len(resume_state)
    is_start = line.verdict is None and line.ended is None and line.damaged is None
    if (is_start and line.input is None) or not (is_start or resume_state.runs):
        raise UsageError(f"{name} is not a journal of stop-many: give another --output")
    fits = (line.input, line.rows) == (digest, rows) if is_start else line.index < rows
    if not fits or (line.verdict is not None and line.index < 0):
        raise UsageError(
            f"{name} is the journal of another input: give that input, or another --output"
        )
