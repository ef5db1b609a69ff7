"""The events of calls and batches, as `on_event` receives them."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import msgspec

from ._errors import ThorError, Verdict
from ._models import InvalidKeyError, NextStep

_PACKAGE = __name__.partition(".")[0]


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
    """Describes a cause without secrets: the text of our own errors, else class and place."""
    return None if cause is None else describe_failure(cause)


def describe_failure(failure: BaseException, what: str | None = None) -> str:
    """Describes as `describe_cause` what was raised, by `what` where that is known."""
    if isinstance(failure, ThorError | InvalidKeyError):
        text = failure.message if isinstance(failure, ThorError) else str(failure)
        return text if what is None else f"{what} failed: {text}"
    # Its text may hold a secret, for example when a vault repeats what was asked for.
    name = type(failure).__name__
    place = _find_place(failure) if isinstance(failure, Exception) else None
    described = name if place is None else f"{name} at {place}"
    return described if what is None else f"{what} raised {described}"


def _find_place(failure: BaseException) -> str | None:
    """Returns file and line of the innermost frame that is the user's, else of a library's."""
    place, is_users = None, False
    for frame, line in traceback.walk_tb(failure.__traceback__):
        file = frame.f_code.co_filename.replace("\\", "/")
        top = str(frame.f_globals.get("__name__")).partition(".")[0]
        is_library = top in sys.stdlib_module_names or "/site-packages/" in file
        if top != _PACKAGE and not (is_users and is_library):
            place, is_users = f"{file.rpartition('/')[2]}:{line}", not is_library
    return place
