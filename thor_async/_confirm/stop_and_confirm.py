"""Stops that are pinned to a transaction, or watched until it is proven what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import msgspec

from .._config import check_command
from .._dispatch.dispatcher import Dispatcher
from .._errors import Verdict
from .._models import StopCharge, StopOutcome
from .._stop import FindTransaction, StopOperation
from .pinning import TransactionResolver
from .poller import RunningChargePoller
from .tracker import ChargeTracker, Confirmation, is_worth_watching

T = TypeVar("T")


class ConfirmOperation(msgspec.Struct, frozen=True):
    """Makes the pinned and the watched stops of a call, or of a batch.

    With `pins_retries`, no retry can stop a later charge: after a try that may have been applied, a
    command without a transaction is only sent again when the running list tells which charge it
    means.
    """

    stops: StopOperation
    poller: RunningChargePoller
    resolver: TransactionResolver
    pins_retries: bool = False

    def stop(
        self, dispatcher: Dispatcher, index: int, command: StopCharge, timeout: float, pin: bool
    ) -> Awaitable[StopOutcome]:
        """Stops one charge in `timeout` seconds, pinned if `pin` or the command asks for it."""
        if pin or getattr(command, "as_of", None) is not None:
            return self._stop_pinned(dispatcher, index, command, timeout)
        if not self.pins_retries:
            return self.stops.run(dispatcher, index, command, timeout)
        find = self._find_for_retry(dispatcher)
        return self.stops.run(dispatcher, index, command, timeout, find_transaction=find)

    async def confirm(  # noqa: PLR0917 - one more than the others
        self,
        dispatcher: Dispatcher,
        index: int,
        command: StopCharge,
        timeout: float,
        within: float,
        pin: bool,
    ) -> Confirmation:
        """Sends one stop, then watches its charge for up to `within` seconds from now."""
        check_command(command, index)
        started = dispatcher.time()
        until = started + within
        tracker = ChargeTracker(command, started)
        async with self.poller.track(tracker):
            # A list from before the stop shows which charge is meant. The stop does not wait long.
            look = self.poller.wait_before_stop(command.chargebox, command.connector, started)
            await end_batch_on_failure(dispatcher, dispatcher.wait_unpermitted(look, until))
            pinned: StopCharge | StopOutcome = command
            if pin or command.as_of is not None:
                end = min(until, dispatcher.until)
                pinned = await self._pin(dispatcher, index, command, started, end)
            if isinstance(pinned, StopOutcome):
                return tracker.conclude(pinned, 0)
            tracker.mark_sent()
            left = min(timeout, until - dispatcher.time())
            find = self._find_for_retry(dispatcher) if self.pins_retries else None
            outcome = await self.stops.run(
                dispatcher, index, pinned, left, started, find_transaction=find
            )
            if is_worth_watching(outcome):
                if pinned.transaction is not None and outcome.error is None:
                    tracker.trust_transaction()
                tracker.watch_from(dispatcher.time())
                await end_batch_on_failure(
                    dispatcher,
                    dispatcher.run_unpermitted(
                        lambda: self.poller.wait_until_settled(tracker, until)
                    ),
                )
            return tracker.conclude(outcome, int(outcome.verdict is not Verdict.NOT_SENT))

    async def _stop_pinned(
        self, dispatcher: Dispatcher, index: int, command: StopCharge, timeout: float
    ) -> StopOutcome:
        """Fills in the running transaction, and stops it, in `timeout` seconds."""
        check_command(command, index)
        started = dispatcher.time()
        until = min(started + timeout, dispatcher.until)
        pinned = await self._pin(dispatcher, index, command, started, until)
        if isinstance(pinned, StopOutcome):
            return pinned
        left = until - dispatcher.time()
        return await self.stops.run(dispatcher, index, pinned, left, started)

    async def _pin(
        self,
        dispatcher: Dispatcher,
        index: int,
        command: StopCharge,
        started: float,
        until: float,
    ) -> StopCharge | StopOutcome:
        """Returns the command with its transaction, or the outcome that says why it has none."""
        if command.transaction is not None:
            return command
        find = self.resolver.find(command, started)
        found = await end_batch_on_failure(dispatcher, dispatcher.wait_unpermitted(find, until))
        if isinstance(found, StopCharge):
            return found
        error = found or dispatcher.refusal()
        return self.stops.report_unsent(command, index, error, dispatcher.time() - started)

    def _find_for_retry(self, dispatcher: Dispatcher) -> FindTransaction:
        """Returns what finds the transaction of a command whose first try is made now."""
        as_of = datetime.fromtimestamp(self.stops.context.policy.now(), UTC)
        return partial(self._find_meant, dispatcher, dispatcher.time(), as_of)

    async def _find_meant(
        self,
        dispatcher: Dispatcher,
        since: float,
        as_of: datetime,
        command: StopCharge,
        until: float,
    ) -> StopCharge | None:
        """Returns the command with the transaction that ran there as of then, if a list tells."""
        meant = msgspec.structs.replace(command, as_of=as_of)
        # A proof that it is over would take 15 s, and no retry would follow either.
        find = self.resolver.find(meant, since, proves_end=False)
        found = await end_batch_on_failure(dispatcher, dispatcher.wait_unpermitted(find, until))
        if not isinstance(found, StopCharge):
            return None
        return msgspec.structs.replace(command, transaction=found.transaction)


async def end_batch_on_failure(dispatcher: Dispatcher, work: Awaitable[T]) -> T | None:
    """Returns its result; None if it fails in a batch, whose other outcomes must still come."""
    try:
        return await work
    except (Exception, asyncio.CancelledError) as failure:
        if not dispatcher.is_batch:
            raise
        dispatcher.record_local_failure(failure)
    return None
