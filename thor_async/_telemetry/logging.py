"""Writes events to the logger `thor_async`, one line each."""

from __future__ import annotations

import contextlib
import logging
import traceback

from .._events import (
    AttemptFinished,
    BatchAbandoned,
    BatchPaused,
    BatchResumed,
    CallFinished,
    Event,
    PaceLowered,
    PaceRestored,
    RetryScheduled,
)

LOG = logging.getLogger("thor_async")
# Without this, Python prints warnings of a program that has set up no logging.
LOG.addHandler(logging.NullHandler())

ATTEMPT, RETRY, SUCCESS = logging.DEBUG, logging.INFO, logging.DEBUG
FAILURE = BATCH = logging.WARNING
"""Levels. A failed stop or a paused batch may need an operator; a retry does not.

The end of a pause has the level of its begin, so that a log with one also has the other.
"""

_WHOLE = 100

_OfStop = AttemptFinished | RetryScheduled | CallFinished


def log(event: Event) -> None:
    """Writes the line of an event, if it has one."""
    match event:
        case AttemptFinished():
            _write(ATTEMPT, "attempt", event, "duration=%.3f", event.duration)
        case RetryScheduled():
            _write(RETRY, "retry", event, "wait=%.3f", event.wait)
        case CallFinished(error=None):
            _write(SUCCESS, "relayed", event, "elapsed=%.3f", event.elapsed)
        case CallFinished():
            end = "verdict=%s next_step=%s elapsed=%.3f: %s"
            said = (event.verdict, event.next_step, event.elapsed, event.message)
            _write(FAILURE, "failed", event, end, *said)
        case BatchPaused():
            LOG.log(BATCH, "batch paused, Thor seems down: %s", event.cause)
        case BatchResumed():
            LOG.log(BATCH, "batch resumed after %.3f s", event.paused)
        case BatchAbandoned():
            LOG.log(BATCH, "batch gave up: %s", event.cause)
        case PaceLowered():
            LOG.log(BATCH, "pace lowered, %s", _describe_limit(event.rate))
        case PaceRestored():
            LOG.log(BATCH, "pace restored, %s", _describe_limit(event.rate))


def log_failure(what: str, failure: BaseException) -> None:
    """Logs that `what` failed, without the failure's text or chain, which may hold a secret."""
    where = "".join(traceback.format_tb(failure.__traceback__))
    # The log itself may be what fails.
    with contextlib.suppress(Exception):
        LOG.error("%s raised %s:\n%s", what, type(failure).__name__, where)


def _describe_limit(rate: float | None) -> str:
    if rate is None:
        return "no limit is known"
    number = f"{rate:.0f}" if rate >= _WHOLE else f"{rate:.3g}"
    return f"Thor allows about {number} requests a second"


def _write(level: int, what: str, event: _OfStop, end: str, *said: object) -> None:
    if not LOG.isEnabledFor(level):
        return
    fields = {"event": what, **_fields(event)}
    line = f"{what}: chargebox=%r connector=%d attempt=%d error=%s status=%s code=%s {end}"
    facts = (event.chargebox, event.connector, fields["attempt"], event.error, event.status)
    log_with_fields(LOG, level, line, (*facts, event.code, *said), fields)


def log_with_fields(
    logger: logging.Logger,
    level: int,
    line: str,
    said: tuple[object, ...],
    fields: dict[str, object],
) -> None:
    """Writes a line whose record has these attributes, for handlers that write JSON.

    Not by `extra`, which raises KeyError where the program gives such a field to all records.
    """
    if not logger.isEnabledFor(level):
        return
    where = log_with_fields.__code__
    place = (where.co_filename, where.co_firstlineno)
    record = logger.makeRecord(logger.name, level, *place, line, said, None, where.co_name)
    for name, value in fields.items():
        vars(record).setdefault(name, value)
    logger.handle(record)


def _fields(event: _OfStop) -> dict[str, object]:
    """Returns the facts of a stop, never its id_tag.

    A retry has no verdict, and only the end of a stop has a next step.
    """
    return {
        "chargebox": event.chargebox,
        "connector": event.connector,
        "transaction": event.transaction,
        "ref": event.ref,
        "attempt": event.attempts if isinstance(event, CallFinished) else event.attempt,
        "verdict": None if isinstance(event, RetryScheduled) else event.verdict,
        "error": event.error,
        "status": event.status,
        "code": event.code,
        "next_step": event.next_step if isinstance(event, CallFinished) else None,
    }
