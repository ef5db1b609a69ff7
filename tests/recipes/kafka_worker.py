import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from thor_async import ThorClient

from .command_handler import CommandHandler, raw_body

COMMANDS, RETRIES, OUTCOMES, DEAD = "thor.stop", "thor.retry", "thor.outcomes", "thor.dead"
LONGEST_WAIT = 60.0  # less than max_poll_interval_ms, 5 minutes


class KafkaWorker:
    """Commits a batch only after its effect: FastStream(broker, lifespan=worker.lifespan)."""

    def __init__(self, broker: KafkaBroker, thor: ThorClient) -> None:
        self._broker, self._thor = broker, thor
        for topic in (COMMANDS, RETRIES):
            broker.subscriber(
                topic, group_id="thor", batch=True, max_records=32, decoder=raw_body,
                auto_offset_reset="earliest", ack_policy=AckPolicy.NACK_ON_ERROR,
            )(self._handle)  # fmt: skip

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with self._thor:
            self._handler = CommandHandler(self._thor)
            yield

    async def _handle(self, message: KafkaMessage) -> None:
        records: Any = message.raw_message
        ends = await asyncio.gather(*map(self._settle, records), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end  # the whole batch is delivered again

    async def _settle(self, record: Any) -> None:
        body, told = record.value or b"", {}
        if record.topic == RETRIES:
            told = {name: value.decode() for name, value in record.headers}
            left = float(told["due"]) - time.time()
            await asyncio.sleep(min(max(left, 0.0), LONGEST_WAIT))
            if left > LONGEST_WAIT:
                await self._broker.publish(body, RETRIES, headers=told)
                return
        created, sent = int(told.get("created", record.timestamp)), int(told.get("sent", 0))
        stored = datetime.fromtimestamp(created / 1000, UTC)
        # Kafka does not tell a repeat: every command without a transaction gets an as_of.
        settlement, outcome, was_sent = await self._handler.handle(
            body, stored, sent + 1, fresh_for=0.0, longest_wait=LONGEST_WAIT
        )
        if settlement.action == "retry":
            due, sent = time.time() + settlement.delay, sent + was_sent
            told = {"due": str(due), "created": str(created), "sent": str(sent)}
            await self._broker.publish(body, RETRIES, headers=told)
        elif settlement.action == "dead_letter":
            maybe = str(settlement.maybe_applied or was_sent).lower()
            told = {"reason": settlement.reason or "", "maybe_applied": maybe}
            await self._broker.publish(body, DEAD, headers=told)
        elif outcome is not None:
            await self._broker.publish(msgspec.json.encode(outcome.record()), OUTCOMES)
