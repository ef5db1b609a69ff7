"""What a journal tells beside the last outcomes: its runs, and the time of every outcome."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

import msgspec

from .rows import CATEGORIES, ReportRow

_NUMBERS = {category: number for number, category in enumerate(CATEGORIES)}
_NAMES = tuple(CATEGORIES)


class Run(msgspec.Struct):
    """One run: its start line, and what its end line says. Older journals tell less.

    `ended` is None for a run that crashed, or that could not write all outcomes.
    """

    started: datetime | None = None
    run: str | None = None
    operator: str | None = None
    machine: str | None = None
    command: str | None = None
    version: str | None = None
    address: str | None = None
    lists: str | None = None
    left_out_rows: list[str] = []
    outcomes: int = 0
    ended: datetime | None = None
    failure: str | None = None


class History:
    """The runs of a journal, and the time and the category of each outcome: nine bytes."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._times, self._categories = array("d"), array("B")

    @classmethod
    def from_rows(cls, rows: Iterable[ReportRow]) -> History:
        """Returns the history of rows without a journal."""
        history = cls()
        for row in rows:
            history.add_outcome(row)
        return history

    def add_start(self, line: bytes) -> None:
        self.runs.append(msgspec.json.decode(line, type=Run))

    def add_end(self, line: bytes) -> None:
        end = msgspec.json.decode(line, type=Run)
        if self.runs:
            self.runs[-1].ended, self.runs[-1].failure = end.ended, end.failure

    def add_outcome(self, row: ReportRow) -> None:
        if self.runs:
            self.runs[-1].outcomes += 1
        if row.at is not None:
            self._times.append(row.at.timestamp())
            self._categories.append(_NUMBERS[row.category])

    @property
    def outcomes(self) -> Iterable[tuple[float, str]]:
        """The epoch second and the category of each outcome."""
        return zip(self._times, map(_NAMES.__getitem__, self._categories), strict=True)

    @property
    def began(self) -> datetime | None:
        """The begin of the first run; without it, the time of the first outcome."""
        if self.runs and self.runs[0].started is not None:
            return self.runs[0].started
        return _from_seconds(min(self._times)) if self._times else None

    @property
    def ended(self) -> datetime | None:
        """The end of the last run; None if it did not end."""
        return self.runs[-1].ended if self.runs else None

    @property
    def zone(self) -> timezone:
        """The offset of this machine's time from UTC at the begin: one for the whole page."""
        began = self.began or datetime.now().astimezone()
        return timezone(began.astimezone().utcoffset() or timedelta())


def _from_seconds(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()
