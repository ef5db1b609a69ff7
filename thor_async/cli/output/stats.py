"""What is counted of a batch while it runs; its size does not depend on the batch's."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import NamedTuple

from thor_async import NotSentError

from ..stop_results import Result

_SLOWEST = 3


class Kind(NamedTuple):
    """Outcomes that are alike to whoever acts on them."""

    verdict: str
    code: str
    state: str
    next_step: str


class Slow(NamedTuple):
    """One of the outcomes that took longest."""

    elapsed: float
    row: int
    where: str


class BatchStats:
    """Counts of the outcomes so far, and the slowest of them."""

    def __init__(self) -> None:
        self.kinds: Counter[Kind] = Counter()
        self._slowest: list[Slow] = []

    def add(self, result: Result, row: int) -> None:
        """Counts one, the result of that row of the file."""
        outcome = result.outcome
        self.kinds[_kind(result)] += 1
        command = outcome.command
        where = f"chargebox {command.chargebox!r} connector {command.connector}"
        heapq.heappush(self._slowest, Slow(outcome.elapsed, row, where))
        if len(self._slowest) > _SLOWEST:
            heapq.heappop(self._slowest)

    @property
    def total(self) -> int:
        return self.kinds.total()

    @property
    def slowest(self) -> list[Slow]:
        """At most three, the slowest first."""
        return sorted(self._slowest, reverse=True)

    def verdicts(self) -> str:
        """As `20 relayed, 3 rejected`."""
        return self._sum_up("verdict")

    def states(self) -> str:
        """As `20 stopped`; empty when nothing was watched."""
        return self._sum_up("state")

    def steps(self) -> str:
        """As `20 done, 3 fix`."""
        return self._sum_up("next_step")

    def count(self, **fields: str) -> int:
        """How many there are with these words in these fields of their kind."""
        wanted = fields.items()
        return sum(count for kind, count in self.kinds.items() if wanted <= kind._asdict().items())

    def _sum_up(self, name: str) -> str:
        counts: Counter[str] = Counter()
        for kind, count in self.kinds.items():
            counts[getattr(kind, name)] += count
        return ", ".join(f"{count:,} {word}" for word, count in counts.most_common() if word)


def _kind(result: Result) -> Kind:
    """Without a code of Thor's, the kind of error stands for it."""
    error = result.outcome.error
    code = ""
    if isinstance(error, NotSentError):
        code = error.reason
    elif error is not None:
        code = error.code or type(error).__name__
    return Kind(result.outcome.verdict.value, code, result.state, result.next_step)
