"""A stop and what came of it at the chargebox; and the transaction that a stop is pinned to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from .._dispatch.dispatcher import Dispatcher
from .._errors import NotSentError, ThorError
from .._inputs import check_command
from .._models import StopCharge, StopOutcome
from .._protocol.lists import Chargebox
from .._stop import StopOperation
from .poller import RunningChargePoller
from .tracker import ChargeTracker, Confirmation, Snapshot, is_watched

T = TypeVar("T")

_KNOWN_FOR = 60.0

ListChargeboxes = Callable[[], Awaitable[list[Chargebox] | ThorError]]


class TransactionResolver:
    """Fills in which transaction a stop is meant for, from one look for many commands."""

    def __init__(self, lookout: RunningChargePoller, list_chargeboxes: ListChargeboxes) -> None:
        self._lookout = lookout
        self._list_chargeboxes = list_chargeboxes
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._known: set[str] = set()
        self._asked = -_KNOWN_FOR

    async def find(self, command: StopCharge, since: float) -> StopCharge | NotSentError:
        """The command with its transaction, or why it is not to be sent.

        That nothing runs there is only told by a list that was asked for at `since` or later.
        """
        snapshot = await self._lookout.showing(command.chargebox, command.connector, since)
        if not isinstance(snapshot, Snapshot):
            why = snapshot.message if snapshot else "broken off"
            return NotSentError(f"the running list is not known: {why}", reason="pin")
        self._known |= snapshot.chargeboxes()
        there = snapshot.there(command.chargebox, command.connector)
        if len(there) == 1:
            return msgspec.structs.replace(command, transaction=there[0])
        if there:
            return NotSentError("the running list has several charges there", reason="pin")
        if await self._is_ours(command.chargebox):
            return NotSentError("no charge runs there", reason="not_running")
        return NotSentError(
            "the running list has no charge there, and may be another account's, as nothing of "
            "this chargebox was ever seen: check read_url",
            reason="pin",
        )

    async def _is_ours(self, chargebox: str) -> bool:
        """Whether Thor's lists have ever had this chargebox; else they prove nothing of it."""
        async with self._lock:
            if chargebox not in self._known and self._loop.time() - self._asked >= _KNOWN_FOR:
                self._asked = self._loop.time()
                listed = await self._list_chargeboxes()
                if not isinstance(listed, ThorError):
                    self._known |= {chargebox.id for chargebox in listed}
        return chargebox in self._known


class ConfirmOperation(msgspec.Struct, frozen=True):
    """How the stops of a call, or a batch, are pinned to a transaction and watched to their end.

    `begun` is the loop time at which the call or the batch was made.
    """

    call: StopOperation
    lookout: RunningChargePoller
    pins: TransactionResolver
    begun: float

    async def stop_pinned(
        self, lane: Dispatcher, index: int, command: StopCharge, timeout: float
    ) -> StopOutcome:
        """The outcome of one command within so many seconds, with its transaction filled in."""
        check_command(command, index)
        loop = asyncio.get_running_loop()
        started = loop.time()
        ready = await self._pinned(lane, index, command, min(started + timeout, lane.until))
        if isinstance(ready, StopOutcome):
            return ready
        return await self.call.run(lane, index, ready, started + timeout - loop.time())

    async def confirm(  # noqa: PLR0917 - one more than the others
        self,
        lane: Dispatcher,
        index: int,
        command: StopCharge,
        timeout: float,
        within: float,
        pin: bool,
    ) -> Confirmation:
        """What is proven within so many seconds of one command, of which one stop is made."""
        check_command(command, index)
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        watch = ChargeTracker(command)
        async with self.lookout.watching(watch):
            there = command.chargebox, command.connector
            look = self.lookout.showing(*there, self.begun)
            await _guarded(lane, lane.wait(look, min(until, self.lookout.patience())))
            ready: StopCharge | StopOutcome = command
            if pin:
                ready = await self._pinned(lane, index, command, min(until, lane.until))
            if isinstance(ready, StopOutcome):
                return watch.conclude(ready)
            watch.sent()
            outcome = await self.call.run(lane, index, ready, min(timeout, until - loop.time()))
            if is_watched(outcome):
                watch.answered(outcome, loop.time())
                await _guarded(lane, lane.stay(lambda: self.lookout.until_proven(watch, until)))
            return watch.conclude(outcome)

    async def _pinned(
        self, lane: Dispatcher, index: int, command: StopCharge, until: float
    ) -> StopCharge | StopOutcome:
        if command.transaction is not None:
            return command
        loop = asyncio.get_running_loop()
        started = loop.time()
        found = await _guarded(lane, lane.wait(self.pins.find(command, self.begun), until))
        if isinstance(found, StopCharge):
            return found
        error = found or lane.refusal()
        return self.call.leave_out(command, index, error, loop.time() - started)


async def _guarded(lane: Dispatcher, work: Awaitable[T]) -> T | None:
    """Its result; None if it fails in a batch, whose other outcomes must still be told."""
    try:
        return await work
    except (Exception, asyncio.CancelledError) as failure:
        if not lane.is_batch:
            raise
        lane.fail(failure)
    return None
