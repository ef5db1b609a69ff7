"""Finds the transaction that a stop is meant for (`pin`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from .._errors import NotSentError, ThorError
from .._models import StopCharge
from .._protocol.lists import Chargebox
from .poller import RunningChargePoller
from .tracker import Snapshot

_KNOWN_FOR = 60.0

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
        self._listed_at = -_KNOWN_FOR

    async def find(self, command: StopCharge, since: float) -> StopCharge | NotSentError:
        """Returns the command with its transaction, or the reason why it cannot be sent.

        Only a list that was asked for at `since` or later proves that nothing runs there.
        """
        chargebox, connector = command.chargebox, command.connector
        snapshot = await self._poller.latest_showing(chargebox, connector, since)
        if not isinstance(snapshot, Snapshot):
            why = snapshot.message
            return NotSentError(f"the running list is not known: {why}", reason="pin")
        if snapshot is not self._latest:
            self._latest = snapshot
            self._known |= snapshot.chargeboxes
        there = snapshot.there(chargebox, connector)
        if len(there) > 1:
            return NotSentError("the running list has several charges there", reason="pin")
        if there:
            if there[0] is None:
                message = "the running list has no transaction number for the charge there"
                return NotSentError(message, reason="pin")
            return msgspec.structs.replace(command, transaction=there[0])
        if await self._is_known(chargebox):
            return NotSentError("no charge runs there", reason="not_running")
        return NotSentError(
            "the running list has no charge there, and may be another account's, because no list "
            "has ever had this chargebox: check read_url",
            reason="pin",
        )

    async def _is_known(self, chargebox: str) -> bool:
        """Whether any list has had this chargebox. If none has, its absence proves nothing."""
        async with self._lock:
            if chargebox not in self._known and self._loop.time() - self._listed_at >= _KNOWN_FOR:
                listed = await self._list_chargeboxes()
                # Not before: the next command asks again when this one is cancelled.
                self._listed_at = self._loop.time()
                if not isinstance(listed, ThorError):
                    self._known |= {chargebox.id for chargebox in listed}
        return chargebox in self._known
