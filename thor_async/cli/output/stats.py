"""Statistics of a running batch; their size does not depend on the number of rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..stop_results import StopResult


class Kind(NamedTuple):
    """What outcomes have in common that need the same action."""

    verdict: str
    code: str
    state: str
    next_step: str


class BatchStats:
    """Counts the outcomes of each kind."""

    def __init__(self) -> None:
        self.kinds: Counter[Kind] = Counter()

    def add(self, result: StopResult) -> None:
        self.kinds[_kind(result)] += 1

    @property
    def total(self) -> int:
        return self.kinds.total()

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
