"""Decides what lists and notifications prove about one stop, without I/O."""

from __future__ import annotations

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
_NO_LIST = "no complete running list after the stop shows whether it runs"
_NEVER_SEEN = "never seen in a running list, which therefore proves nothing"
_ABSENT_ONCE = "seen in the running list, then absent from a single one"


class ConfirmationRecord(OutcomeRecord, frozen=True, kw_only=True):
    """A `Confirmation` as one flat row, ready for a JSON line; without the id_tag."""

    state: State
    evidence: str


class Confirmation(msgspec.Struct, frozen=True):
    """The state of a charge after its stop, and the evidence for it.

    `state` is `stopped` (proven), `refused` by the chargebox, `still_running` in the last list, or
    `unconfirmed`. `evidence` is a sentence that says why; `outcome` is the outcome of the stop.
    """

    state: State
    evidence: str
    outcome: StopOutcome

    @property
    def next_step(self) -> NextStep:
        """The next step, as in a `StopOutcome`, except that a relayed stop alone is not `done`.

        Thor's own `NotInTransaction` is `done`, unless a list shows that the charge still runs.
        """
        if self.state == "stopped":
            return "done"
        is_open = self.state != "unconfirmed" or self.outcome.verdict is Verdict.RELAYED
        return "check" if is_open else self.outcome.next_step

    def record(self) -> ConfirmationRecord:
        """Returns this confirmation as one flat row that msgspec can encode."""
        row = msgspec.structs.asdict(self.outcome.record()) | {"next_step": self.next_step}
        return ConfirmationRecord(**row, state=self.state, evidence=self.evidence)


class Snapshot:
    """One complete list of the running charges. `begun` is the loop time of its request."""

    def __init__(self, begun: float, charges: Iterable[RunningCharge] = ()) -> None:
        self.begun = begun
        self.chargeboxes: set[str] = set()
        self._there: dict[tuple[str, int], Sequence[int | None]] = {}
        self._running: set[tuple[str, int | None]] = set()
        self.add(charges)

    def add(self, charges: Iterable[RunningCharge]) -> None:
        """Adds rows: a long list is added in chunks."""
        for charge in charges:
            place = charge.chargebox, charge.connector
            # A tuple of numbers costs the garbage collector nothing, and nearly all have just one.
            others = self._there.get(place, ())
            if isinstance(others, list):
                others.append(charge.transaction)
            else:
                one = (charge.transaction,)
                self._there[place] = [*others, *one] if others else one
            self._running.add((charge.chargebox, charge.transaction))
            self.chargeboxes.add(charge.chargebox)

    def there(self, chargebox: str, connector: int) -> Sequence[int | None]:
        """Returns the transactions on that connector; None is one without a valid number.

        More than one is a list in disorder.
        """
        return self._there.get((chargebox, connector), ())

    def shows(self, chargebox: str, transaction: int) -> bool:
        return (chargebox, transaction) in self._running


def is_watched(outcome: StopOutcome) -> bool:
    """Whether the stop may have ended the charge, or the charge may have been over before."""
    watched = (NotInTransaction, WrongTransaction)
    return outcome.verdict in (Verdict.RELAYED, Verdict.INDETERMINATE) or isinstance(
        outcome.error, watched
    )


class ChargeTracker:
    """Collects the evidence about one charge that is being stopped. `state` is None until proven.

    Only a list that was asked for after the answer can prove that the charge is over. A list from
    before shows the transaction of a command without one, and that the list contains the charge.
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

    def mark_sent(self) -> None:
        """Marks that the stop is sent now: later lists cannot show which charge it means."""
        self._is_sent = True

    def mark_answered(self, outcome: StopOutcome, now: float) -> None:
        """Takes the outcome of the stop, at loop time `now`. From then on, absence counts."""
        self._outcome = outcome
        self._answered = now
        self._decide()

    def notify(self, notification: StopNotification) -> None:
        """Takes a notification about any charge."""
        if (notification.chargebox, notification.connector) != (self._chargebox, self._connector):
            return
        if notification.is_end and notification.transaction is not None:
            self._ended.add(notification.transaction)
        elif notification.is_refusal and notification.id_tag in (None, self._id_tag):
            self._was_refused |= self._is_sent  # before that it can only be another stop's
        self._decide()

    def observe(self, snapshot: Snapshot) -> None:
        """Takes the next complete list."""
        there = snapshot.there(self._chargebox, self._connector)
        if not (self._is_sent or self._is_given):
            self._transaction = there[0] if len(there) == 1 else None
            self._was_seen = False
        number = self._transaction
        shown = bool(there) if number is None else snapshot.shows(self._chargebox, number)
        self._was_seen |= shown
        if self._outcome is None or snapshot.begun <= self._answered:
            return
        if not shown and None in there:
            # The charge without a number may be this one: the list proves nothing.
            self._shown, self._absent = None, 0
            return
        self._shown = shown
        self._absent = 0 if shown else self._absent + 1
        # A lower number would only show that the list lags.
        if number is not None and not shown and any(other and other > number for other in there):
            self._end("stopped", REPLACED)
        self._decide()

    def conclude(self, outcome: StopOutcome) -> Confirmation:
        """Returns the proven state, else what the last lists show."""
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
