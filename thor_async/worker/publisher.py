"""Stores the outcome or the dead letter of a message, and ends the message after that."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

import msgspec
import nats.errors
from nats.aio.client import Client

from .._confirm.tracker import Confirmation
from .._models import StopOutcome
from .._telemetry.logging import log_with_fields
from .deliveries import Delivery
from .result_headers import find_log_fields, make_dead_letter_headers, make_outcome_headers
from .results import StoredResults
from .settlement import Settlement
from .streams import StreamSetup, Subjects

LOG = logging.getLogger("thor_async.worker")

_PUBLISH_TIMEOUT = 5.0
_FIRST_DELAY, _MAX_DELAY = 0.5, 15.0
_MAX_HEADER_BYTES = 4096
_QUIET_TIME = 600.0
"""Seconds without a dead letter, after which the next one is an alarm."""


class SettlementPublisher:
    """Settles the messages of one worker. `unstored` counts those that cannot be stored now.

    `dead_letters` counts those that it has stored.

    Outcome and dead letter of a message have the same id, made from its sequence and time. So
    JetStream stores only one of them within the stream's duplicate window, however often the
    message is delivered. After it, the results that are stored are looked through. `find_setup`
    returns the stream that there is now, and waits while that is not known.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        find_setup: Callable[[], Awaitable[StreamSetup]],
    ) -> None:
        self._jetstream = client.jetstream(timeout=_PUBLISH_TIMEOUT)
        self._results = StoredResults(self._jetstream, subjects)
        self._find_setup = find_setup
        self._max_body = client.max_payload - _MAX_HEADER_BYTES
        self._subjects = subjects
        self.unstored: int = 0
        self.dead_letters: int = 0
        self._alarm_at = -math.inf

    async def store(
        self,
        delivery: Delivery,
        settlement: Settlement,
        result: StopOutcome | Confirmation | None = None,
    ) -> bool:
        """Stores the outcome or the dead letter, as `settlement` says; a retry stores nothing.

        Tries until it is stored: a command whose result is lost would be sent again. Returns False
        if the message had a result already: that one counts, and no other is stored.
        """
        if settlement.action == "ack" and result is not None:
            body = self._encode_outcome(result, delivery.count)
            headers = make_outcome_headers(delivery)
            return await self._publish(delivery, self._subjects.outcomes, body, headers)
        if settlement.action == "dead_letter":
            return await self._store_dead_letter(delivery, settlement, result)
        return True

    async def end(self, delivery: Delivery, settlement: Settlement) -> None:
        """Acknowledges, terminates or returns the message, as `settlement` says."""
        if await self.is_gone(delivery):
            return
        if settlement.action == "ack":
            await delivery.message.ack()
        elif settlement.action == "dead_letter":
            await delivery.message.term()
        else:
            await delivery.message.nak(settlement.delay or None)

    async def is_gone(self, delivery: Delivery) -> bool:
        """Whether the stream of the message was deleted. Waits while that is not known.

        Its acknowledgement would end the message that has the same number in the new stream.
        """
        setup = await self._find_setup()
        return setup.created != delivery.setup.created

    async def _store_dead_letter(
        self,
        delivery: Delivery,
        settlement: Settlement,
        result: StopOutcome | Confirmation | None,
    ) -> bool:
        """Stores the body unchanged (its first 1 MB)."""
        headers = make_dead_letter_headers(delivery, settlement, result)
        body = delivery.message.data[: self._max_body]
        is_first = await self._publish(delivery, self._subjects.dead_letters, body, headers)
        if is_first:
            self.dead_letters += 1
            self._log_dead_letter(delivery, settlement, headers)
        return is_first

    def _log_dead_letter(
        self, delivery: Delivery, settlement: Settlement, headers: dict[str, str]
    ) -> None:
        """Logs each as a WARNING, and the first after a time without any as an ERROR too."""
        now = asyncio.get_running_loop().time()
        fields = find_log_fields(delivery, headers)
        if now >= self._alarm_at:
            alarm = "dead letters begin: thor-async dead list shows them"
            log_with_fields(LOG, logging.ERROR, alarm, (), fields)
        self._alarm_at = now + _QUIET_TIME
        sequence, reason = delivery.sequence, settlement.reason
        said = "message %d is a dead letter: %s"
        log_with_fields(LOG, logging.WARNING, said, (sequence, reason), fields)

    async def _publish(
        self, delivery: Delivery, subject: str, body: bytes, headers: dict[str, str]
    ) -> bool:
        """Publishes until it is stored. Returns False if this message had a result already."""
        headers["Nats-Msg-Id"] = delivery.result_id
        delay = 0.0
        while True:
            try:
                if await self._results.have(delivery, was_tried=delay > 0):
                    return False
                stored = await self._jetstream.publish(
                    subject, body, stream=self._subjects.stream, headers=headers
                )
            except (nats.errors.Error, OSError) as error:
                delay = min(max(_FIRST_DELAY, delay * 2), _MAX_DELAY)
                name = type(error).__name__
                LOG.warning("cannot publish to %s: %s; again in %.1f s", subject, name, delay)
            else:
                return not stored.duplicate
            self.unstored += 1
            try:
                await asyncio.sleep(delay)
            finally:
                self.unstored -= 1

    def _encode_outcome(self, result: StopOutcome | Confirmation, deliveries: int) -> bytes:
        row = result.to_dict()
        maybe_applied = row["maybe_applied"] or deliveries > 1
        row |= {"maybe_applied": maybe_applied, "deliveries": deliveries}
        body = msgspec.json.encode(row)
        if len(body) > self._max_body:
            # NATS would never store it.
            body = msgspec.json.encode(row | {"ref": None})
        return body
