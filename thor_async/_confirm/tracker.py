"""Decides what lists and notifications prove about one stop, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from .._errors import NotInTransaction, Verdict, WrongTransaction
from .._models import NextStep, OutcomeRecord, StopCharge, StopOutcome, to_dict, utc_now
from .._protocol.notifications import StopNotification
from .snapshot import ListedCharge, Snapshot

State = Literal["stopped", "refused", "still_running", "unconfirmed"]

LONGEST_LAG = 15.0
"""Seconds by which a list may be behind. Thor documents no limit; lags of 12 s are expected."""

CLOCK_MARGIN = 2.0
"""Seconds by which Thor's clock and ours may differ."""

NOTIFIED = "a stop notification of this transaction"
GONE = "seen in the running list, then absent from two complete ones in a row"
REPLACED = "another transaction runs on its connector, in two complete lists in a row"
NOTHING_RUNS = "the running list has no charge there"
REFUSAL = "a notification that the chargebox refused the stop"
RUNS = "the last complete running list shows it"
NOT_WATCHED = "Thor did not take the stop"
LATER_CHARGE = "a later charge was seen on its connector, and the stop may have gone to that one"
_UNCLEAR = "a charge runs there, but which one it is was not known before the stop"
_NO_LIST = "no complete running list after the stop shows whether it runs"
_NEVER_SEEN = "never seen in a running list, which therefore proves nothing"
_ABSENT_ONCE = "seen in the running list, then absent from a single one"
_MAY_LAG = "absent from running lists, which may be behind by seconds"


class ConfirmationRecord(OutcomeRecord, frozen=True, kw_only=True):
    """A `Confirmation` as one flat row, ready for a JSON line; without the id_tag.

    `at` is the time (UTC) at which the state was known, `answered_at` that of the last stop's
    outcome.
    """

    answered_at: datetime
    state: State
    evidence: str
    stops_sent: int
    energy: float | None


