"""Reads from a journal what is known of each row of its input, over all runs."""

from __future__ import annotations

from array import array
from collections import Counter
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import msgspec

from thor_async import InternalServerError, StopCharge, Verdict

from .first_messages import FirstMessages
from .stats import Kind

_HAS_OUTCOME = 1
"""Flag of a row: the latest run has an outcome for it."""
_MAYBE_SENT = 2
"""Flag of a row: its stop may have been applied in spite of its latest outcome, or without one."""
_IS_OPEN, _IS_STUCK = 4, 8
"""Flags of a row: its latest outcome is about this charge and leaves it open; so was the one before
it, and a further run would not change that."""

_STEPS: dict[Verdict, str] = {
    Verdict.RELAYED: "done",
    Verdict.REJECTED: "fix",
    Verdict.NOT_SENT: "resend",
    Verdict.INDETERMINATE: "check",
}
_UNSENT = Kind(Verdict.NOT_SENT.value, "", "", "resend")
_CUT = Kind(Verdict.INDETERMINATE.value, "no outcome", "", "check")
NOTHING_LEFT, RUN_AGAIN, ONLY_A_PERSON = 0, 1, 3
"""Exit statuses: nothing is left; another run may finish the rest; only a person can."""


class JournalLine(msgspec.Struct, frozen=True):
    """The fields of a journal line that are needed here; it is a start, an outcome or an end.

    `reason` is the reason or the class of an error without a `code`. `left_out` is the number of
    bad rows. `resend` has `fix` if the run sent the `fix` rows again; old runs without it did so.
    `watch`: the run looked whether the charges stopped. `interrupted`: a signal had ended the run.
    `damaged` stands for a line that could not be read: the number of its bytes.
    """

    input: str | None = None
    rows: int = 0
    left_out: int = 0
    address: str | None = None
    started: datetime | None = None
    resend: tuple[str, ...] | None = None
    watch: bool = False
    index: int = -1
    verdict: Verdict | None = None
    code: str | None = None
    reason: str | None = None
    message: str | None = None
    state: str | None = None
    next_step: str | None = None
    transaction: int | None = None
    maybe_applied: bool = False
    interrupted: bool = False
    ended: str | None = None
    damaged: int | None = None

    @property
    def kind(self) -> Kind:
        """What the table shows of an outcome."""
        verdict = self.verdict or Verdict.NOT_SENT
        step = self.next_step or _STEPS[verdict]
        why = self.code or self.reason or ""
        if verdict is Verdict.NOT_SENT and self.maybe_applied:
            why = f"{why}, sent before"  # which the verdict of this run does not say
        return Kind(verdict.value, why, self.state or "", step)


class Failure(NamedTuple):
    """A row that is not done: its latest outcome and the message of that."""

    row: int
    kind: Kind
    message: str


