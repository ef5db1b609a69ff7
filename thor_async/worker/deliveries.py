"""The messages that a worker has received: those in hand, and those that it remembers."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from faststream.nats import NatsMessage

Key = tuple[int, datetime]
V = TypeVar("V")

_REMEMBERED = 10_000


class Delivery:
    """A message in hand. When it is delivered again, `message` becomes the new delivery."""

    def __init__(self, message: NatsMessage) -> None:
        self.message = message

    @property
    def sequence(self) -> int:
        """The message's number in its stream."""
        return self.message.raw_message.metadata.sequence.stream

    @property
    def created(self) -> datetime:
        """The time when JetStream stored the message."""
        return self.message.raw_message.metadata.timestamp

    @property
    def count(self) -> int:
        """The number of deliveries of the message, this one included."""
        return self.message.raw_message.metadata.num_delivered

    @property
    def key(self) -> Key:
        # A stream that was deleted and created again counts from 1 again.
        return self.sequence, self.created


class DeliveryTracker:
    """Knows which messages are in hand, and how the last 10,000 others ended."""

    def __init__(self) -> None:
        self.in_hand: dict[Key, Delivery] = {}
        self._stored: dict[Key, None] = {}
        self._unsent: dict[Key, int] = {}

    def begin(self, message: NatsMessage) -> Delivery | None:
        """Takes a message in hand. Returns None if it is in hand: its first delivery ends it."""
        delivery = Delivery(message)
        known = self.in_hand.setdefault(delivery.key, delivery)
        known.message = message
        return delivery if known is delivery else None

    def end(self, delivery: Delivery) -> None:
        del self.in_hand[delivery.key]

    def record_stored(self, delivery: Delivery) -> None:
        """Remembers that the outcome or dead letter is stored: only the message has to end."""
        _remember(self._stored, delivery.key, None)

    def is_stored(self, delivery: Delivery) -> bool:
        return delivery.key in self._stored

    def record_unsent(self, delivery: Delivery) -> None:
        """Remembers that no delivery of the message, up to this one, had an effect."""
        if not self.may_be_applied(delivery):
            _remember(self._unsent, delivery.key, delivery.count)

    def may_be_applied(self, delivery: Delivery) -> bool:
        """Whether an earlier delivery, perhaps to another worker, may have stopped the charge."""
        return delivery.count - 1 != self._unsent.get(delivery.key, 0)


def _remember(memory: dict[Key, V], key: Key, value: V) -> None:
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]
