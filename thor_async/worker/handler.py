"""Handles the messages of a worker: stops the charge of each, and settles the message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from nats.aio.msg import Msg

from .. import _calls
from .._client import ThorClient
from .._confirm.tracker import Confirmation, is_worth_watching
from .._dispatch.breaker import CircuitBreaker
from .._errors import AccountError, ThorError, Verdict
from .._events import describe_cause
from .._models import StopCharge, StopOutcome
from .deliveries import Delivery, DeliveryTracker
from .publisher import SettlementPublisher
from .settlement import (
    FRESH_FOR,
    SCHEMA_HEADER,
    Settlement,
    apply_as_of,
    decide,
    find_expiry,
    read_command,
)
from .stats import WorkerStats, find_counted_code
from .streams import StreamSetup
from .trace_context import continuing_trace

LOG = logging.getLogger("thor_async.worker")

_HANDOVER_DELAY = 1.0
"""Seconds in which a draining worker ends its last pull, which would take the message again."""


class MessageHandler:
    """Handles messages, any number at the same time. `thor` is an open client.

    `max_age`, `confirm` and `tolerant` are as for `add_worker`, `fresh_for` is as for
    `apply_as_of`. `results` counts the outcomes by verdict and code, `redeliveries` the messages
    that were delivered before.
    """

    def __init__(
        self,
        thor: ThorClient,
        publisher: SettlementPublisher,
        *,
        max_age: float,
        fresh_for: float = FRESH_FOR,
        confirm: float | None,
        tolerant: bool = False,
    ) -> None:
        self._thor = thor
        self._publisher = publisher
        self._max_age = max_age
        self._fresh_for = fresh_for
        self._confirm = confirm
        self._tolerant = tolerant
        self._breaker = CircuitBreaker(
            pauses_when_refused=True, on_open=_log_pause, on_close=_log_resumption
        )
        self._is_cut = False
        self.is_draining: bool = False
        self.deliveries: DeliveryTracker = DeliveryTracker()
        self.results: Counter[tuple[str, str | None]] = Counter()
        self.redeliveries: int = 0

    @property
    def is_paused(self) -> bool:
        """Whether Thor seems down, or refuses the account, or a result cannot be stored."""
        return self._breaker.is_open or self._publisher.unstored > 0

    @property
    def pace_status(self) -> tuple[float | None, int]:
        """The requests that may begin in a second, None without a limit; and the answers 429."""
        return self._thor._pace_status()

    def complete(self, stats: WorkerStats) -> WorkerStats:
        """Fills in what the handler knows."""
        pace, throttled = self.pace_status
        return stats._replace(
            watched=0 if self.is_draining else self.watched,
            oldest=self.deliveries.find_oldest_age(datetime.now(UTC)),
            pace=pace,
            throttled=throttled,
            results=tuple((verdict, code or "", n) for (verdict, code), n in self.results.items()),
            dead_letters=self._publisher.dead_letters,
            redeliveries=self.redeliveries,
        )

    @property
    def watched(self) -> int:
        """The number of commands that are sent, and only watched.

        Not those that wait for a list before that: they would have to wait for a place on the wire
        next, and another worker could have them meanwhile.
        """
        return 0 if self._confirm is None else self._thor._check_open().dispatcher.watched

    def call_when_watching(self, callback: Callable[[], None]) -> None:
        """Calls `callback` whenever there may be more that is only watched."""
        self._thor._check_open().dispatcher.on_room = callback

    async def handle(self, message: Msg, setup: StreamSetup) -> None:
        """Ends the message, or leaves it to be delivered again. Raises nothing."""
        delivery = self.deliveries.begin(message, setup)
        if delivery is None:
            return
        self.redeliveries += delivery.count > 1
        try:
            if self.deliveries.is_stored(delivery):
                await self._publisher.end(delivery, Settlement("ack"))
            else:
                await self._settle(delivery)
        except Exception as failure:
            # Only the name: text and traceback of a foreign exception may hold secrets.
            name, sequence = type(failure).__name__, delivery.sequence
            LOG.error("message %d is left to be delivered again: %s", sequence, name)  # noqa: TRY400
        finally:
            self.deliveries.end(delivery)

    def drain(self) -> None:
        """Releases the commands that wait for the breaker, to be returned to the broker."""
        self.is_draining = True
        self._breaker.disable()

    async def cut(self) -> None:
        """Ends at once what is in flight or watched. No command can be sent after it."""
        self._is_cut = True
        with contextlib.suppress(TimeoutError):
            # A cancelled `aclose` does not wait for what is in flight.
            async with asyncio.timeout(0):
                await self._thor.aclose()

    async def _settle(self, delivery: Delivery) -> None:
        """Stops the command's charge, then acknowledges, dead-letters or returns the message."""
        command = self._read(delivery.message)
        if isinstance(command, Settlement):
            await self._end(delivery, command)
            return
        probe = await self._breaker.acquire_probe()
        if self.is_draining:
            await self._end(delivery, Settlement("retry", delay=_HANDOVER_DELAY))
            return
        now, created, count = datetime.now(UTC), delivery.created, delivery.count
        expiry = find_expiry(command, created, now, count, max_age=self._max_age)
        if expiry is not None:
            self._breaker.release_probe(probe)
            await self._end(delivery, expiry)
            return
        # Another worker may have a message that is older than ack_wait.
        fresh_for = min(self._fresh_for, delivery.setup.ack_wait / 2)
        command = apply_as_of(command, created, now, count, fresh_for=fresh_for)
        try:
            with continuing_trace(delivery.message.headers):
                result = await self._stop(command)
        except Exception as failure:
            result = _make_refusal(command, failure)
        except BaseException:
            self._breaker.release_probe(probe)
            raise
        self._record(result.outcome if isinstance(result, Confirmation) else result, probe)
        await self._end(delivery, self._decide(delivery, result), result)

    def _read(self, message: Msg) -> StopCharge | Settlement:
        schema = (message.headers or {}).get(SCHEMA_HEADER)
        return read_command(message.data, schema, tolerant=self._tolerant)

    async def _stop(self, command: StopCharge) -> StopOutcome | Confirmation:
        runtime = self._thor._check_open()
        if self._confirm is None:
            return await _calls.stop(runtime, command, pins_retries=True)
        confirmation = await _calls.confirm(runtime, command, self._confirm, pins_retries=True)
        # What Thor did not take is explained by the outcome alone.
        return confirmation if is_worth_watching(confirmation.outcome) else confirmation.outcome

    def _record(self, outcome: StopOutcome, probe: int) -> None:
        """Lets the breaker take in how a command ended."""
        error, was_refused = outcome.error, self._breaker.is_refused
        self.results[outcome.verdict.value, find_counted_code(error)] += 1
        self._breaker.record_command(error, outcome.attempts, probe)
        if isinstance(error, AccountError) and (probe or not was_refused):
            what = "Thor refuses the account" if outcome.attempts else "a stop cannot be sent"
            LOG.error("paused, %s: %s; mend the key", what, error.message)

    def _decide(self, delivery: Delivery, result: StopOutcome | Confirmation) -> Settlement:
        # While Thor is down, so is its list: that does not make a repeat a dead letter.
        may_be_applied = self.deliveries.may_be_applied(delivery) and not self._breaker.is_open
        settlement = decide(result, delivery.count, may_be_applied=may_be_applied)
        if settlement.action != "retry":
            return settlement
        if isinstance(result, Confirmation):
            if self._is_cut:
                # The stop was sent, and another worker would send it again.
                return Settlement("dead_letter", reason=settlement.reason, maybe_applied=True)
        elif not result.maybe_applied:
            self.deliveries.record_unsent(delivery)
        return settlement

    async def _end(
        self,
        delivery: Delivery,
        settlement: Settlement,
        result: StopOutcome | Confirmation | None = None,
    ) -> None:
        if settlement.action == "retry" and await self._publisher.is_gone(delivery):
            settlement = _bury(settlement, result)
        if not await self._publisher.store(delivery, settlement, result):
            settlement = Settlement("ack")  # the result that was stored before counts
        if settlement.action != "retry":
            self.deliveries.record_stored(delivery)
        await self._publisher.end(delivery, settlement)


def _make_refusal(command: StopCharge, failure: Exception) -> StopOutcome:
    """Returns the outcome of a command whose `api_key` function, most likely, has raised.

    Every other command would fail in the same way, as with a key that Thor refuses.
    """
    # Only the name: the text of a foreign exception may hold secrets.
    error = AccountError(f"the api_key function or a hook has raised {type(failure).__name__}")
    return StopOutcome(command, 0, Verdict.NOT_SENT, error, 0, 0.0, maybe_applied=True)


def _bury(settlement: Settlement, result: StopOutcome | Confirmation | None) -> Settlement:
    """Returns the settlement of a message that cannot be delivered again."""
    reason = f"its stream was deleted: {settlement.reason or 'not sent'}"
    outcome = result.outcome if isinstance(result, Confirmation) else result
    maybe_applied = outcome is not None and (outcome.error is None or outcome.maybe_applied)
    return Settlement("dead_letter", reason=reason, maybe_applied=maybe_applied)


def _log_pause(cause: ThorError) -> None:
    if not isinstance(cause, AccountError):
        LOG.warning("paused, Thor seems down: %s", describe_cause(cause))


def _log_resumption(seconds: float) -> None:
    LOG.warning("resumed after %.3f s", seconds)
