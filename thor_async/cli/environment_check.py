"""Finds that a batch was sent to the wrong environment or account."""

from __future__ import annotations

from thor_async import ChargeboxNotFound, DomainError, RejectedError

from .output.resume import ResumeState
from .output.stats import Kind
from .stop_results import StopResult

LIMIT = 50
"""Unknown chargeboxes, and no known one, after which nothing more is sent without a word."""

_KNOWN = {error.__name__ for error in DomainError.__subclasses__()} - {ChargeboxNotFound.__name__}


class EnvironmentCheck:
    """Counts the chargeboxes that Thor does not know, until it knows one.

    `resume_state` has the outcomes of earlier runs: with one known chargebox, there is no doubt.
    """

    def __init__(self, resume_state: ResumeState, *, is_off: bool = False) -> None:
        self.is_settled: bool = is_off or any(map(_shows_known, resume_state.count_kinds()))
        self.unknown: int = 0

    def add(self, result: StopResult) -> None:
        if isinstance(result.outcome.error, ChargeboxNotFound):
            self.unknown += 1
        elif not self.is_settled and result.outcome.attempts:
            code = result.reason if isinstance(result.outcome.error, RejectedError) else ""
            self.is_settled = result.outcome.error is None or code in _KNOWN

    @property
    def is_suspicious(self) -> bool:
        return not self.is_settled and self.unknown >= LIMIT


def _shows_known(kind: Kind) -> bool:
    """Returns whether Thor knew the chargebox of an outcome of this kind."""
    return kind.verdict == "relayed" or kind.code in _KNOWN