class ResumeState:
    """The state of every row after the runs in a journal, and during the current run.

    `add` takes all lines in order; `finish` must follow the last line of the earlier runs. A row
    needs 13 bytes. `runs` counts the runs, `addresses` are those of their stops, `left_out` is the
    number of bad rows in the input, `first_started` is the time of the first run, and `is_watched`
    says whether the latest run looked whether the charges stopped.
    """

    def __init__(self, rows: int) -> None:
        self._flags = bytearray(rows)
        self._kind_numbers = array("I", [0]) * rows
        self._transactions = array("q", [0]) * rows
        self._kinds: list[Kind | None] = [None]
        self._numbers: dict[Kind, int] = {}
        self._messages = FirstMessages()
        self._run_is_open = self._run_is_damaged = False
        self._resends_fix = False
        self.runs: int = 0
        self.addresses: set[str] = set()
        self.left_out: int = 0
        self.is_watched: bool = False
        self.is_refused: bool = False  # by Thor, in this run: the account
        self.first_started: datetime | None = None

    def __len__(self) -> int:
        return len(self._flags)

    def add(self, line: JournalLine) -> None:
        """Adds the next line."""
        if line.verdict is not None:
            self._add_outcome(line)
        elif line.ended is not None:
            # With a part missing, a row without an outcome may have been sent all the same.
            self._run_is_open = self._run_is_damaged
        elif line.damaged is not None:
            self.add_damage()
        else:
            self.finish()
            self._add_start(line)

    def add_damage(self) -> None:
        """Adds a line that cannot be read: any number of outcomes may have been in it."""
        if not self._run_is_open:
            # It may even have been a run: then that one could have sent all that was left.
            self._begin_run()
            self._resends_fix = True
        self._run_is_damaged = True

    def finish(self) -> None:
        """Marks the rows that a crashed run may have sent.

        A run without an end line crashed: a row without an outcome may have been in flight.
        """
        if self._run_is_open:
            for row in self.pending(resend_fix=self._resends_fix):
                if not self._flags[row] & _HAS_OUTCOME:
                    self._flags[row] |= _MAYBE_SENT
        self._run_is_open = self._run_is_damaged = False

    def find_kind(self, row: int) -> Kind | None:
        """Returns the kind of the latest outcome of a row, or None without an outcome."""
        return self._kinds[self._kind_numbers[row]]

    def may_have_been_sent(self, row: int) -> bool:
        """Returns whether a stop of this row may have been applied without an outcome of its own.

        That is: in a crashed run, or in spite of the error of its latest outcome.
        """
        return bool(self._flags[row] & _MAYBE_SENT)

    def may_be_stopped(self, row: int) -> bool:
        """Returns whether any earlier run may have stopped the charge of this row."""
        kind = self.find_kind(row)
        was_relayed = kind is not None and kind.verdict == Verdict.RELAYED.value
        return was_relayed or self.may_have_been_sent(row)

    def pending(self, *, watch: bool = False, resend_fix: bool = False) -> array[int]:
        """Returns the rows for which a run has something to do.

        All but `done` and `fix` rows. `watch` adds the relayed rows at which no run has looked,
        and `resend_fix` the `fix` rows.
        """
        return array(
            "Q",
            (
                row
                for row in range(len(self))
                if self._is_pending(self.find_kind(row), watch=watch, resend_fix=resend_fix)
            ),
        )

    def must_be_looked_at(self, row: int) -> bool:
        """Returns whether this row may only be sent while a list shows that its charge runs."""
        kind = self.find_kind(row)
        return kind is not None and kind.next_step in {"check", "done"}

    def needs_fix(self, row: int) -> bool:
        """Returns whether the data or the account must be corrected before a repeat."""
        kind = self.find_kind(row)
        return kind is not None and kind.next_step == "fix"

    def resume(self, row: int, command: StopCharge) -> StopCharge:
        """Returns the command so that a repeat cannot stop a later charge.

        It gets the transaction that an earlier run found, or the time of the first run as `as_of`.
        """
        if command.transaction is not None or self.first_started is None:
            return command
        transaction = self._transactions[row]
        if transaction:
            return msgspec.structs.replace(command, transaction=transaction)
        meant_at = min(self.first_started, command.as_of or self.first_started)
        return msgspec.structs.replace(command, as_of=meant_at)

    def count_kinds(self) -> Counter[Kind]:
        """Returns the number of outcomes of each kind."""
        numbers = Counter(self._kind_numbers)
        return Counter(
            {kind: numbers[n] for n, kind in enumerate(self._kinds) if kind and numbers[n]}
        )

    def find_failures(self, most: int) -> list[Failure]:
        """Returns the first rows of the file with an outcome and something left to do."""
        pairs = ((row, self.find_kind(row)) for row in range(len(self)))
        failures = (
            Failure(row, kind, self._messages.find(row))
            for row, kind in pairs
            if kind is not None and kind.next_step != "done"
        )
        return list(islice(failures, most))

    def count_maybe_sent(self) -> int:
        """Returns the number of rows without an outcome that a crashed run may have sent."""
        return self.count_without_outcome()[_CUT]

    def count_unsent(self) -> int:
        """Returns the number of rows of which no run may have sent a stop."""
        not_sent, steps = Verdict.NOT_SENT.value, {"resend", "fix"}
        kinds = self.count_kinds() + self.count_without_outcome()
        return sum(
            count
            for kind, count in kinds.items()
            if kind.verdict == not_sent and kind.next_step in steps
        )

    def count_without_outcome(self) -> Counter[Kind]:
        """Returns the number of rows without an outcome: not sent, or cut off by a crash."""
        counts: Counter[Kind] = Counter()
        for row, number in enumerate(self._kind_numbers):
            if not number:
                unsent = _UNSENT._replace(next_step="fix" if self.is_refused else "resend")
                counts[_CUT if self.may_have_been_sent(row) else unsent] += 1
        return counts

    def find_status(self, *, watch: bool = False) -> int:
        """Returns the exit status for all rows. With `watch`, a relayed stop alone is not done."""
        status = ONLY_A_PERSON if self.left_out else NOTHING_LEFT
        for row in range(len(self)):
            kind = self.find_kind(row)
            if self._is_pending(kind, watch=watch, resend_fix=True):
                if not self.needs_person(row):
                    return RUN_AGAIN
                status = ONLY_A_PERSON
        return status

    def needs_person(self, row: int) -> bool:
        """Returns whether a further run would leave this row as it is."""
        return self.needs_fix(row) or bool(self._flags[row] & _IS_STUCK)

    @staticmethod
    def _is_pending(kind: Kind | None, *, watch: bool, resend_fix: bool) -> bool:
        if kind is None:
            return True
        if kind.next_step == "done":
            return watch and is_unwatched(kind)
        return resend_fix or kind.next_step != "fix"

    def _add_start(self, line: JournalLine) -> None:
        self._begin_run()
        self._resends_fix = line.resend is None or "fix" in line.resend
        self.runs += 1
        self.left_out, self.is_watched = line.left_out, line.watch
        if line.address is not None:
            self.addresses.add(line.address)
        if self.first_started is None:
            self.first_started = line.started

    def _begin_run(self) -> None:
        self._run_is_open = True
        self._flags = bytearray(flags & ~_HAS_OUTCOME for flags in self._flags)

    def _add_outcome(self, line: JournalLine) -> None:
        # Replaces the flags: `maybe_applied` of a line includes the runs before its own.
        row, kind = line.index, line.kind
        flags = _HAS_OUTCOME | (_MAYBE_SENT if line.maybe_applied else 0)
        was_open = self._flags[row] & _IS_OPEN
        if _leaves_open(kind) and line.interrupted:
            flags |= was_open
        elif _leaves_open(kind):
            flags |= _IS_OPEN | (_IS_STUCK if was_open else 0)
        self._flags[row] = flags
        self._kind_numbers[row] = self._number(kind)
        self._messages.add(row, "" if kind.next_step == "done" else line.message or "")
        if line.transaction is not None:
            self._transactions[row] = line.transaction

    def _number(self, kind: Kind) -> int:
        if kind not in self._numbers:
            self._numbers[kind] = len(self._kinds)
            self._kinds.append(kind)
        return self._numbers[kind]


def is_unwatched(kind: Kind) -> bool:
    """Returns whether the stop was relayed, and no run has looked whether the charge stopped."""
    return kind.verdict == Verdict.RELAYED.value and not kind.state


def _leaves_open(kind: Kind) -> bool:
    """Returns whether this outcome is about the charge itself, and does not settle it.

    A refused account, an outage or a rate limit is not about the charge.
    """
    if kind.next_step == "resend":
        return kind.code in {"pin", InternalServerError.__name__}
    return kind.next_step == "check"
