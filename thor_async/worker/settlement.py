"""From what came of a command to what becomes of its message. No I/O, and no broker in it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from .._confirm.tracker import Confirmation
from .._errors import AccountError, NotSentError
from .._models import NextStep, StopCharge, StopOutcome
from .._protocol.stop import sanitize

Action = Literal["ack", "retry", "dead_letter"]

MAX_DELIVERIES = 30
_FIRST_DELAY, _LONGEST_DELAY = 2.0, 60.0

_DECODER = msgspec.json.Decoder(StopCharge)


class Settlement(msgspec.Struct, frozen=True):
    """What is to become of a message.

    `action`: `ack` once the outcome is published; `retry`: give it back, to be delivered again
    after `delay` seconds; `dead_letter`: store it among the dead letters with the `reason`,
    then end it.
    `maybe_applied` says of a dead letter that the stop may have worked in spite of it. With
    `pauses`, every other command would fail alike: take no more than single ones to probe with.
    """

    action: Action
    delay: float = 0.0
    reason: str | None = None
    maybe_applied: bool = False
    pauses: bool = False


def read_command(body: bytes) -> StopCharge | Settlement:
    """The command in a message, or the `Fate` of one that holds none. An id_tag is in no reason."""
    try:
        return _DECODER.decode(body)
    except (ValueError, RecursionError) as problem:
        # A byte that is no UTF-8 is told with all that is around it.
        said = (
            type(problem).__name__ if isinstance(problem, UnicodeError) else sanitize(str(problem))
        )
    return Settlement("dead_letter", reason=f"not a StopCharge: {said}")


def find_expiry(
    command: StopCharge, created: datetime, now: datetime, *, max_age: float = 600.0
) -> Settlement | None:
    """The `Fate` of a command that is too old to be sent; None while it is not.

    `created` is when the message was first stored, whatever the deliveries since. Past `max_age`
    seconds of a command without a `not_after`: a stop that comes late stops the next driver.
    """
    if command.not_after is not None:
        late = now > command.not_after
        return (
            Settlement("dead_letter", reason="expired: its not_after has passed") if late else None
        )
    age = (now - created).total_seconds()
    if age <= max_age:
        return None
    return Settlement(
        "dead_letter", reason=f"expired: {age:.0f} s old, at most {max_age:.0f} are allowed"
    )


def decide(
    result: StopOutcome | Confirmation,
    deliveries: int = 1,
    *,
    max_deliveries: int = MAX_DELIVERIES,
    random: Callable[[float, float], float] = random.uniform,
) -> Settlement:
    """The `Fate` of a message from the `next_step` of its command.

    `deliveries` counts this one: a message that would need more than `max_deliveries` is buried.
    Delivery n is followed after `uniform(d / 2, d)` seconds by the next, d = min(60, 2 * 2**(n-1)).

    - `done`: ack.
    - `resend`: retry; but expired is buried, and what was cut off by a shutdown goes on elsewhere
      at once.
    - `check` with a `transaction`: retry, as a repeat cannot hit another charge. Without: buried,
      marked `maybe_applied`.
    - `fix` by an account error: retry, and pause. Nothing is buried for it, at any count.
      Otherwise: buried.
    """
    outcome = result.outcome if isinstance(result, Confirmation) else result
    error, reason = outcome.error, _explain(result)
    delay = _delay(deliveries, random)
    maybe_applied = outcome.maybe_applied or result.next_step == "check"
    if result.next_step == "done":
        return Settlement("ack")
    if isinstance(error, AccountError):
        return Settlement("retry", delay=delay, reason=reason, pauses=True)
    if isinstance(error, NotSentError) and error.reason == "closed":
        return Settlement("retry", reason=reason)
    if not _may_be_repeated(result.next_step, outcome):
        return Settlement("dead_letter", reason=reason, maybe_applied=maybe_applied)
    if deliveries >= max_deliveries:
        reason = f"delivered {deliveries} times: {reason}"
        return Settlement("dead_letter", reason=reason, maybe_applied=maybe_applied)
    return Settlement("retry", delay=delay, reason=reason)


def _may_be_repeated(next_step: NextStep, outcome: StopOutcome) -> bool:
    if next_step == "check":
        return outcome.command.transaction is not None
    is_expired = isinstance(outcome.error, NotSentError) and outcome.error.reason == "expired"
    return next_step == "resend" and not is_expired


def _explain(result: StopOutcome | Confirmation) -> str:
    if isinstance(result, Confirmation):
        return f"{result.state}: {result.evidence} ({_explain(result.outcome)})"
    return "relayed" if result.error is None else result.error.message


def _delay(deliveries: int, random: Callable[[float, float], float]) -> float:
    most = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(deliveries - 1, 10))
    return random(most / 2, most)
