"""Stops a charge again for as long as the running list shows it."""

from __future__ import annotations

import msgspec

from .._config import check_command
from .._dispatch.dispatcher import Dispatcher
from .._errors import (
    NotInTransaction,
    NotSentError,
    RejectedError,
    TooManyRequests,
    WrongTransaction,
)
from .._models import StopCharge, StopOutcome
from .stop_and_confirm import ConfirmOperation, end_batch_on_failure
from .tracker import ChargeTracker, Confirmation, State, is_worth_watching

_FIRST_REPEAT, _LONGEST_REPEAT = 10.0, 60.0
_NEXT_LIST = 10.0


def is_final_rejection(outcome: StopOutcome) -> bool:
    """Whether every other stop would be rejected in the same way."""
    error = outcome.error
    passing = (NotInTransaction, TooManyRequests, WrongTransaction)
    return isinstance(error, RejectedError) and not isinstance(error, passing)


class EnsureOperation(msgspec.Struct, frozen=True):
    """Makes the stops that are repeated until the end of the charge is proven."""

    confirms: ConfirmOperation

    async def ensure(
        self, dispatcher: Dispatcher, index: int, command: StopCharge, timeout: float, within: float
    ) -> Confirmation:
        """Stops one charge again until it is proven to have stopped, for up to `within` seconds.

        Sends to one transaction only, and never while the last complete list does not show it: a
        stop, then repeats 10, 20, 40 ... 60 s after one another, or after a refusal.
        """
        check_command(command, index)
        started = dispatcher.time()
        until = started + within
        tracker = ChargeTracker(command, started, is_repeated=True)
        async with self.confirms.poller.track(tracker):
            found = await self._find_transaction(dispatcher, command, tracker, until)
            if isinstance(found, NotSentError):
                elapsed = dispatcher.time() - started
                outcome = self.confirms.stops.report_unsent(command, index, found, elapsed)
                state: State = "stopped" if found.reason == "not_running" else "unconfirmed"
                return Confirmation(state, found.message, outcome, 0)
            return await self._repeat(dispatcher, index, found, tracker, timeout, started, until)

    async def _find_transaction(
        self, dispatcher: Dispatcher, command: StopCharge, tracker: ChargeTracker, until: float
    ) -> StopCharge | NotSentError:
        """Returns the command with its transaction; tries again while the list cannot tell it."""
        if command.transaction is not None:
            return command
        while True:
            find = self.confirms.resolver.find(command, self.confirms.begun)
            found = await end_batch_on_failure(dispatcher, dispatcher.wait(find, until))
            if isinstance(found, StopCharge):
                return found
            error = found or dispatcher.refusal()
            now = dispatcher.time()
            if error.reason != "pin" or now >= until or dispatcher.stop_reason is not None:
                return error
            await self._wait(dispatcher, tracker, min(until, now + _NEXT_LIST))

    async def _repeat(  # noqa: PLR0917 - one more than the others
        self,
        dispatcher: Dispatcher,
        index: int,
        command: StopCharge,
        tracker: ChargeTracker,
        timeout: float,
        started: float,
        until: float,
    ) -> Confirmation:
        stops = self.confirms.stops
        outcome: StopOutcome | None = None
        sent, is_taken, due, delay = 0, False, started, _FIRST_REPEAT
        tracker.pin(command.transaction, started)
        if await self.confirms.resolver.is_known(command.chargebox):
            tracker.trust_absence()
        while tracker.state is None and not dispatcher.is_aborted:
            now = dispatcher.time()
            if now >= until or (dispatcher.stop_reason is not None and not sent):
                break
            # Without a list the first stop goes out; it is what the caller asked for.
            is_due = tracker.is_shown or (tracker.is_shown is None and not is_taken)
            if is_due and (now >= due or tracker.was_refused) and dispatcher.stop_reason is None:
                tracker.mark_sent()
                left = min(timeout, until - now)
                latest = await stops.run(dispatcher, index, command, left, started)
                outcome = _add_earlier(outcome, latest)
                sent += latest.attempts > 0
                if is_final_rejection(latest):
                    break
                now = dispatcher.time()
                due, delay = now + delay, min(delay * 2, _LONGEST_REPEAT)
                if latest.error is None:
                    tracker.trust_transaction()
                if is_worth_watching(latest):
                    is_taken = True
                    tracker.watch_from(now)
            wake = due if due > now else now + _NEXT_LIST
            await self._wait(dispatcher, tracker, min(until, wake))
        if outcome is None:
            elapsed = dispatcher.time() - started
            error = _why_unsent(dispatcher, tracker)
            outcome = stops.report_unsent(command, index, error, elapsed)
        return tracker.conclude(outcome, sent)

    async def _wait(self, dispatcher: Dispatcher, tracker: ChargeTracker, until: float) -> None:
        """Waits for the next list or notification without a permit."""
        poller = self.confirms.poller
        await end_batch_on_failure(
            dispatcher,
            dispatcher.run_unpermitted(lambda: poller.wait_for_change(tracker, until)),
        )


def _why_unsent(dispatcher: Dispatcher, tracker: ChargeTracker) -> NotSentError:
    if tracker.state == "stopped":
        return NotSentError("it was over before it was sent", reason="not_running")
    if dispatcher.stop_reason is not None:
        return dispatcher.refusal()
    return NotSentError("the running list does not show it", reason="pin")


def _add_earlier(earlier: StopOutcome | None, latest: StopOutcome) -> StopOutcome:
    """Returns the latest outcome, with what the stops before it may have done."""
    if earlier is None:
        return latest
    if isinstance(latest.error, NotSentError):
        return earlier
    was_applied = earlier.error is None or earlier.maybe_applied
    if latest.error is not None:
        latest.error.maybe_applied |= was_applied
    return msgspec.structs.replace(latest, maybe_applied=latest.maybe_applied or was_applied)
