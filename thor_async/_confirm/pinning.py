"""Finds the transaction that a stop is meant for (`pin`)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from .._errors import NotSentError, ThorError
from .._models import StopCharge
from .._protocol.lists import Chargebox
from .poller import RunningChargePoller
from .snapshot import ListedCharge, Snapshot
from .tracker import CLOCK_MARGIN, LONGEST_LAG

_KNOWN_FOR = 60.0
_FIRST_BACKOFF, _BACKOFF_GROWTH, _LONGEST_BACKOFF = 2.0, 2.0, 60.0
# One wrong header must not end all pins for years.
_LONGEST_RETRY_AFTER = 3600.0

ListChargeboxes = Callable[[], Awaitable[list[Chargebox] | ThorError]]


class TransactionResolver:
    """Finds the transactions of commands that have none, with one list for many commands."""

    def __init__(self, poller: RunningChargePoller, list_chargeboxes: ListChargeboxes) -> None:
        self._poller = poller
        self._list_chargeboxes = list_chargeboxes
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._known: set[str] = set()
        self._latest: Snapshot | None = None
        self._ask_from = -math.inf
        self._backoff = _FIRST_BACKOFF
        self._failure: ThorError | None = None

    async def find(
        self, command: StopCharge, since: float, *, proves_end: bool = True
    ) -> StopCharge | NotSentError:
        """Returns the command with its transaction, or the reason why it cannot be sent.

        The charge that is meant had begun by loop time `since`, or by the command's `as_of`. That
        it is over is only proven by two complete lists in a row, which began longer after that than
        a list may lag. Without `proves_end` these are not waited for.
        """
        earliest, absences, last = since, 0, 0
        while True:
            snapshot = await self._poller.latest_showing(
                command.chargebox, command.connector, earliest
            )
            if not isinstance(snapshot, Snapshot):
                why = f"the running list is not known: {snapshot.message}"
                return NotSentError(why, reason="pin", cause=snapshot)
            if snapshot is not self._latest:
                self._latest = snapshot
                self._known |= snapshot.chargeboxes
            there = snapshot.charges_at(command.chargebox, command.connector)
            meant_at = snapshot.wall_time - (snapshot.begun - since)
            if there:
                return _choose_placed(command, there, meant_at)
            if not proves_end:
                return _cannot_pin("the running list has no charge there")
            if not await self.is_known(command.chargebox):
                return self._why_unknown()
            begun_by = since
            if command.as_of is not None:
                age = snapshot.wall_time - command.as_of.timestamp()
                begun_by = min(since, snapshot.begun - age + CLOCK_MARGIN)
            if snapshot.begun >= begun_by + LONGEST_LAG:
                # In a row: no list in between, which may have shown it, was missed.
                absences = absences + 1 if snapshot.number == last + 1 else 1
                last = snapshot.number
            if absences == 2:
                return NotSentError("no charge runs there", reason="not_running")
            earliest = max(begun_by + LONGEST_LAG, math.nextafter(snapshot.begun, math.inf))

    async def is_known(self, chargebox: str) -> bool:
        """Whether any list has had this chargebox. If none has, its absence proves nothing."""
        async with self._lock:
            if chargebox not in self._known and self._loop.time() >= self._ask_from:
                # Nothing is noted before: the next command asks again when this one is cancelled.
                self._take(await self._list_chargeboxes())
        return chargebox in self._known

    def _take(self, listed: list[Chargebox] | ThorError) -> None:
        """Takes in a list of chargeboxes, and decides when to ask for the next."""
        if isinstance(listed, ThorError):
            asked = min(listed.retry_after or 0.0, _LONGEST_RETRY_AFTER)
            self._failure = listed
            self._ask_from = self._loop.time() + max(self._backoff, asked)
            self._backoff = min(self._backoff * _BACKOFF_GROWTH, _LONGEST_BACKOFF)
        else:
            self._failure = None
            self._ask_from = self._loop.time() + _KNOWN_FOR
            self._backoff = _FIRST_BACKOFF
            self._known |= {chargebox.id for chargebox in listed}

    def _why_unknown(self) -> NotSentError:
        if self._failure is not None:
            why = f"the list of chargeboxes is not known: {self._failure.message}"
            return NotSentError(why, reason="pin", cause=self._failure)
        return _cannot_pin(
            "the running list has no charge there, and may be another account's, because "
            "no list has ever had this chargebox: check read_url"
        )


def _choose_placed(
    command: StopCharge, there: Sequence[ListedCharge], meant_at: float
) -> StopCharge | NotSentError:
    """Returns as `_choose` for the only charge that is certainly there."""
    placed = [charge for charge in there if charge.is_placed]
    if len(placed) > 1:
        return _cannot_pin("the running list has several charges there")
    if not placed:
        return _cannot_pin("the running list does not tell on which connector of it a charge runs")
    return _choose(command, placed[0], meant_at)


def _choose(
    command: StopCharge, charge: ListedCharge, meant_at: float
) -> StopCharge | NotSentError:
    """Returns the command with the transaction of the charge there, if that one is meant.

    Without an `as_of` the command is meant at epoch second `meant_at`.
    """
    if charge.transaction is None:
        return _cannot_pin("the running list has no transaction number for the charge there")
    if charge.id_tag is not None and charge.id_tag.casefold() != command.id_tag.casefold():
        return _cannot_pin("the running list has a charge of another id_tag there")
    pinned = msgspec.structs.replace(command, transaction=charge.transaction)
    if command.as_of is not None:
        return _check_begin(pinned, command.as_of.timestamp(), charge.started)
    if charge.started is not None and charge.started > meant_at + CLOCK_MARGIN:
        # Not "over": this machine's clock may be slow, and nobody gave it as a limit.
        return _cannot_pin("the charge there began after the call")
    return pinned


def _check_begin(
    pinned: StopCharge, as_of: float, started: float | None
) -> StopCharge | NotSentError:
    """Returns the command if its charge began before epoch second `as_of`, by Thor's clock."""
    if started is None:
        return _cannot_pin("the running list does not tell when the charge there began")
    if abs(started - as_of) <= CLOCK_MARGIN:
        return _cannot_pin("the charge there began within 2 s of as_of")
    if started > as_of:
        message = "the charge that was meant is over: the one there began after as_of"
        return NotSentError(message, reason="not_running")
    return pinned


def _cannot_pin(why: str) -> NotSentError:
    return NotSentError(why, reason="pin")
