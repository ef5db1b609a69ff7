"""Decides how a message ends, from the outcome of its command. No I/O and no broker."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from .._confirm.tracker import Confirmation
from .._errors import AccountError, NotSentError, ThorError, WrongTransaction
from .._models import NextStep, StopCharge, StopOutcome
from .._protocol.sanitize import sanitize

Action = Literal["ack", "retry", "dead_letter"]

MAX_DELIVERIES = 30
FRESH_FOR = 30.0
_FIRST_DELAY, _MAX_DELAY = 2.0, 60.0
# Much less than the time for which the stream keeps the message.
_LONGEST_RETRY_AFTER = 86_400.0

SCHEMA_HEADER, SCHEMA = "Thor-Schema", "1"

_DECODER = msgspec.json.Decoder(StopCharge)
_FIELDS = frozenset(StopCharge.__struct_fields__)


class Settlement(msgspec.Struct, frozen=True):
    """How to end a message.

    `action` is one of: `ack`, publish the outcome, then acknowledge; `retry`, return the message
    to the broker for a new delivery after `delay` seconds; `dead_letter`, store the message with
    the `reason` as a dead letter, then end it.
    `maybe_applied` marks a dead letter whose stop may have worked. `pauses` means that every other
    command would fail in the same way: a `CircuitBreaker` sends only single commands then, as
    probes, until one succeeds.
    """

    action: Action
    delay: float = 0.0
    reason: str | None = None
    maybe_applied: bool = False
    pauses: bool = False


def read_command(
    body: bytes, schema: str | None = None, *, tolerant: bool = False
) -> StopCharge | Settlement:
    """Decodes a message, or returns the `Settlement` of one that holds no command.

    `schema` is the version that the producer has put into the header `Thor-Schema`; without one it
    is 1, the only one there is. `tolerant` ignores fields that are not known. The `reason` never
    contains an id_tag.
    """
    if schema is not None and schema.strip() != SCHEMA:
        reason = f"its {SCHEMA_HEADER} is {sanitize(schema)}, and this worker knows {SCHEMA} only"
        return Settlement("dead_letter", reason=f"{reason}: update it, then send it again")
    try:
        return _decode_known_fields(body) if tolerant else _DECODER.decode(body)
    except (ValueError, RecursionError) as error:
        # The text of a UnicodeError shows the bytes around the bad one: perhaps an id_tag.
        is_unicode = isinstance(error, UnicodeError)
        detail = type(error).__name__ if is_unicode else sanitize(str(error))
    return Settlement("dead_letter", reason=f"not a StopCharge: {detail}")


def _decode_known_fields(body: bytes) -> StopCharge:
    found = msgspec.json.decode(body)
    if isinstance(found, dict):
        found = {name: value for name, value in found.items() if name in _FIELDS}
    return msgspec.convert(found, StopCharge)


def find_expiry(
    command: StopCharge,
    created: datetime,
    now: datetime,
    deliveries: int = 1,
    *,
    max_age: float = 600.0,
) -> Settlement | None:
    """Returns the `Settlement` of a command that is too old to be sent, else None.

    A command expires at its `not_after`; without one, `max_age` seconds after `created`, the time
    when the message was first stored. A late stop could end the charge of the next driver.
    `deliveries` includes this one.
    """
    age = (now - created).total_seconds()
    if command.not_after is not None:
        if now <= command.not_after:
            return None
        reason = "expired: its not_after has passed"
    elif age <= max_age:
        return None
    else:
        reason = f"expired: {age:.0f} s old, at most {max_age:.0f} are allowed"
    return Settlement("dead_letter", reason=reason, maybe_applied=deliveries > 1)


def apply_as_of(
    command: StopCharge,
    created: datetime,
    now: datetime,
    deliveries: int = 1,
    *,
    fresh_for: float = FRESH_FOR,
) -> StopCharge:
    """Returns the command to send, with `created` as its `as_of` where it could hit a later charge.

    That is a command without a `transaction`, which was delivered before, or whose age is over
    `fresh_for` seconds; an earlier `as_of` of its own is kept. `created` is the time when the
    message was first stored: a charge that began after it is not stopped. `deliveries` includes
    this one.
    """
    is_fresh = deliveries == 1 and abs((now - created).total_seconds()) <= fresh_for
    if is_fresh or command.transaction is not None:
        return command
    return msgspec.structs.replace(command, as_of=min(created, command.as_of or created))


def decide(
    result: StopOutcome | Confirmation,
    deliveries: int = 1,
    *,
    may_be_applied: bool | None = None,
    max_deliveries: int = MAX_DELIVERIES,
    random: Callable[[float, float], float] = random.uniform,
) -> Settlement:
    """Returns the `Settlement` of a message, from the `next_step` of its command.

    `deliveries` includes this one. A message that would need more than `max_deliveries` becomes a
    dead letter. Delay after delivery n: `uniform(d / 2, d)` s, d = min(60, 2 * 2**(n-1)), and at
    least the error's Retry-After, up to a day.
    `may_be_applied`: whether an earlier delivery may have stopped the charge; by default, if there
    was one. A dead letter says so.

    - `done`: ack.
    - `resend`: retry. A command that a shutdown cut off is delivered again at once, to another
      worker. A command that could not be pinned becomes a dead letter, except that one whose list
      was not known is retried, if no earlier delivery may have stopped its charge.
    - `check`: dead letter, marked `maybe_applied`. A watched stop with a `transaction` is retried,
      as a repeat cannot hit another charge, except after WrongTransaction.
    - `fix`: retry and pause for an account error, at any number of deliveries. For other errors:
      dead letter.
    """
    outcome = result.outcome if isinstance(result, Confirmation) else result
    error, reason = outcome.error, _describe(result)
    delay = _retry_delay(deliveries, error, random)
    if may_be_applied is None:
        may_be_applied = deliveries > 1
    if result.next_step == "done":
        return Settlement("ack")
    if isinstance(error, AccountError):
        return Settlement("retry", delay=delay, reason=reason, pauses=True)
    if isinstance(error, NotSentError) and error.reason == "closed":
        return Settlement("retry", reason=reason)
    if isinstance(error, NotSentError) and error.reason == "pin":
        is_repeatable = error.cause is not None and not may_be_applied
    else:
        is_repeatable = _is_repeatable(result.next_step, outcome)
    if is_repeatable and deliveries < max_deliveries:
        return Settlement("retry", delay=delay, reason=reason)
    if is_repeatable:
        reason = f"delivered {deliveries} times: {reason}"
    maybe_applied = may_be_applied or outcome.maybe_applied or result.next_step == "check"
    return Settlement("dead_letter", reason=reason, maybe_applied=maybe_applied)


def _is_repeatable(next_step: NextStep, outcome: StopOutcome) -> bool:
    if next_step == "check":
        is_pinned = outcome.command.transaction is not None
        return is_pinned and not isinstance(outcome.error, WrongTransaction)
    return next_step == "resend"


def _describe(result: StopOutcome | Confirmation) -> str:
    if isinstance(result, Confirmation):
        return f"{result.state}: {result.evidence} ({_describe(result.outcome)})"
    return "relayed" if result.error is None else result.error.message


def _retry_delay(
    deliveries: int, error: ThorError | None, random: Callable[[float, float], float]
) -> float:
    longest = min(_MAX_DELAY, _FIRST_DELAY * 2.0 ** min(deliveries - 1, 10))
    least = min((error and error.retry_after) or 0.0, _LONGEST_RETRY_AFTER)
    return max(random(longest / 2, longest), least)
