"""What happens to calls and batches, as values: what `on_event` is given."""

from __future__ import annotations

from typing import Any

import msgspec

from ._errors import ThorError, Verdict
from ._models import NextStep


class _OfCall(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    chargebox: str
    connector: int
    transaction: int | None
    ref: Any
    index: int


class CallStarted(_OfCall, frozen=True, kw_only=True):
    """A command was taken up. Its `CallFinished` comes later, in the same task.

    As in all events of a call, `index` is its position in the batch (0 of a single call), and
    `chargebox`, `connector`, `transaction` and `ref` are the command's; its id_tag is in none.
    """


class AttemptStarted(_OfCall, frozen=True, kw_only=True):
    """A request goes out: number `attempt`, from 1, to `url`. Its `AttemptFinished` comes later."""

    attempt: int
    url: str


class AttemptFinished(_OfCall, frozen=True, kw_only=True):
    """A request ended, after `duration` seconds, with this `verdict` on it alone.

    `error` is the name of its error's class, None when Thor relayed the stop; `reason` that of a
    `NotSentError`; `status`, `code` and `retry_after` (seconds) the answer's, or None.
    """

    attempt: int
    url: str
    duration: float
    verdict: Verdict
    error: str | None
    reason: str | None
    status: int | None
    code: str | None
    retry_after: float | None


class RetryScheduled(_OfCall, frozen=True, kw_only=True):
    """Attempt number `attempt` failed so, and in `wait` seconds there is to be another."""

    attempt: int
    wait: float
    error: str
    reason: str | None
    status: int | None
    code: str | None


class CallFinished(_OfCall, frozen=True, kw_only=True):
    """A command has its outcome; the fields are those of `StopOutcome` and of its error.

    `error` is the name of its class, None for a relay, and `message` its text. A single call that
    is cancelled, or that something of yours broke, has the name of what it raises and no text;
    its `verdict` is then `indeterminate`, or `not_sent` when no attempt was begun.
    """

    verdict: Verdict
    error: str | None
    reason: str | None
    status: int | None
    code: str | None
    message: str | None
    attempts: int
    elapsed: float
    maybe_applied: bool
    next_step: NextStep


class BatchPaused(msgspec.Struct, frozen=True, tag=True):
    """Thor seems down: a batch sends single probes only. `cause` is what was seen last."""

    cause: str | None


class BatchResumed(msgspec.Struct, frozen=True, tag=True):
    """Thor spoke again after `paused` seconds, and the batch goes on."""

    paused: float


class BatchAbandoned(msgspec.Struct, frozen=True, tag=True):
    """A batch gave up, for an account error, an outage or a failure on your side: `cause`."""

    cause: str | None


Event = (
    CallStarted
    | AttemptStarted
    | AttemptFinished
    | RetryScheduled
    | CallFinished
    | BatchPaused
    | BatchResumed
    | BatchAbandoned
)


def describe_cause(cause: Exception | None) -> str | None:
    """What may be shown of it: a ThorError's text, else only a name."""
    if isinstance(cause, ThorError):
        return cause.message
    # Its text may hold anything, as when a vault says what it was asked for.
    return None if cause is None else type(cause).__name__
