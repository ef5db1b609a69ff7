"""One complete list of the running charges, ready to be looked into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .._protocol.lists import UNPLACED, RunningCharge


class ListedCharge(NamedTuple):
    """A charge of a list. `started` is its `date_started` in epoch seconds, by Thor's clock.

    `transaction` is None when the list has no valid number for it. None also stands for a tag, a
    date or an energy (Wh) that the list does not tell. One that is not `is_placed` may be on any
    connector.
    """

    transaction: int | None
    id_tag: str | None = None
    started: float | None = None
    is_placed: bool = True
    energy: float | None = None


class Snapshot:
    """One complete list of the running charges.

    `begun` is the loop time, and `wall_time` the epoch second, at which it was asked for. `number`
    counts the complete lists of one poller.
    """

    def __init__(
        self,
        begun: float,
        charges: Iterable[RunningCharge] = (),
        *,
        wall_time: float = 0.0,
        number: int = 0,
    ) -> None:
        self.begun = begun
        self.wall_time = wall_time
        self.number = number
        self.chargeboxes: set[str] = set()
        self._there: dict[tuple[str, int], tuple[ListedCharge, ...]] = {}
        self._running: dict[tuple[str, int], ListedCharge] = {}
        self.add(charges)

    def add(self, charges: Iterable[RunningCharge]) -> None:
        """Adds rows: a long list is added in chunks."""
        for charge in charges:
            started = charge.date_started
            listed = ListedCharge(
                charge.transaction,
                charge.id_tag,
                None if started is None else started.timestamp(),
                charge.connector != UNPLACED,
                charge.energy,
            )
            place = charge.chargebox, charge.connector
            self._there[place] = (*self._there.get(place, ()), listed)
            if charge.transaction is not None:
                self._running[charge.chargebox, charge.transaction] = listed
            self.chargeboxes.add(charge.chargebox)

    def charges_at(self, chargebox: str, connector: int) -> Sequence[ListedCharge]:
        """Returns the charges that are, or may be, on that connector.

        More than one that is placed there is a list in disorder.
        """
        there = self._there.get((chargebox, connector), ())
        return there + self._there.get((chargebox, UNPLACED), ())

    def find(self, chargebox: str, transaction: int) -> ListedCharge | None:
        """Returns the charge with that number at the chargebox, on any connector."""
        return self._running.get((chargebox, transaction))
