"""The messages that a worker has received: those in hand, and those that it remembers."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from nats.aio.msg import Msg

from .streams import StreamSetup

Key = tuple[int, datetime]
V = TypeVar("V")

_REMEMBERED = 10_000
_SUFFIX = "-settled"


class Delivery:
    """A message in hand, and the stream that it is from.

    `sequence` is the message's number in its stream, `created` the time when JetStream stored it.
    `count` is the number of its deliveries; a consumer that is younger than the message counts from
    1 again, so one more is assumed. When it is delivered again, `message` becomes the new delivery.
    """

    def __init__(self, message: Msg, setup: StreamSetup) -> None:
        self.setup = setup
        self.count: int = 0
        self.update(message)
        metadata = message.metadata
        self.sequence: int = metadata.sequence.stream
        self.created: datetime = metadata.timestamp
        self.key: Key = self.sequence, self.created

    def update(self, message: Msg) -> None:
        """Takes in a new delivery of the message."""
        self.message = message
        metadata, since = message.metadata, self.setup.consumer_created
        may_be_older = since is not None and metadata.timestamp < since
        self.count = max(self.count, metadata.num_delivered + may_be_older)

    @property
    def result_id(self) -> str:
        """The message id of its outcome or dead letter.

        With the time, because a stream that was deleted and created again counts from 1 again.
        """
        return make_result_id(self.sequence, self.created)


class DeliveryTracker:
    """Knows which messages are in hand, and how the last 10,000 others ended."""

    def __init__(self) -> None:
        self.in_hand: dict[Key, Delivery] = {}
        self._stored: dict[Key, None] = {}
        self._unsent: dict[Key, int] = {}

    def begin(self, message: Msg, setup: StreamSetup) -> Delivery | None:
        """Takes a message in hand. Returns None if it is in hand: its first delivery ends it."""
        delivery = Delivery(message, setup)
        known = self.in_hand.setdefault(delivery.key, delivery)
        if known is not delivery:
            known.update(message)
        return delivery if known is delivery else None

    def end(self, delivery: Delivery) -> None:
        del self.in_hand[delivery.key]

    def find_oldest_age(self, now: datetime) -> float:
        """Returns the age in seconds of the oldest message in hand, 0 without one."""
        created = min((delivery.created for delivery in self.in_hand.values()), default=now)
        return max((now - created).total_seconds(), 0.0)

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


def make_result_id(sequence: int, created: datetime) -> str:
    """Returns the message id of the outcome or dead letter of a message."""
    return f"{sequence}-{_microseconds(created)}{_SUFFIX}"


def parse_result_id(text: str, since: datetime) -> int | None:
    """Returns the sequence in the id of a result, None for any other text.

    Also None for the result of a message that was created before `since`. An id without a time, as
    earlier versions wrote it, has no such limit.
    """
    sequence, _, created = text.removesuffix(_SUFFIX).partition("-")
    if not (text.endswith(_SUFFIX) and sequence.isdecimal()):
        return None
    if created and not (created.isdecimal() and int(created) >= _microseconds(since)):
        return None
    return int(sequence)


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1e6)


def _remember(memory: dict[Key, V], key: Key, value: V) -> None:
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]
