"""Tells what happens to the log, and to whoever listens with `on_event`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import traceback
from collections.abc import Callable
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
from .logging import ATTEMPT, FAILURE, LOG, RETRY, log

OnEvent = Callable[[Event], object] | None


class EventEmitter:
    """Hands the events of one client to who listens; no listener can break a stop."""

    def __init__(self, on_event: OnEvent = None) -> None:
        if on_event is not None and not _is_plain(on_event):
            raise ValueError(
                f"on_event must be a plain function that is given each event, not {on_event!r}: "
                "to await something, put the event into a queue of yours"
            )
        self._on_event = on_event
        self._listeners = [log] if on_event is None else [log, on_event]
        self._accused: set[int] = set()

    def tell(self, event: Event) -> None:
        """To each listener; the first exception of each is logged, and none gets any further.

        But for KeyboardInterrupt and SystemExit, which are for the program. CancelledError is one
        like others here: no cancellation arrives in what is not awaited.
        """
        for place, listener in enumerate(self._listeners):
            try:
                listener(event)
            except (Exception, asyncio.CancelledError) as failure:
                if place not in self._accused:
                    self._accused.add(place)
                    _accuse(("a log handler", "on_event")[place], failure)

    @property
    def emits_all(self) -> bool:
        """Whether anybody would hear of a stop that succeeds."""
        return self.hears(ATTEMPT)

    def hears(self, level: int) -> bool:
        """Whether anybody would hear of what the log has at that level."""
        return self._on_event is not None or LOG.isEnabledFor(level)


class CallReporter(msgspec.Struct, gc=False):
    """What one stop has to tell, from its begin to its outcome.

    With `whole`, each step of it; else only its retries and its failure. `started` is loop time.
    """

    teller: EventEmitter
    command: StopCharge
    index: int
    started: float
    whole: bool
    attempt: int = 0
    url: str = ""
    began: float | None = None

    def begin(self) -> None:
        self.teller.tell(CallStarted(**self._where()))

    def begin_attempt(self, attempt: int, url: str) -> None:
        self.attempt, self.url = attempt, url
        self.began = asyncio.get_running_loop().time()
        self.teller.tell(AttemptStarted(**self._where(), attempt=attempt, url=url))

    def end_attempt(self, error: ThorError | None) -> None:
        """Tells how it ended, if there is one that has not ended."""
        if self.began is None:
            return
        duration, self.began = asyncio.get_running_loop().time() - self.began, None
        self.teller.tell(
            AttemptFinished(
                **self._where(),
                **_facts(error),
                attempt=self.attempt,
                url=self.url,
                duration=duration,
                verdict=Verdict.RELAYED if error is None else error.verdict,
                retry_after=error.retry_after if error else None,
            )
        )

    def retry(self, attempt: int, error: ThorError | None, wait: float) -> None:
        if self.teller.hears(RETRY):
            facts = self._where() | _facts(error)
            # A plain one: tenacity's own kind of float has no JSON.
            self.teller.tell(RetryScheduled(**facts, attempt=attempt, wait=float(wait)))

    def finish(self, outcome: StopOutcome) -> None:
        """Tells the outcome, and first the end of an attempt that was broken off with it."""
        error = outcome.error
        if self.whole:
            self.end_attempt(error)
        elif error is None or not self.teller.hears(FAILURE):
            return
        self.teller.tell(
            CallFinished(
                **self._where(),
                **_facts(error),
                message=error.message if error else None,
                verdict=outcome.verdict,
                attempts=outcome.attempts,
                elapsed=outcome.elapsed,
                maybe_applied=outcome.maybe_applied,
                next_step=outcome.next_step,
            )
        )

    def _where(self) -> dict[str, Any]:
        command = self.command
        return {
            "chargebox": command.chargebox,
            "connector": command.connector,
            "transaction": command.transaction,
            "ref": command.ref,
            "index": self.index,
        }


def _is_plain(on_event: object) -> bool:
    called = (on_event, type(on_event).__call__) if callable(on_event) else ()
    return bool(called) and not any(map(inspect.iscoroutinefunction, called))


def _facts(error: ThorError | None) -> dict[str, Any]:
    """How it ended; only a 200 is without an error."""
    return {
        "error": type(error).__name__ if error else None,
        "reason": error.reason if isinstance(error, NotSentError) else None,
        "status": error.status if error else 200,
        "code": error.code if error else None,
    }


def _accuse(listener: str, failure: BaseException) -> None:
    """Without the failure's text or chain, which may hold anything."""
    where = "".join(traceback.format_tb(failure.__traceback__))
    # It may be the log that fails.
    with contextlib.suppress(Exception):
        LOG.error("%s raised %s, said once:\n%s", listener, type(failure).__name__, where)
