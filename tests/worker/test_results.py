"""A message gets no second result, also later than JetStream's duplicate window."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import msgspec
import nats.errors
import pytest
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

from tests.conftest import TAG, wait_until
from tests.worker.conftest import Place, serving
from tests.worker.test_deliveries import NOW, make_delivery
from tests.worker.test_repeats import reasons, start_charge
from thor_async import StopCharge
from thor_async.emulator import ThorEmulator
from thor_async.worker import Settlement, results
from thor_async.worker.deliveries import Delivery, make_result_id
from thor_async.worker.publisher import SettlementPublisher
from thor_async.worker.results import StoredResults
from thor_async.worker.streams import StreamSetup, Subjects, ensure_streams

pytestmark = pytest.mark.broker

ACK_WAIT, WINDOW = 1.0, 0.2
BAD = b"no command"


def make_setup(duplicate_window: float) -> StreamSetup:
    config = StreamConfig(duplicate_window=duplicate_window)
    return StreamSetup(config, ConsumerConfig(ack_wait=ACK_WAIT), NOW)


OUTSIDE = make_setup(WINDOW)


async def serve_and_die_before_the_ack(place: Place, emulator: ThorEmulator, count: int) -> None:
    """Lets a worker store the results of `count` messages, and end none of them."""
    with mock.patch.object(SettlementPublisher, "end", mock.AsyncMock()) as end:
        async with serving(place, emulator):
            await wait_until(lambda: end.call_count == count)
    await asyncio.sleep(2 * WINDOW)


async def refs(place: Place) -> list[Any]:
    return sorted(row["ref"] for row in await place.outcomes())


async def test_an_outcome_gets_no_dead_letter_beside_it(
    place: Place, emulator: ThorEmulator
) -> None:
    commands = [
        StopCharge(f"box-{n}", 1, TAG, start_charge(emulator, 60, f"box-{n}"), ref=n)
        for n in range(8)
    ]
    await place.make(ACK_WAIT, duplicate_window=WINDOW)
    await place.send(*commands)
    await serve_and_die_before_the_ack(place, emulator, 8)
    await place.send(StopCharge("late", 1, TAG, ref=8))
    await asyncio.sleep(2 * WINDOW)
    async with serving(place, emulator, max_age=WINDOW):
        await place.emptied()
    assert await refs(place) == list(range(8))
    [letter] = await place.dead()
    assert msgspec.json.decode(letter.data)["ref"] == 8


async def test_an_outcome_is_stored_once(place: Place, emulator: ThorEmulator) -> None:
    command = StopCharge("A", 1, TAG, start_charge(emulator, 60), ref=1)
    await place.make(ACK_WAIT, duplicate_window=WINDOW)
    await place.send(command)
    await serve_and_die_before_the_ack(place, emulator, 1)
    async with serving(place, emulator):
        await place.emptied()
    [row] = await place.outcomes()
    assert (row["verdict"], row["deliveries"]) == ("relayed", 1)
    assert await place.dead() == []


async def test_a_dead_letter_is_stored_once(place: Place, emulator: ThorEmulator) -> None:
    await place.make(ACK_WAIT, duplicate_window=WINDOW)
    await place.send(BAD)
    await serve_and_die_before_the_ack(place, emulator, 1)
    async with serving(place, emulator):
        await place.emptied()
    assert len(await reasons(place)) == 1


async def test_a_consumer_that_is_created_again_brings_no_second_result(
    place: Place, emulator: ThorEmulator
) -> None:
    """It delivers all messages of the stream, each for the first time."""
    command = StopCharge("A", 1, TAG, start_charge(emulator, 60), ref=1)
    await place.make(ACK_WAIT, duplicate_window=WINDOW)
    async with serving(place, emulator):
        await place.send(command, BAD)
        await place.emptied()
    await place.jetstream.delete_consumer(place.names["stream"], place.durable)
    await asyncio.sleep(2 * WINDOW)
    async with serving(place, emulator, max_age=WINDOW):
        await place.emptied()
    assert await refs(place) == [1]
    assert len(await place.dead()) == 1


def repeat(sequence: int) -> Delivery:
    return make_delivery(sequence, count=2, setup=OUTSIDE)


class Stream:
    """A stream with results, and what is asked of it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.subjects = Subjects(*place.names.values())
        jetstream = mock.Mock(wraps=place.jetstream)
        self.jetstream = jetstream
        self.results = StoredResults(jetstream, self.subjects)

    async def make(self) -> None:
        await self.place.make(ACK_WAIT, duplicate_window=WINDOW)

    async def store(self, kind: str, *sequences: int, created: datetime | None = None) -> None:
        for sequence in sequences:
            headers = {"Nats-Msg-Id": make_result_id(sequence, created or datetime.now(UTC))}
            await self.place.jetstream.publish(self.place.names[kind], headers=headers)

    async def settled(self, *sequences: int) -> list[bool]:
        return [await self.results.have(repeat(sequence)) for sequence in sequences]


