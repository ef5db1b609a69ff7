import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from thor_async import ThorClient

from .command_handler import CommandHandler

QUEUE, OUTCOMES, DEAD, RETRY = "thor.stop", "thor.outcomes", "thor.dead", "thor.retry"


class RabbitWorker:
    """Ends a message only after its effect. Its `timestamp` is the time of the command."""

    def __init__(self, channel: AbstractChannel, thor: ThorClient) -> None:
        self._channel, self._handler = channel, CommandHandler(thor)

    async def handle(self, message: AbstractIncomingMessage) -> None:
        try:
            await self._settle(message)
            await message.ack()
        except Exception as failure:
            logging.warning("returned to the queue: %s", type(failure).__name__)
            await asyncio.sleep(1.0)  # its repeat stops no later charge, but costs a request
            await message.nack()

    async def _settle(self, message: AbstractIncomingMessage) -> None:
        created = message.timestamp or datetime.fromtimestamp(0, UTC)  # without one: expired
        sent = message.headers.get("sent")
        known = (sent if isinstance(sent, int) else 0) + bool(message.redelivered) + 1
        settlement, outcome, was_sent = await self._handler.handle(
            message.body, created, known, longest_wait=60.0
        )
        if settlement.action == "retry":
            queue = await self._declare_delay(settlement.delay)
            await self._publish(queue, message.body, created, sent=known - 1 + was_sent)
        elif settlement.action == "dead_letter":
            reason, maybe = settlement.reason or "", settlement.maybe_applied
            await self._publish(DEAD, message.body, created, reason=reason, maybe_applied=maybe)
        elif outcome is not None:
            await self._publish(OUTCOMES, msgspec.json.encode(outcome.record()), created)

    async def _declare_delay(self, seconds: float) -> str:
        """A queue for each power of two: in one queue, a long delay would hold the short ones."""
        delay, name = 1 << int(seconds).bit_length(), "x-dead-letter-exchange"
        back: Any = {"x-message-ttl": delay * 1000, name: "", "x-dead-letter-routing-key": QUEUE}
        await self._channel.declare_queue(f"{RETRY}.{delay}", durable=True, arguments=back)
        return f"{RETRY}.{delay}"

    async def _publish(self, queue: str, body: bytes, created: datetime, **headers: Any) -> None:
        message = aio_pika.Message(body, headers=headers, timestamp=created, delivery_mode=2)
        await self._channel.default_exchange.publish(message, routing_key=queue)  # confirmed


async def serve(url: str, thor: ThorClient, stop: asyncio.Event) -> None:
    """Serves until `stop` is set; what is not settled by then goes back to the queue."""
    logging.getLogger("aiormq").setLevel(logging.INFO)  # DEBUG shows bodies, with their id_tags
    connection = await aio_pika.connect_robust(url)
    async with thor, connection, connection.channel() as channel:
        await channel.set_qos(prefetch_count=32)
        for name in (OUTCOMES, DEAD, QUEUE):
            queue = await channel.declare_queue(name, durable=True)
        await queue.consume(RabbitWorker(channel, thor).handle)
        await stop.wait()
