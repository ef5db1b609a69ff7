"""The result of one stop, with or without a confirmation."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterable, Iterable
from typing import Any

import msgspec

from thor_async import (
    Confirmation,
    NotSentError,
    OutcomeStream,
    StopCharge,
    StopOutcome,
    ThorClient,
    _calls,
)
from thor_async._dispatch.breaker import PauseStatus

Commands = Iterable[StopCharge] | AsyncIterable[StopCharge]
Item = StopOutcome | Confirmation


class StopOptions(msgspec.Struct, frozen=True):
    """How charges are stopped; durations are in seconds.

    `wait`: watch each charge for up to this time. `pin`: look up its transaction before the stop.
    `within`: end all stops after this time; it cannot be combined with `wait` or `ensure`.
    `ensure`: for up to this time, stop each charge again while it still runs.
    """

    wait: float | None = None
    pin: bool = False
    within: float | None = None
    ensure: float | None = None

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> StopOptions:
        return cls(args.wait, args.pin, getattr(args, "within", None), args.ensure)

    @property
    def is_watched(self) -> bool:
        """Whether it is looked at whether each charge stopped."""
        return self.wait is not None or self.ensure is not None


class StopResult(msgspec.Struct, frozen=True):
    """The outcome of a stop, and its confirmation if the charge was watched.

    `may_have_been_sent`: an earlier run may have sent the same command.
    """

    outcome: StopOutcome
    confirmation: Confirmation | None = None
    may_have_been_sent: bool = False

    @property
    def state(self) -> str:
        """The state of the confirmation; empty without one."""
        return "" if self.confirmation is None else self.confirmation.state

    @property
    def maybe_applied(self) -> bool:
        return self.outcome.maybe_applied or self.may_have_been_sent

    @property
    def reason(self) -> str:
        """Thor's code; without one the reason of a stop that was not sent, or the error's class."""
        error = self.outcome.error
        if error is None:
            return ""
        if isinstance(error, NotSentError):
            return error.reason
        return error.code or type(error).__name__

    @property
    def next_step(self) -> str:
        """The next step, as if the stop of the earlier run had been an attempt of this one."""
        outcome, confirmation = self.outcome, self.confirmation
        if self.may_have_been_sent:
            outcome = msgspec.structs.replace(outcome, maybe_applied=True)
        if confirmation is None:
            return outcome.next_step
        return msgspec.structs.replace(confirmation, outcome=outcome).next_step

    def record(self) -> dict[str, Any]:
        """Returns a flat row for JSON, without the id_tag."""
        source = self.outcome if self.confirmation is None else self.confirmation
        row = dict(source.record())
        row |= {"maybe_applied": self.maybe_applied, "next_step": self.next_step}
        if row["code"] is None and self.reason:
            row["reason"] = self.reason
        return row


Stream = OutcomeStream[StopCharge, StopOutcome] | OutcomeStream[StopCharge, Confirmation]


def open_stream(thor: ThorClient, commands: Commands, options: StopOptions) -> Stream:
    """Opens a stream of outcomes, or of confirmations with `options.wait` or `options.ensure`.

    No retry can stop a later charge, also without a transaction.
    """
    if options.ensure is not None:
        return _calls.ensure_stream(thor._check_open(), commands, within=options.ensure)
    if options.wait is None:
        return _calls.stop_stream(
            thor._check_open(), commands, within=options.within, pin=options.pin, pins_retries=True
        )
    return _calls.confirm_stream(
        thor._check_open(), commands, within=options.wait, pin=options.pin, pins_retries=True
    )


def find_pause(stream: Stream) -> PauseStatus | None:
    """Returns what is known of a pause while Thor seems down; None without one."""
    return stream._pause_status()


def as_result(item: Item, *, may_have_been_sent: bool = False) -> StopResult:
    """Wraps an item of either stream."""
    if isinstance(item, Confirmation):
        return StopResult(item.outcome, item, may_have_been_sent)
    return StopResult(item, may_have_been_sent=may_have_been_sent)