@pytest.fixture
def stream(place: Place) -> Stream:
    return Stream(place)


async def test_a_work_queue_is_not_looked_through(place: Place) -> None:
    """It allows no second consumer of its subjects."""
    subjects, durable = Subjects(*place.names.values()), place.durable
    config = StreamConfig(
        subjects.stream, subjects=subjects.all, retention=RetentionPolicy.WORK_QUEUE
    )
    await place.jetstream.add_stream(config)
    setup = await ensure_streams(place.jetstream, subjects)
    assert setup.duplicate_window == math.inf
    stored = StoredResults(place.jetstream, subjects)
    assert not await stored.have(make_delivery(count=2, setup=setup))
    assert await place.jetstream.consumer_info(subjects.stream, durable)


async def test_the_duplicate_window_is_that_of_the_stream(stream: Stream) -> None:
    await stream.make()
    setup = await ensure_streams(stream.place.jetstream, stream.subjects)
    assert (setup.ack_wait, setup.duplicate_window) == (ACK_WAIT, WINDOW)


async def test_results_of_both_kinds_are_found(stream: Stream) -> None:
    await stream.make()
    await stream.place.send(*[BAD] * 4)
    assert await stream.settled(1) == [False]
    await stream.store("outcomes", 1)
    await stream.store("dead_letter", 3)
    assert await stream.settled(1, 2, 3, 4) == [True, False, True, False]
    await stream.store("outcomes", 2)
    assert await stream.settled(2, 4) == [True, False]


async def test_an_earlier_message_is_found_too(stream: Stream) -> None:
    await stream.make()
    await stream.place.send(BAD)
    await stream.store("outcomes", 1)
    await stream.place.send(BAD)
    assert await stream.settled(3, 1) == [False, True]


async def test_more_results_than_one_batch(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_BATCH", 3)
    await stream.make()
    await stream.place.send(*[BAD] * 20)
    await stream.store("outcomes", *range(1, 21, 2))
    assert await stream.settled(1, 2, 18, 19) == [True, False, False, True]


async def test_a_stream_that_is_created_again_has_no_results_of_the_one_before_it(
    stream: Stream,
) -> None:
    """Its messages have the same numbers."""
    for _ in range(2):
        await stream.make()
        await stream.place.send(BAD)
        assert await stream.settled(1) == [False]
        await stream.store("outcomes", 1)
        assert await stream.settled(1) == [True]
        await stream.place.jetstream.delete_stream(stream.subjects.stream)


async def test_a_result_of_a_message_in_the_stream_before_it_is_no_result(stream: Stream) -> None:
    """A command that was in hand when the stream was deleted has its outcome in the new one."""
    await stream.make()
    await stream.place.send(BAD, BAD)
    await stream.store("outcomes", 1, created=datetime.now(UTC) - timedelta(hours=1))
    await stream.store("outcomes", 2)
    assert await stream.settled(1, 2) == [False, True]


async def test_many_questions_share_a_look(stream: Stream) -> None:
    await stream.make()
    await stream.place.send(*[BAD] * 32)
    await stream.store("outcomes", 7)
    asked = [stream.results.have(repeat(sequence)) for sequence in range(1, 33)]
    assert (await asyncio.gather(*asked)).count(True) == 1
    assert stream.jetstream.stream_info.call_count <= 2


async def test_a_look_that_fails_is_not_shared(stream: Stream) -> None:
    await stream.make()
    await stream.place.send(BAD, BAD)
    await stream.store("outcomes", 2)
    look, failures = stream.jetstream.stream_info, iter([nats.errors.TimeoutError()] * 2)

    async def fail_twice(name: str) -> Any:
        await asyncio.sleep(0)
        for failure in failures:
            raise failure
        return await look(name)

    stream.jetstream.stream_info = fail_twice
    asked = [stream.results.have(repeat(sequence)) for sequence in (1, 1, 2)]
    first, second, third = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, nats.errors.TimeoutError)
    assert isinstance(second, nats.errors.TimeoutError)
    assert third is True


