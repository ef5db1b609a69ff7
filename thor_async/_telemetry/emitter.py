"""Emits events to the log and to the listeners given as `on_event`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from .._errors import NotSentError, ThorError, Verdict
from .._events import (
    AttemptFinished,
    AttemptStarted,
    CallFinished,
    CallStarted,
    Event,
    RetryScheduled,
)
from .._models import StopCharge, StopOutcome
from .logging import ATTEMPT, FAILURE, LOG, RETRY, log, log_failure

Listener = Callable[[Event], object]
OnEvent = Listener | Sequence[Listener] | None


class EventEmitter:
    """Emits the events of one client. No listener can break a stop."""

    def __init__(self, on_event: OnEvent = None) -> None:
        listeners = _as_listeners(on_event)
        self._has_listeners = bool(listeners)
        self._listeners: list[tuple[str, Listener]] = [("a log handler", log)]
        self._listeners += [("on_event", listener) for listener in listeners]
        self._reported: set[int] = set()
        self._is_ending = False

    def emit(self, event: Event) -> None:
        """Calls each listener. The first exception of each is logged, and none is raised.

        KeyboardInterrupt and SystemExit are for the program, see `end_program`. CancelledError is
        no cancellation here, because none arrives in a function that is not awaited.
        """
        for place, (name, listener) in enumerate(self._listeners):
            try:
                listener(event)
            except (Exception, asyncio.CancelledError) as failure:
                if place not in self._reported:
                    self._reported.add(place)
                    log_failure(name, failure)
            except (KeyboardInterrupt, SystemExit) as end:
                self.end_program(end)

    def end_program(self, end: KeyboardInterrupt | SystemExit) -> None:
        """Lets the loop raise it to the program in its next round, so that it costs no outcome.

        Only the first: the program then ends its tasks, and another one would break that off.
        """
        if not self._is_ending:
            self._is_ending = True
            asyncio.get_running_loop().call_soon(_raise, end)

    @property
    def emits_all(self) -> bool:
        """Whether a listener or the log takes the events of a stop that succeeds."""
        return self._has_listeners or LOG.isEnabledFor(ATTEMPT)

    def is_heard(self, level: int) -> bool:
        """Whether a listener takes an event, or the log takes it at that level."""
        return self._has_listeners or LOG.isEnabledFor(level)


class CallReporter(msgspec.Struct, gc=False):
    """Emits the events of one stop: with `emits_all` each step, else its retries and failure."""

    emitter: EventEmitter
    command: StopCharge
    index: int
    emits_all: bool
    attempt: int = 0
    url: str = ""
    attempt_began: float | None = None

    def call_started(self) -> None:
        self.emitter.emit(CallStarted(**self._command_fields()))

    def attempt_started(self, attempt: int, url: str) -> None:
        self.attempt, self.url = attempt, url
        self.attempt_began = asyncio.get_running_loop().time()
        self.emitter.emit(AttemptStarted(**self._command_fields(), attempt=attempt, url=url))

    def attempt_finished(self, error: ThorError | None) -> None:
        """Emits how the attempt ended, if one is going on."""
        if self.attempt_began is None:
            return
        duration = asyncio.get_running_loop().time() - self.attempt_began
        self.attempt_began = None
        self.emitter.emit(
            AttemptFinished(
                **self._command_fields(),
                **_error_fields(error),
                attempt=self.attempt,
                url=self.url,
                duration=duration,
                verdict=Verdict.RELAYED if error is None else error.verdict,
                retry_after=error.retry_after if error else None,
            )
        )

    def retry_scheduled(self, attempt: int, error: ThorError | None, wait: float) -> None:
        if self.emitter.is_heard(RETRY):
            fields = self._command_fields() | _error_fields(error)
            # A plain float: tenacity's own kind has no JSON.
            self.emitter.emit(RetryScheduled(**fields, attempt=attempt, wait=float(wait)))

    def call_finished(self, outcome: StopOutcome) -> None:
        """Emits the outcome, and first the end of an attempt that was broken off with it."""
        error = outcome.error
        if self.emits_all:
            self.attempt_finished(error)
        elif error is None or not self.emitter.is_heard(FAILURE):
            return
        self.emitter.emit(
            CallFinished(
                **self._command_fields(),
                **_error_fields(error),
                message=error.message if error else None,
                verdict=outcome.verdict,
                attempts=outcome.attempts,
                elapsed=outcome.elapsed,
                maybe_applied=outcome.maybe_applied,
                next_step=outcome.next_step,
            )
        )

    def _command_fields(self) -> dict[str, Any]:
        command = self.command
        return {
            "chargebox": command.chargebox,
            "connector": command.connector,
            "transaction": command.transaction,
            "ref": command.ref,
            "index": self.index,
        }


def _raise(end: BaseException) -> None:
    raise end


def _as_listeners(on_event: OnEvent) -> list[Listener]:
    given = on_event if isinstance(on_event, Sequence) else [on_event]
    if on_event is None:
        return []
    for listener in given:
        if not _is_plain_function(listener):
            raise ValueError(
                "on_event must be a plain function that is given each event, or a sequence of "
                f"them, not {listener!r}: to await something, put the event into a queue of yours"
            )
    return [listener for listener in given if listener is not None]


def _is_plain_function(listener: object) -> bool:
    called = (listener, type(listener).__call__) if callable(listener) else ()
    return bool(called) and not any(map(inspect.iscoroutinefunction, called))


def _error_fields(error: ThorError | None) -> dict[str, Any]:
    """How an attempt or a stop ended; only a 200 is without an error."""
    return {
        "error": type(error).__name__ if error else None,
        "reason": error.reason if isinstance(error, NotSentError) else None,
        "status": error.status if error else 200,
        "code": error.code if error else None,
    }
