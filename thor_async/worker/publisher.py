"""Settles messages: stores the outcome or the dead letter first, then ends the message."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import nats.errors
from faststream.nats import NatsMessage
from nats.aio.client import Client

from .._confirm.tracker import Confirmation
from .._models import StopOutcome
from .settlement import Settlement
from .streams import Subjects

LOG = logging.getLogger("thor_async.worker")

_PUBLISH_TIMEOUT = 5.0
_RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)
_MAX_HEADER_BYTES = 4096


class SettlementPublisher:
    """Ends the messages of one worker.

    Each publication has an id made from the sequence of its message. So JetStream stores it once
    within the stream's duplicate window, however often the message is delivered.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._jetstream = client.jetstream(timeout=_PUBLISH_TIMEOUT)
        self._max_body = client.max_payload - _MAX_HEADER_BYTES
        self._subjects = subjects

    async def settle(
        self, message: NatsMessage, settlement: Settlement, result: StopOutcome | Confirmation
    ) -> None:
        """Acknowledges, dead-letters or returns the message, as `settlement` says."""
        if settlement.action == "ack":
            row = _outcome_row(result, delivery_count(message))
            body = msgspec.json.encode(row)
            if len(body) > self._max_body:
                # NATS would never store it, and the command would be sent again for ever.
                body = msgspec.json.encode(row | {"ref": None})
            await self._publish(message, self._subjects.outcomes, body, "done", {})
            await message.ack()
        elif settlement.action == "dead_letter":
            await self.dead_letter(message, settlement)
        else:
            await message.nack(settlement.delay or None)

    async def dead_letter(self, message: NatsMessage, settlement: Settlement) -> None:
        """Stores the body unchanged (its first 1 MB) as a dead letter, then ends the message."""
        deliveries = delivery_count(message)
        headers = {
            "Thor-Reason": settlement.reason or "",
            # An earlier delivery may have sent the stop and crashed before it was settled.
            "Thor-Maybe-Applied": str(settlement.maybe_applied or deliveries > 1).lower(),
            "Thor-Deliveries": str(deliveries),
            "Thor-Sequence": str(stream_sequence(message)),
        }
        body = message.body[: self._max_body]
        await self._publish(message, self._subjects.dead_letters, body, "dead", headers)
        LOG.error("message %d is a dead letter: %s", stream_sequence(message), settlement.reason)
        await message.reject()

    async def _publish(
        self, message: NatsMessage, subject: str, body: bytes, kind: str, headers: dict[str, str]
    ) -> None:
        """Publishes with retries: without a stored result, a stop that was sent is sent again."""
        headers["Nats-Msg-Id"] = f"{stream_sequence(message)}-{kind}"
        for delay in (*_RETRY_DELAYS, None):
            try:
                await self._jetstream.publish(
                    subject, body, stream=self._subjects.stream, headers=headers
                )
            except nats.errors.Error as error:
                if delay is None:
                    raise
                LOG.warning("cannot publish to %s: %s", subject, type(error).__name__)
                await asyncio.sleep(delay)
            else:
                return


def stream_sequence(message: NatsMessage) -> int:
    """Returns the message's number in its stream."""
    return message.raw_message.metadata.sequence.stream


def delivery_count(message: NatsMessage) -> int:
    """Returns the number of deliveries of the message, this one included."""
    return message.raw_message.metadata.num_delivered


def _outcome_row(result: StopOutcome | Confirmation, deliveries: int) -> dict[str, object]:
    row: dict[str, object] = msgspec.to_builtins(result.record())
    maybe_applied = row["maybe_applied"] or deliveries > 1
    return row | {"maybe_applied": maybe_applied, "deliveries": deliveries}
