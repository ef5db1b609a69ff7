"""The events of calls and batches, as `on_event` receives them."""

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
    """A command was started. Its `CallFinished` comes later, in the same task.

    As in all events of a call, `index` is its position in the batch (0 for a single call), and
    `chargebox`, `connector`, `transaction` and `ref` are the command's; its id_tag is in none.
    """


class AttemptStarted(_OfCall, frozen=True, kw_only=True):
    """A request is sent: number `attempt`, from 1, to `url`. Its `AttemptFinished` comes later."""

    attempt: int
    url: str


class AttemptFinished(_OfCall, frozen=True, kw_only=True):
    """A request ended after `duration` seconds. `verdict` is about this request alone.

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
    """Attempt number `attempt` failed, and the next one is due in `wait` seconds."""

    attempt: int
    wait: float
    error: str
    reason: str | None
    status: int | None
    code: str | None


class CallFinished(_OfCall, frozen=True, kw_only=True):
    """A command has its outcome; the fields are those of `StopOutcome` and of its error.

    `error` is the name of its class, None for a relay, and `message` its text. For a single call
    that is cancelled, or broken by your own code, the `verdict` is `indeterminate`, or `not_sent`
    when no attempt was begun.
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
    """Thor seems down, and a batch sends only single probes. `cause` is the last failure."""

    cause: str | None


class BatchResumed(msgspec.Struct, frozen=True, tag=True):
    """Thor answered again after `paused` seconds, and the batch goes on."""

    paused: float


class BatchAbandoned(msgspec.Struct, frozen=True, tag=True):
    """A batch gave up, for an account error, an outage or a failure on your side: `cause`."""

    cause: str | None


class PaceLowered(msgspec.Struct, frozen=True, tag=True):
    """Thor answers 429: about `rate` requests a second are sent from now on."""

    rate: float


class PaceRestored(msgspec.Struct, frozen=True, tag=True):
    """Thor accepts more again: `rate` requests a second, or None for no limit that is known."""

    rate: float | None


Event = (
    CallStarted
    | AttemptStarted
    | AttemptFinished
    | RetryScheduled
    | CallFinished
    | BatchPaused
    | BatchResumed
    | BatchAbandoned
    | PaceLowered
    | PaceRestored
)


def describe_cause(cause: Exception | None) -> str | None:
    """Describes a cause without secrets: the text of a `ThorError`, else only a class name."""
    if isinstance(cause, ThorError):
        return cause.message
    # Its text may hold a secret, for example when a vault repeats what was asked for.
    return None if cause is None else type(cause).__name__
