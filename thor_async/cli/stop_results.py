"""What came of one command, with or without a watch on its charge."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any

import msgspec

from thor_async import (
    Confirmation,
    OutcomeStream,
    StopCharge,
    StopOutcome,
    ThorClient,
)

Commands = Iterable[StopCharge] | AsyncIterable[StopCharge]
Item = StopOutcome | Confirmation


class StopOptions(msgspec.Struct, frozen=True):
    """How stops are made; all durations are seconds.

    `wait` watches each charge for so long, `pin` fills in its transaction first, `within` bounds
    all stops together and does not go with `wait`.
    """

    wait: float | None = None
    pin: bool = False
    within: float | None = None


class Result(msgspec.Struct, frozen=True):
    """An outcome, and the confirmation if its charge was watched.

    `may_have_been_sent` says that a run before this one may have sent it too.
    """

    outcome: StopOutcome
    confirmation: Confirmation | None = None
    may_have_been_sent: bool = False

    @property
    def state(self) -> str:
        """What the watch saw; empty without one."""
        return "" if self.confirmation is None else self.confirmation.state

    @property
    def maybe_applied(self) -> bool:
        return self.outcome.maybe_applied or self.may_have_been_sent

    @property
    def next_step(self) -> str:
        """As that of what came of it; what may have been sent is never only to be sent again."""
        outcome, made = self.outcome, self.confirmation
        if self.may_have_been_sent:
            outcome = msgspec.structs.replace(outcome, maybe_applied=True)
        if made is None:
            step = outcome.next_step
        else:
            step = msgspec.structs.replace(made, outcome=outcome).next_step
        return "check" if step == "resend" and self.may_have_been_sent else step

    def record(self) -> dict[str, Any]:
        """One flat row, ready for JSON; without the id_tag."""
        made = self.outcome if self.confirmation is None else self.confirmation
        row = msgspec.structs.asdict(made.record())
        return row | {"maybe_applied": self.maybe_applied, "next_step": self.next_step}


def open_stream(
    thor: ThorClient, commands: Commands, manner: StopOptions
) -> OutcomeStream[StopCharge, StopOutcome] | OutcomeStream[StopCharge, Confirmation]:
    """The stream of what comes of them."""
    if manner.wait is None:
        return thor.stop_stream(commands, within=manner.within, pin=manner.pin)
    return thor.stop_and_confirm_stream(commands, within=manner.wait, pin=manner.pin)


def as_result(item: Item, *, may_have_been_sent: bool = False) -> Result:
    """What a stream of either kind yields, as one."""
    if isinstance(item, Confirmation):
        return Result(item.outcome, item, may_have_been_sent)
    return Result(item, may_have_been_sent=may_have_been_sent)