class Confirmation(msgspec.Struct, frozen=True):
    """The state of a charge after its stop, and the evidence for it.

    `state` is `stopped` (proven), `refused` by the chargebox, `still_running` in the last list, or
    `unconfirmed`. `evidence` is a sentence that says why; `outcome` is the outcome of the last
    stop. `stops_sent` counts the stops that were made of it, `at` is the time (UTC) at which the
    state was known. `energy` is what the last list that showed the charge told, in Wh, or None.
    """

    state: State
    evidence: str
    outcome: StopOutcome
    stops_sent: int = 1
    at: datetime = msgspec.field(default_factory=utc_now)
    energy: float | None = None

    @property
    def next_step(self) -> NextStep:
        """The next step, as in a `StopOutcome`, except that a relayed stop alone is not `done`.

        Thor's own `NotInTransaction` is `done`, unless a list shows that the charge still runs.
        """
        if self.state == "stopped":
            return "done"
        if self.outcome.verdict is Verdict.NOT_SENT and not self.outcome.maybe_applied:
            return self.outcome.next_step
        is_open = self.state != "unconfirmed" or self.outcome.verdict is Verdict.RELAYED
        return "check" if is_open else self.outcome.next_step

    def record(self) -> ConfirmationRecord:
        """Returns this confirmation as one flat row that msgspec can encode."""
        row = dict(self.outcome.record()) | {"next_step": self.next_step, "at": self.at}
        return ConfirmationRecord(
            **row,
            answered_at=self.outcome.at,
            state=self.state,
            evidence=self.evidence,
            stops_sent=self.stops_sent,
            energy=self.energy,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns `record()` as plain builtins, for `json.dumps`: times are ISO text."""
        return to_dict(self.record())


def is_worth_watching(outcome: StopOutcome) -> bool:
    """Whether the stop may have ended the charge, or the charge may have been over before."""
    watched = (NotInTransaction, WrongTransaction)
    return outcome.verdict in (Verdict.RELAYED, Verdict.INDETERMINATE) or isinstance(
        outcome.error, watched
    )


class ChargeTracker:
    """Collects the evidence about one charge that is being stopped. `state` is None until proven.

    Lists count as proof of an end only if they began after the answer, and longer after the begin
    of the charge than a list may be behind: an older list may be from before the charge. When the
    command has no transaction, they must also have begun that long after the answer, because a
    list from before cannot show a later charge to which the stop may have gone.

    `now` is the loop time of the call: the charge of a given transaction had begun by then. With
    `is_repeated`, a refusal settles nothing, because the stop is sent again.
    """

    def __init__(self, command: StopCharge, now: float, *, is_repeated: bool = False) -> None:
        self.state: State | None = None
        self._evidence = ""
        self._chargebox = command.chargebox
        self._connector = command.connector
        self._id_tag = command.id_tag.casefold()
        self._transaction = command.transaction
        self._is_given = command.transaction is not None
        self._began_by = now
        self._is_repeated = is_repeated
        self._is_sent = self._is_trusted = self._trusts_absence = False
        self._watched_from: float | None = None
        self._was_seen = self._saw_later_charge = False
        self._absent = self._replaced = 0
        self._shown: bool | None = None
        self._last_shown = False
        self._energies: dict[int, float] = {}
        self._ended: set[int] = set()
        self._was_refused = False

    @property
    def place(self) -> tuple[str, int]:
        """The chargebox and the connector of the charge."""
        return self._chargebox, self._connector

    @property
    def is_shown(self) -> bool | None:
        """Whether the last complete list shows the charge; None without such a list."""
        return self._shown

    @property
    def was_refused(self) -> bool:
        """Whether the chargebox has refused the last stop."""
        return self._was_refused

    def pin(self, transaction: int | None, now: float) -> None:
        """Takes the transaction that is sent. Absence counts from loop time `now` on."""
        self._transaction = transaction
        self._is_sent = True
        self._watched_from = now

    def trust_transaction(self) -> None:
        """Lets a notification alone prove the end of the pinned transaction.

        For one that Thor relayed a stop to: then it was the one that ran.
        """
        self._is_trusted = True

    def trust_absence(self) -> None:
        """Lets absence prove the end of a charge that no list has shown.

        For a chargebox that Thor's lists are known to have: then the list is the right one.
        """
        self._trusts_absence = True
        self._decide()

    def mark_sent(self) -> None:
        """Marks that a stop is sent now: later lists cannot show which charge it means."""
        self._is_sent = True
        self._was_refused = False

    def watch_from(self, now: float) -> None:
        """Marks that the stop was answered at loop time `now`. From then on, absence counts."""
        self._watched_from = now
        self._shown = None
        self._absent = self._replaced = 0
        self._decide()

    def notify(self, notification: StopNotification) -> None:
        """Takes a notification about any charge."""
        if (notification.chargebox, notification.connector) != self.place:
            return
        if notification.is_end and notification.transaction is not None:
            self._ended.add(notification.transaction)
        elif notification.is_refusal and self._is_same_tag(notification.id_tag):
            self._was_refused |= self._is_sent  # before that it can only be another stop's
        self._decide()

    def observe(self, snapshot: Snapshot) -> None:
        """Takes the next complete list."""
        there = snapshot.charges_at(self._chargebox, self._connector)
        if not (self._is_sent or self._is_given):
            self._take_from_list(there)
        number = self._transaction
        mine = None if number is None else snapshot.find(self._chargebox, number)
        is_shown = bool(there) if number is None else mine is not None
        others = [charge for charge in there if charge.transaction != number]
        self._last_shown = mine is not None
        if mine is not None:
            self._note_begin(mine, snapshot)
        elif number is None:
            self._was_seen |= any(charge.is_placed for charge in there)
        if self._is_sent and number is not None:
            self._saw_later_charge |= bool(others)
        if self._watched_from is None:
            self._shown = is_shown
        elif snapshot.begun > self._watched_from:
            self._count_absences(is_shown, others, snapshot.begun, self._watched_from)
            self._decide()

    def conclude(self, outcome: StopOutcome, stops_sent: int = 1) -> Confirmation:
        """Returns the proven state, else what the last lists show."""
        state, evidence = self.state, self._evidence
        # After the last of several stops there may be no list: the one before it counts.
        is_shown = self._shown or (self._shown is None and self._is_repeated and self._last_shown)
        is_ours = self._watched_from is not None and self._transaction is not None
        if state is None and is_ours and is_shown:
            state, evidence = "still_running", RUNS
        elif state is None and self._was_refused:
            state, evidence = "refused", REFUSAL
        elif state is None:
            state, evidence = "unconfirmed", self._why_unconfirmed()
        energy = None if self._transaction is None else self._energies.get(self._transaction)
        return Confirmation(state, evidence, outcome, stops_sent, energy=energy)

    def _take_from_list(self, there: Sequence[ListedCharge]) -> None:
        """Takes the charge of a list for the one that is meant, if it can be no other."""
        self._was_seen = False
        self._transaction = None
        if len(there) == 1 and there[0].is_placed and self._is_same_tag(there[0].id_tag):
            self._transaction = there[0].transaction

    def _is_same_tag(self, id_tag: str | None) -> bool:
        """Whether it is the command's, without regard to case, as in OCPP; or is not told."""
        return id_tag is None or id_tag.casefold() == self._id_tag

    def _note_begin(self, mine: ListedCharge, snapshot: Snapshot) -> None:
        self._was_seen = True
        if mine.transaction is not None and mine.energy is not None:
            self._energies[mine.transaction] = mine.energy
        self._began_by = min(self._began_by, snapshot.begun)
        if mine.started is not None:
            began = snapshot.begun - (snapshot.wall_time - mine.started)
            self._began_by = min(self._began_by, began + CLOCK_MARGIN)

    def _count_absences(
        self, is_shown: bool, others: Sequence[ListedCharge], begun: float, watched_from: float
    ) -> None:
        if not is_shown and any(
            charge.transaction is None or not (charge.is_placed or self._was_seen)
            for charge in others
        ):
            # The charge without a number may be this one: the list proves nothing. One without a
            # connector replaces none.
            self._shown, self._absent, self._replaced = None, 0, 0
            return
        self._shown = is_shown
        if is_shown:
            self._absent = self._replaced = 0
            return
        base = self._began_by if self._is_given else max(self._began_by, watched_from)
        if begun > base + LONGEST_LAG:
            self._absent += 1
            is_replaced = any(charge.is_placed for charge in others)
            self._replaced = self._replaced + 1 if is_replaced else 0

    def _decide(self) -> None:
        if self._watched_from is None:
            return
        # A later charge may be the one to which the stop went.
        is_clear = self._is_given or not self._saw_later_charge
        # Without a transaction, the notification may be late, and about the charge before it.
        is_ours = self._is_given or self._is_trusted or self._absent >= 1
        if self._transaction in self._ended and is_clear and is_ours:
            self._end("stopped", NOTIFIED)
        elif self._absent >= 2 and is_clear and self._was_seen:
            self._end("stopped", GONE)
        elif self._is_given and self._replaced >= 2:
            self._end("stopped", REPLACED)
        elif self._absent >= 2 and is_clear and self._trusts_absence and not self._replaced:
            self._end("stopped", NOTHING_RUNS)
        elif self._was_refused and not self._is_repeated:
            self._end("refused", REFUSAL)

    def _end(self, state: State, evidence: str) -> None:
        if self.state is None:
            self.state, self._evidence = state, evidence

    def _why_unconfirmed(self) -> str:
        if self._watched_from is None:
            return NOT_WATCHED
        if self._saw_later_charge and not self._is_given:
            return LATER_CHARGE
        if self._shown is None:
            return _NO_LIST
        if self._shown:
            return _UNCLEAR
        if not self._was_seen:
            return _NEVER_SEEN
        return _ABSENT_ONCE if self._absent else _MAY_LAG
