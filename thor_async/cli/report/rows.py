"""A row of a report, and what is known of its charge."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from thor_async import NotInTransaction, Verdict

_PROVEN = {"stopped", "still_running", "refused"}
_ANSWERED = {Verdict.RELAYED.value, Verdict.REJECTED.value}


class Category(NamedTuple):
    """What is known of a charge, in words for the page."""

    label: str
    sentence: str
    is_over: bool = False


CATEGORIES = {
    "still_running": Category("still running", "The last complete running list shows the charge."),
    "refused": Category("refused", "Thor or the chargebox refused the stop."),
    "unknown": Category("unknown", "The stop may have been applied, but nothing proves it."),
    "relayed": Category(
        "relayed, not looked at",
        "Thor handed the stop on to the chargebox, which may still refuse it. It was not checked "
        "whether the charge ended.",
    ),
    "not_sent": Category("not sent", "No stop reached Thor."),
    "over": Category("over", "Thor says that the charge does not run. It was not proven.", True),
    "stopped": Category("stopped", "A notification or the running lists prove it.", True),
}
"""The categories of rows, in the order of the page."""


class ReportRow(msgspec.Struct, frozen=True):
    """One row of the input: its charge and its latest result.

    `at` is the time at which the result was known, `answered_at` that of the stop's outcome before
    the charge was watched. Older journals lack some of the fields.
    """

    line: int
    index: int
    chargebox: str
    connector: int
    verdict: str
    next_step: str
    at: datetime | None = None
    answered_at: datetime | None = None
    elapsed: float = 0.0
    attempts: int = 0
    transaction: int | None = None
    ref: Any = None
    code: str | None = None
    reason: str | None = None
    status: int | None = None
    request_id: str | None = None
    message: str | None = None
    maybe_applied: bool = False
    state: str | None = None
    evidence: str | None = None
    stops_sent: int = 1
    energy: float | None = None

    @property
    def category(self) -> str:
        """The key in `CATEGORIES`: never better than what is known."""
        if self.state in _PROVEN:
            return self.state
        if self._is_over_for_thor():
            return "over"
        if self.verdict == Verdict.RELAYED and self.state is None:
            return "relayed"
        if self.verdict == Verdict.NOT_SENT and not self.maybe_applied:
            return "not_sent"
        if self.verdict == Verdict.REJECTED and not self.maybe_applied:
            return "refused"
        return "unknown"

    @property
    def may_still_charge(self) -> bool:
        """False only if the charge is known to be over."""
        return not CATEGORIES[self.category].is_over

    @property
    def asked(self) -> datetime | None:
        """The time at which the row was taken up; None if no stop was sent or it is not known."""
        known = self._outcome_at
        return known - timedelta(seconds=self.elapsed) if known and self.attempts else None

    @property
    def answered(self) -> datetime | None:
        """The time of Thor's last answer, or None without one."""
        has_answer = self.status is not None or self.verdict in _ANSWERED
        return self._outcome_at if has_answer else None

    @property
    def proven(self) -> datetime | None:
        """The time at which it was known whether the charge stopped; None if nothing proves it."""
        return self.at if self.state in _PROVEN else None

    @property
    def _outcome_at(self) -> datetime | None:
        # Older journals have only the time at which the watch ended.
        return self.at if self.state is None else self.answered_at

    def _is_over_for_thor(self) -> bool:
        """Returns whether Thor's answer or its running list says that the charge does not run."""
        if self.next_step != "done":
            return False
        is_idle = self.verdict == Verdict.REJECTED and self.code == NotInTransaction.__name__
        return is_idle or self.verdict == Verdict.NOT_SENT
