"""Stops a charge again for as long as the running list shows it."""

from __future__ import annotations

import msgspec

from .._config import check_command
from .._dispatch.dispatcher import Dispatcher
from .._errors import (
    AccountError,
    NotInTransaction,
    NotSentError,
    RejectedError,
    TooManyRequests,
    Verdict,
    WrongTransaction,
)
from .._models import StopCharge, StopOutcome
from .stop_and_confirm import ConfirmOperation, end_batch_on_failure
from .tracker import LONGEST_LAG, ChargeTracker, Confirmation, State, is_worth_watching

_FIRST_REPEAT, _LONGEST_REPEAT = 10.0, 60.0
_NEXT_LIST = 10.0


def is_final_rejection(outcome: StopOutcome) -> bool:
    """Whether every other stop would be rejected in the same way, or is too late."""
    error = outcome.error
    if isinstance(error, NotSentError):
        return error.reason == "expired"
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
            repeated = RepeatedStop(
                self.confirms, dispatcher, index, found, tracker, timeout, started, until
            )
            return await repeated.run()

    async def _find_transaction(
        self, dispatcher: Dispatcher, command: StopCharge, tracker: ChargeTracker, until: float
    ) -> StopCharge | NotSentError:
        """Returns the command with its transaction; tries again while the list may come to tell it.

        It may be behind, or fail; but an account error is final.
        """
        started = dispatcher.time()
        if command.transaction is not None:
            # Thor's list may show that it is over. The stop does not wait long for a list.
            look = self.confirms.poller.wait_before_stop(
                command.chargebox, command.connector, started
            )
            await end_batch_on_failure(dispatcher, dispatcher.wait_unpermitted(look, until))
            return command
        while True:
            find = self.confirms.resolver.find(command, started)
            found = await end_batch_on_failure(dispatcher, dispatcher.wait_unpermitted(find, until))
            if isinstance(found, StopCharge):
                return found
            error = found or dispatcher.refusal()
            now = dispatcher.time()
            # A list that came, and cannot tell it even when it is no longer behind, never will.
            is_settled = error.cause is None and now > started + LONGEST_LAG
            if error.reason != "pin" or is_settled or isinstance(error.cause, AccountError):
                return error
            if now >= until or dispatcher.stop_reason is not None:
                return error
            change = self.confirms.poller.wait_for_change(tracker, min(until, now + _NEXT_LIST))
            await end_batch_on_failure(dispatcher, dispatcher.wait_unpermitted(change, until))


class RepeatedStop(msgspec.Struct, eq=False):
    """The stops of one transaction until loop time `until`, and what is known of them together.

    `due` is the loop time of the next stop. `is_taken` says that Thor may have taken one,
    `is_known` whether Thor's lists have the chargebox, once that was asked.
    """

    confirms: ConfirmOperation
    dispatcher: Dispatcher
    index: int
    command: StopCharge
    tracker: ChargeTracker
    timeout: float
    started: float
    until: float
    outcome: StopOutcome | None = None
    stops_sent: int = 0
    is_taken: bool = False
    is_known: bool | None = None
    due: float = 0.0
    delay: float = _FIRST_REPEAT

    async def run(self) -> Confirmation:
        """Sends and watches until the end is proven, the time is over, or Thor rejects it."""
        dispatcher, tracker = self.dispatcher, self.tracker
        tracker.pin(self.command.transaction, self.started)
        while tracker.state is None and not dispatcher.is_aborted:
            is_ended = dispatcher.stop_reason == "closed" or (
                dispatcher.stop_reason is not None and not self.is_taken
            )
            if is_ended or dispatcher.time() >= self.until:
                break
            if self._may_send() and is_final_rejection(await self._send()):
                break
            await self._wait()
        return tracker.conclude(self.outcome or self._report_unsent(), self.stops_sent)

    def _may_send(self) -> bool:
        if self.dispatcher.stop_reason is not None:
            return False
        shown = self.tracker.is_shown
        # Without a list that can show it, one stop is sent: Thor's answer says more.
        is_blind = shown is None or (self.is_known is False and not self.stops_sent)
        is_wanted = shown or (is_blind and not self.is_taken)
        return is_wanted and (self.dispatcher.time() >= self.due or self.tracker.was_refused)

    async def _send(self) -> StopOutcome:
        """Sends one stop, and returns its own outcome."""
        dispatcher, tracker = self.dispatcher, self.tracker
        tracker.mark_sent()
        left = min(self.timeout, self.until - dispatcher.time())
        stops = self.confirms.stops
        try:
            latest = await stops.run(dispatcher, self.index, self.command, left, self.started)
        except Exception as failure:
            # As of a key function. What the stops before it did must still be told.
            if self.outcome is None:
                raise
            refusal = dispatcher.record_local_failure(failure)
            latest = stops.report_unsent(self.command, self.index, refusal)
        self.outcome = _add_earlier(self.outcome, latest)
        self.stops_sent += latest.verdict is not Verdict.NOT_SENT
        now = dispatcher.time()
        retry_after = (latest.error and latest.error.retry_after) or 0.0
        self.due = now + max(self.delay, retry_after)
        self.delay = min(self.delay * 2, _LONGEST_REPEAT)
        if latest.error is None:
            tracker.trust_transaction()
        if is_worth_watching(latest):
            self.is_taken = True
            tracker.watch_from(now)
        return latest

    async def _wait(self) -> None:
        """Waits without a permit for the next list or notification, or for the next stop."""
        dispatcher, tracker = self.dispatcher, self.tracker
        if tracker.is_shown is False and not self.is_known:
            # Absence proves an end only if Thor's lists have this chargebox at all.
            known = self.confirms.resolver.is_known(self.command.chargebox)
            self.is_known = await end_batch_on_failure(
                dispatcher, dispatcher.wait_unpermitted(known, self.until)
            )
            if self.is_known:
                tracker.trust_absence()
            if self._may_send():
                return
        now = dispatcher.time()
        wake = min(self.until, self.due if self.due > now else now + _NEXT_LIST)
        await end_batch_on_failure(
            dispatcher,
            dispatcher.run_unpermitted(lambda: self.confirms.poller.wait_for_change(tracker, wake)),
        )

    def _report_unsent(self) -> StopOutcome:
        if self.tracker.state == "stopped":
            error = NotSentError("it was over before it was sent", reason="not_running")
        elif self.dispatcher.stop_reason is not None:
            error = self.dispatcher.refusal()
        else:
            error = NotSentError("the running list does not show it", reason="pin")
        elapsed = self.dispatcher.time() - self.started
        return self.confirms.stops.report_unsent(self.command, self.index, error, elapsed)


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