async def test_a_look_leaves_no_consumer_behind(stream: Stream) -> None:
    await stream.make()
    await stream.settled(1, 2)
    name = stream.subjects.stream
    assert [one.name for one in await stream.place.jetstream.consumers_info(name)] == [
        stream.place.durable
    ]


@pytest.mark.parametrize(
    ("age", "count", "is_looked_for"),
    [(100.0, 2, False), (111.0, 2, True), (111.0, 1, False), (0.0, 2, False)],
)
async def test_within_the_duplicate_window_nothing_is_looked_for(
    age: float, count: int, is_looked_for: bool, stream: Stream
) -> None:
    await stream.make()
    stored = StoredResults(stream.jetstream, stream.subjects)
    created = datetime.now(UTC) - timedelta(seconds=age)
    info = await stream.place.jetstream.consumer_info(stream.subjects.stream, stream.place.durable)
    info.created = created
    stream.jetstream.consumer_info = mock.AsyncMock(return_value=info)
    assert not await stored.have(make_delivery(1, count, created, make_setup(120.0)))
    assert stream.jetstream.stream_info.called is is_looked_for
    assert stream.jetstream.consumer_info.called is (count == 1)


@pytest.mark.parametrize("has_consumer", [True, False])
async def test_a_first_delivery_needs_no_look(stream: Stream, has_consumer: bool) -> None:
    await stream.make()
    created = datetime.now(UTC) + timedelta(hours=1)
    first = make_delivery(1, created=created, setup=make_setup(-1e5))
    first_of_all = StoredResults(stream.jetstream, stream.subjects)
    if not has_consumer:
        await stream.place.jetstream.delete_consumer(stream.subjects.stream, stream.place.durable)
    assert not await first_of_all.have(first)
    assert stream.jetstream.stream_info.called is not has_consumer


async def test_a_result_whose_acknowledgement_was_lost_is_stored_once(
    place: Place, emulator: ThorEmulator
) -> None:
    """The broker comes back after the duplicate window."""
    await place.make(ACK_WAIT, duplicate_window=WINDOW)
    async with serving(place, emulator) as worker:
        jetstream = worker._handler._publisher._jetstream
        publish, losses = jetstream.publish, iter([nats.errors.TimeoutError()])

        async def lose_first_answer(*args: Any, **settings: Any) -> Any:
            answer = await publish(*args, **settings)
            for loss in losses:
                await asyncio.sleep(2 * WINDOW)
                raise loss
            return answer

        with mock.patch.object(jetstream, "publish", lose_first_answer):
            await place.send(BAD)
            await place.emptied()
    assert len(await reasons(place)) == 1


async def test_a_look_that_fails_is_made_again(stream: Stream, caplog: Any) -> None:
    """A result is only stored when it is known that there is none."""
    await stream.make()
    await stream.place.send(BAD)
    await stream.store("outcomes", 1)
    client = mock.Mock(max_payload=2**20)
    client.jetstream.return_value = stream.jetstream
    publisher = SettlementPublisher(client, stream.subjects, mock.AsyncMock(return_value=OUTSIDE))
    stream.jetstream.stream_info = mock.AsyncMock(
        side_effect=[
            nats.errors.TimeoutError(),
            await stream.place.jetstream.stream_info(stream.subjects.stream),
        ]
    )
    assert not await publisher.store(repeat(1), Settlement("dead_letter", reason="why"))
    assert await stream.place.dead() == []
