"""How a message ends: its outcome or its dead letter is stored first, then it is acknowledged."""

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

_TIMEOUT = 5.0
_RESTS = (0.5, 1.0, 2.0, 4.0, 8.0)
_ROOM_FOR_HEADERS = 4096


class SettlementPublisher:
    """Ends the messages of one worker.

    What is published has the identity of its message, so that JetStream stores it once within the
    stream's duplicate window, however often the message is delivered.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._jetstream = client.jetstream(timeout=_TIMEOUT)
        self._longest = client.max_payload - _ROOM_FOR_HEADERS
        self._subjects = subjects

    async def end(
        self, message: NatsMessage, fate: Settlement, result: StopOutcome | Confirmation
    ) -> None:
        """Does with the message what its fate says."""
        if fate.action == "ack":
            row = _report(result, deliveries(message))
            body = msgspec.json.encode(row)
            if len(body) > self._longest:
                # It would never be stored, and so the command be sent again for ever.
                body = msgspec.json.encode(row | {"ref": None})
            await self._store(message, self._subjects.outcomes, body, "done", {})
            await message.ack()
        elif fate.action == "dead_letter":
            await self.dead_letter(message, fate)
        else:
            await message.nack(fate.delay or None)

    async def dead_letter(self, message: NatsMessage, fate: Settlement) -> None:
        """Ends the message once its dead letter is stored: the body as it was, up to 1 MB."""
        headers = {
            "Thor-Reason": fate.reason or "",
            # Another delivery may have gone further than anyone could tell.
            "Thor-Maybe-Applied": str(fate.maybe_applied or deliveries(message) > 1).lower(),
            "Thor-Deliveries": str(deliveries(message)),
            "Thor-Sequence": str(number(message)),
        }
        body = message.body[: self._longest]
        await self._store(message, self._subjects.dead_letters, body, "dead", headers)
        LOG.error("message %d is a dead letter: %s", number(message), fate.reason)
        await message.reject()

    async def _store(
        self, message: NatsMessage, subject: str, body: bytes, end: str, headers: dict[str, str]
    ) -> None:
        """Tries again for a while: what was stopped is not to be sent anew for want of this."""
        headers["Nats-Msg-Id"] = f"{number(message)}-{end}"
        for rest in (*_RESTS, None):
            try:
                await self._jetstream.publish(
                    subject, body, stream=self._subjects.stream, headers=headers
                )
            except nats.errors.Error as error:
                if rest is None:
                    raise
                LOG.warning("cannot publish to %s: %s", subject, type(error).__name__)
                await asyncio.sleep(rest)
            else:
                return


def number(message: NatsMessage) -> int:
    """The message's number in its stream."""
    return message.raw_message.metadata.sequence.stream


def deliveries(message: NatsMessage) -> int:
    """How often it was delivered, with this time."""
    return message.raw_message.metadata.num_delivered


def _report(result: StopOutcome | Confirmation, times: int) -> dict[str, object]:
    """The row of an outcome, which says how often its command was delivered."""
    row: dict[str, object] = msgspec.to_builtins(result.record())
    return row | {"maybe_applied": row["maybe_applied"] or times > 1, "deliveries": times}
