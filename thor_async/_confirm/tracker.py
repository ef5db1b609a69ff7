"""What lists and notifications prove of one stop. No I/O, no waiting: facts in, a state out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from .._errors import NotInTransaction, Verdict, WrongTransaction
from .._models import NextStep, OutcomeRecord, StopCharge, StopOutcome
from .._protocol.lists import RunningCharge
from .._protocol.notifications import StopNotification

State = Literal["stopped", "refused", "still_running", "unconfirmed"]

NOTIFIED = "a stop notification of this transaction"
GONE = "seen in the running list, then absent from two complete ones in a row"
REPLACED = "a later transaction runs on its connector"
REFUSAL = "a notification that the chargebox refused the stop"
RUNS = "the last complete running list shows it"
NOT_WATCHED = "Thor did not take the stop"
_UNCLEAR = "a charge runs there, but which one it is was not known before the stop"
_NO_LIST = "no complete running list came after the stop"
_NEVER_SEEN = "never seen in a running list, which therefore proves nothing"
_ABSENT_ONCE = "seen in the running list, then absent from a single one"


class ConfirmationRecord(OutcomeRecord, frozen=True, kw_only=True):
    """A `Confirmation` as one flat row, ready for a JSON line; without the id_tag."""

    state: State
    evidence: str


class Confirmation(msgspec.Struct, frozen=True):
    """What became of a charge after its stop.

    `state` is `stopped`, which is proven; `refused` by the chargebox; `still_running` by the last
    list; or `unconfirmed`. `evidence` says in words what that rests on, `outcome` what Thor
    answered to the stop.
    """

    state: State
    evidence: str
    outcome: StopOutcome

    @property
    def next_step(self) -> NextStep:
        """What to do now, in the words of a `StopOutcome`; a relay alone leaves nothing `done`.

        Thor's own `NotInTransaction` does, unless the charge was seen to run on.
        """
        if self.state == "stopped":
            return "done"
        is_open = self.state != "unconfirmed" or self.outcome.verdict is Verdict.RELAYED
        return "check" if is_open else self.outcome.next_step

    def record(self) -> ConfirmationRecord:
        """This confirmation as one flat, msgspec-encodable row."""
        row = msgspec.structs.asdict(self.outcome.record()) | {"next_step": self.next_step}
        return ConfirmationRecord(**row, state=self.state, evidence=self.evidence)


class Snapshot:
    """One complete list of the running charges. `begun` is when it was asked for, by the loop."""

    def __init__(self, begun: float, charges: Iterable[RunningCharge]) -> None:
        self.begun = begun
        self._there: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        self._running: set[tuple[str, int]] = set()
        for charge in charges:
            self._there[charge.chargebox, charge.connector].append(charge.transaction)
            self._running.add((charge.chargebox, charge.transaction))

    def there(self, chargebox: str, connector: int) -> Sequence[int]:
        """The transactions that run on that connector: more than one is a list in disorder."""
        return self._there.get((chargebox, connector), ())

    def shows(self, chargebox: str, transaction: int) -> bool:
        return (chargebox, transaction) in self._running

    def chargeboxes(self) -> set[str]:
        return {chargebox for chargebox, _ in self._running}


def is_watched(outcome: StopOutcome) -> bool:
    """Whether the charge may have been stopped by it, or may have been over before."""
    watched = (NotInTransaction, WrongTransaction)
    return outcome.verdict in (Verdict.RELAYED, Verdict.INDETERMINATE) or isinstance(
        outcome.error, watched
    )


class ChargeTracker:
    """All that is known of one charge that is being stopped. `state` is None until it is proven.

    Only what was asked for after the answer can show that the charge is gone: a list from before
    tells its transaction where the command does not, and that it is in this list at all.
    """

    def __init__(self, command: StopCharge) -> None:
        self.state: State | None = None
        self._evidence = ""
        self._chargebox = command.chargebox
        self._connector = command.connector
        self._id_tag = command.id_tag
        self._transaction = command.transaction
        self._is_given = command.transaction is not None
        self._is_sent = False
        self._outcome: StopOutcome | None = None
        self._answered = 0.0
        self._was_seen = False
        self._absent = 0
        self._shown: bool | None = None
        self._ended: set[int] = set()
        self._was_refused = False

    def sent(self) -> None:
        """The stop is about to be sent: later lists do not tell any more which charge is meant."""
        self._is_sent = True

    def answered(self, outcome: StopOutcome, now: float) -> None:
        """What came of the stop. From now on, absence counts."""
        self._outcome = outcome
        self._answered = now
        self._decide()

    def told(self, notification: StopNotification) -> None:
        """A notification of any charge came in."""
        if (notification.chargebox, notification.connector) != (self._chargebox, self._connector):
            return
        if notification.is_end and notification.transaction is not None:
            self._ended.add(notification.transaction)
        elif notification.is_refusal and notification.id_tag in (None, self._id_tag):
            self._was_refused |= self._is_sent  # before that it can only be another stop's
        self._decide()

    def saw(self, snapshot: Snapshot) -> None:
        """The next complete list came in."""
        there = snapshot.there(self._chargebox, self._connector)
        if not (self._is_sent or self._is_given):
            self._transaction = there[0] if len(there) == 1 else None
            self._was_seen = False
        number = self._transaction
        shown = bool(there) if number is None else snapshot.shows(self._chargebox, number)
        self._was_seen |= shown
        if self._outcome is None or snapshot.begun <= self._answered:
            return
        self._shown = shown
        self._absent = 0 if shown else self._absent + 1
        # An earlier one would only show that the list lags.
        if number is not None and not shown and any(other > number for other in there):
            self._end("stopped", REPLACED)
        self._decide()

    def conclude(self, outcome: StopOutcome) -> Confirmation:
        """What there is to say when the time is over, or once it is proven."""
        if self.state is not None:
            return Confirmation(self.state, self._evidence, outcome)
        if self._shown and self._transaction is not None:
            return Confirmation("still_running", RUNS, outcome)
        return Confirmation("unconfirmed", self._doubt(), outcome)

    def _decide(self) -> None:
        if self._outcome is None:
            return
        if self._transaction in self._ended:
            self._end("stopped", NOTIFIED)
        elif self._was_refused:
            self._end("refused", REFUSAL)
        elif self._was_seen and self._absent >= 2:
            self._end("stopped", GONE)

    def _end(self, state: State, evidence: str) -> None:
        if self.state is None:
            self.state, self._evidence = state, evidence

    def _doubt(self) -> str:
        if self._outcome is None:
            return NOT_WATCHED
        if self._shown is None:
            return _NO_LIST
        if self._shown:
            return _UNCLEAR
        return _ABSENT_ONCE if self._was_seen else _NEVER_SEEN
