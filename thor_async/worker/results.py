"""Finds the results that JetStream's duplicate window does not cover any more."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from .deliveries import Delivery, parse_result_id
from .streams import Subjects

_CLOCK_MARGIN = 10.0
"""Seconds by which the clocks of NATS and of this worker may differ."""

_BATCH = 500
_UNUSED_FOR = 10.0
_BITS = 10
_NONE = 2**63
_EARLIEST = datetime.fromtimestamp(0, UTC)


class StoredResults:
    """Knows which messages have an outcome or a dead letter in the stream.

    Reads the headers of the results, from the first message that is asked for, once: the next
    question reads only what was stored since.
    """

    def __init__(self, jetstream: JetStreamContext, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._lock = asyncio.Lock()
        self._begun = self._completed = 0
        self._stream_created: datetime | None = None
        # A bit for each message, in chunks of 1024: 7 million take less than 2 MB.
        self._settled: dict[int, int] = {}
        self._first, self._next = _NONE, self._begin_at(_NONE)

    async def have(self, delivery: Delivery, *, was_tried: bool = False) -> bool:
        """Returns whether the message has a result that JetStream would store a second time.

        Looks only for a message that is older than the duplicate window, and was delivered before,
        or whose result `was_tried` to be stored. Raises the errors of JetStream.
        """
        age = (datetime.now(UTC) - delivery.created).total_seconds()
        if age <= delivery.setup.duplicate_window - _CLOCK_MARGIN:
            return False
        is_repeat = delivery.count > 1 or was_tried
        if not is_repeat and await self._is_first_delivery(delivery):
            return False
        await self._read_on(delivery.sequence)
        chunk, bit = _locate(delivery.sequence)
        return self._settled.get(chunk, 0) & bit != 0

    async def _is_first_delivery(self, delivery: Delivery) -> bool:
        """Returns whether no consumer that was deleted can have delivered the message."""
        try:
            info = await self._jetstream.consumer_info(
                self._subjects.stream, self._subjects.durable
            )
        except NotFoundError:
            return False
        created: datetime = info.created
        return delivery.created >= created

    async def _read_on(self, sequence: int) -> None:
        """Reads what was stored after `sequence`, unless another task has read it since the call.

        A result has a greater number than its message.
        """
        begun = self._begun
        async with self._lock:
            if self._completed > begun and self._first <= sequence:
                return
            self._begun += 1
            created = (await self._jetstream.stream_info(self._subjects.stream)).created
            if created != self._stream_created:
                # Another stream, which counts its messages from 1 again.
                self._stream_created = created
                self._settled.clear()
                self._first = _NONE
            if sequence < self._first:
                self._first, self._next = sequence, self._begin_at(sequence)
            for subject in self._next:
                await self._read_subject(subject)
            self._completed = self._begun

    async def _read_subject(self, subject: str) -> None:
        stream, name = self._subjects.stream, None
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._next[subject],
            ack_policy=AckPolicy.NONE,
            headers_only=True,
            mem_storage=True,
            inactive_threshold=_UNUSED_FOR,
        )
        subscription = await self._jetstream.pull_subscribe(subject, stream=stream, config=config)
        try:
            info = await subscription.consumer_info()
            name, left = info.name, info.num_pending or 0
            while left > 0:
                messages = await subscription.fetch(min(_BATCH, left))
                left -= len(messages)
                for message in messages:
                    self._add(message)
                    self._next[subject] = message.metadata.sequence.stream + 1
        finally:
            await subscription.unsubscribe()
        await self._jetstream.delete_consumer(stream, name)

    def _add(self, message: Msg) -> None:
        text = (message.headers or {}).get("Nats-Msg-Id", "")
        sequence = parse_result_id(text, self._stream_created or _EARLIEST)
        if sequence is not None:
            chunk, bit = _locate(sequence)
            self._settled[chunk] = self._settled.get(chunk, 0) | bit

    def _begin_at(self, sequence: int) -> dict[str, int]:
        """Returns the next number to read of each subject."""
        return dict.fromkeys((self._subjects.outcomes, self._subjects.dead_letters), sequence)


def _locate(sequence: int) -> tuple[int, int]:
    """Returns the number of the chunk of a message, and its bit there."""
    return sequence >> _BITS, 1 << (sequence & ((1 << _BITS) - 1))
