"""Statistics of a running batch; their size does not depend on the number of rows."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..stop_results import StopResult

_SLOWEST = 3


class Kind(NamedTuple):
    """What outcomes have in common that need the same action."""

    verdict: str
    code: str
    state: str
    next_step: str


class SlowOutcome(NamedTuple):
    """One of the slowest outcomes; `elapsed` is in seconds."""

    elapsed: float
    row: int
    connector: str


class BatchStats:
    """Counts the outcomes of each kind, and keeps the slowest outcomes."""

    def __init__(self) -> None:
        self.kinds: Counter[Kind] = Counter()
        self._slowest: list[SlowOutcome] = []

    def add(self, result: StopResult, row: int) -> None:
        """Counts the result of a row of the file."""
        self.kinds[_kind(result)] += 1
        outcome, command = result.outcome, result.outcome.command
        connector = f"chargebox {command.chargebox!r} connector {command.connector}"
        heapq.heappush(self._slowest, SlowOutcome(outcome.elapsed, row, connector))
        if len(self._slowest) > _SLOWEST:
            heapq.heappop(self._slowest)

    @property
    def total(self) -> int:
        return self.kinds.total()

    @property
    def slowest(self) -> list[SlowOutcome]:
        """At most three outcomes, the slowest first."""
        return sorted(self._slowest, reverse=True)

    def count(self, **fields: str) -> int:
        """Returns the number of outcomes whose kind has these fields."""
        expected = fields.items()
        return sum(
            count for kind, count in self.kinds.items() if expected <= kind._asdict().items()
        )

    def format_counts(self, field: str) -> str:
        """Returns the counts by a field of `Kind`, as `20 relayed, 3 rejected`.

        Outcomes with an empty field are left out.
        """
        return format_counts(self.kinds, field)


def format_counts(kinds: Counter[Kind], field: str) -> str:
    """Returns the counts by a field of `Kind`, as `20 relayed, 3 rejected`.

    Kinds with an empty field are left out.
    """
    counts: Counter[str] = Counter()
    for kind, count in kinds.items():
        counts[getattr(kind, field)] += count
    return ", ".join(f"{count:,} {value}" for value, count in counts.most_common() if value)


def _kind(result: StopResult) -> Kind:
    return Kind(result.outcome.verdict.value, result.reason, result.state, result.next_step)
