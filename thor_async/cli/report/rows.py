"""What the output of a batch tells of each row, read back for a report."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from thor_async import Verdict

from ..input.command_file import CommandFile

_NOWHERE = 2**64 - 1


class ReportRow(msgspec.Struct, frozen=True):
    """One row: its charge, and what came of it."""

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
        """What the watch saw, if it was watched, else the verdict."""
        return self.state or self.verdict

    @property
    def may_still_charge(self) -> bool:
        """Unless it is over, or Thor has handed the stop on and nobody looked."""
        return self.next_step != "done"


class ReportRows:
    """The last line of every row; those without one were not sent.

    Kept are eight bytes a row, the places of these lines in the file.
    """

    def __init__(self, file: IO[bytes], fleet: CommandFile) -> None:
        self._file, self._fleet = file, fleet
        self._places = array("Q", [_NOWHERE]) * len(fleet)
        place = 0
        for text in file:
            index = msgspec.json.decode(text, type=_Line).index
            if index is not None:
                self._places[index] = place
            place += len(text)

    def __iter__(self) -> Iterator[ReportRow]:
        for row, place in enumerate(self._places):
            if place == _NOWHERE:
                yield self._unsent(row)
            else:
                self._file.seek(place)
                yield msgspec.json.decode(self._file.readline(), type=ReportRow)

    def _unsent(self, row: int) -> ReportRow:
        command = self._fleet[row]
        return ReportRow(
            line=self._fleet.line(row),
            index=row,
            chargebox=command.chargebox,
            connector=command.connector,
            verdict=Verdict.NOT_SENT,
            next_step="resend",
            transaction=command.transaction,
            ref=command.ref,
            message="the run ended before it",
        )


class _Line(msgspec.Struct, frozen=True):
    index: int | None = None
