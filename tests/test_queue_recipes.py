"""The recipes for other brokers: RabbitMQ on a real server, Kafka in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue
from faststream.kafka import KafkaBroker, KafkaMessage, TestKafkaBroker

from tests.conftest import KEY, TAG, wait_until
from tests.documents import DOCUMENTS
from tests.real_rabbitmq import run_rabbitmq
from tests.recipes import command_handler, kafka_worker, rabbitmq_worker
from tests.recipes.kafka_worker import KafkaWorker
from thor_async import RetryPolicy, StopCharge, ThorClient
from thor_async.emulator import ThorEmulator
from thor_async.worker import Settlement, decide

RECIPES = Path(__file__).parent / "recipes"
NAMES = ["command_handler", "rabbitmq_worker", "kafka_worker"]
COMMAND = StopCharge("A", 1, TAG, ref="r7")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_what_is_tested_here(name: str) -> None:
    source = (RECIPES / name).with_suffix(".py").read_text()
    assert f"```python\n{source}```" in DOCUMENTS["tests/recipes/README.md"]
    assert source.count("\n") < 70


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivers again after a moment."""

    def decide_quickly(*args: Any) -> Settlement:
        return msgspec.structs.replace(decide(*args), delay=0.0)

    monkeypatch.setattr(command_handler, "decide", decide_quickly)


def make_client(emulator: ThorEmulator, key: Any = KEY) -> ThorClient:
    return ThorClient(key, base_url=emulator.base_url, retry=RetryPolicy(max_attempts=1))


def start_charge(emulator: ThorEmulator, chargebox: str, ago: float = 60.0) -> None:
    charge = emulator.start_charge(chargebox, 1, TAG)
    began = charge.date_started - round(ago * 1000)
    emulator.charges[chargebox, 1] = msgspec.structs.replace(charge, date_started=began)


def rows(bodies: list[bytes]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(body) for body in bodies]


def is_over(row: dict[str, Any]) -> bool:
    """Whether nothing was sent, because the charge that was meant is over."""
    return (row["verdict"], row["next_step"]) == ("not_sent", "done")


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as address:
        yield address


class Rabbit:
    """The three queues, as a producer and a reader of results see them."""

    def __init__(self, channel: AbstractChannel, url: str) -> None:
        self._channel, self._url = channel, url
        self.queues: dict[str, AbstractQueue] = {}

    async def declare(self) -> None:
        for name in (rabbitmq_worker.QUEUE, rabbitmq_worker.OUTCOMES, rabbitmq_worker.DEAD):
            self.queues[name] = await self._channel.declare_queue(name, durable=True)
            await self.queues[name].purge()

    async def send(self, body: StopCharge | bytes, age: float | None = 0.0, **headers: Any) -> None:
        """Sends a command that was meant `age` seconds ago; None: without its time."""
        created = None if age is None else datetime.now(UTC) - timedelta(seconds=age)
        encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
        message = aio_pika.Message(encoded, timestamp=created, headers=headers)
        await self._channel.default_exchange.publish(message, rabbitmq_worker.QUEUE)

    async def read(self, name: str, count: int = 1) -> list[aio_pika.abc.AbstractIncomingMessage]:
        """Waits for this number of results; there are no others."""
        found: list[aio_pika.abc.AbstractIncomingMessage] = []
        async with asyncio.timeout(60):
            while len(found) < count:
                message = await self.queues[name].get(no_ack=True, fail=False)
                if message is None:
                    await asyncio.sleep(0.02)
                else:
                    found.append(message)
        assert await self.queues[name].get(no_ack=True, fail=False) is None
        return found

    @contextlib.asynccontextmanager
    async def serving(self, thor: ThorClient) -> AsyncIterator[None]:
        stop = asyncio.Event()
        serving = asyncio.create_task(rabbitmq_worker.serve(self._url, thor, stop))
        try:
            yield
        finally:
            stop.set()
            await serving


@pytest.fixture
async def rabbit(rabbitmq: str) -> AsyncIterator[Rabbit]:
    connection = await aio_pika.connect(rabbitmq)
    async with connection:
        rabbit = Rabbit(await connection.channel(), rabbitmq)
        await rabbit.declare()
        yield rabbit
    await asyncio.sleep(0.05)  # what the connection closes behind itself


@pytest.mark.broker
async def test_rabbitmq_outcome_and_dead_letter(rabbit: Rabbit, emulator: ThorEmulator) -> None:
    start_charge(emulator, "A")
    async with rabbit.serving(make_client(emulator)):
        await rabbit.send(COMMAND)
        await rabbit.send(StopCharge("B", 1, TAG))
        (outcome,) = await rabbit.read(rabbitmq_worker.OUTCOMES)
        (letter,) = await rabbit.read(rabbitmq_worker.DEAD)
    (row,) = rows([outcome.body])
    assert (row["verdict"], row["ref"], row["next_step"]) == ("relayed", "r7", "done")
    assert "id_tag" not in row
    assert letter.headers == {
        "reason": "Thor answered 404: ChargeboxNotFound",
        "maybe_applied": False,
    }
    assert emulator.charges == {}


@pytest.mark.broker
async def test_rabbitmq_delay(rabbit: Rabbit, emulator: ThorEmulator) -> None:
    """A repeat comes back from the queue of its delay, and stops no charge that began later."""
    start_charge(emulator, "A")
    emulator.script(429, 429, chargebox="A")
    async with rabbit.serving(make_client(emulator)):
        await rabbit.send(COMMAND)
        (outcome,) = await rabbit.read(rabbitmq_worker.OUTCOMES)
        assert rows([outcome.body])[0]["verdict"] == "relayed"
        emulator.script(429, chargebox="B")
        start_charge(emulator, "B", ago=-60.0)
        await rabbit.send(StopCharge("B", 1, TAG))
        (outcome,) = await rabbit.read(rabbitmq_worker.OUTCOMES)
    assert is_over(rows([outcome.body])[0])
    assert set(emulator.charges) == {("B", 1)}


@pytest.mark.broker
async def test_rabbitmq_pause(rabbit: Rabbit, emulator: ThorEmulator) -> None:
    """With a refused key only probes are sent, and no command is lost."""
    keys = ["rotated-away"]
    for number in range(40):
        start_charge(emulator, f"box-{number}")
    async with rabbit.serving(make_client(emulator, lambda: keys[-1])):
        for number in range(40):
            await rabbit.send(StopCharge(f"box-{number}", 1, TAG, ref=number))
        await wait_until(lambda: len(emulator.ledger.requests) >= 2)
        await asyncio.sleep(0.5)
        assert len(emulator.ledger.requests) <= 33  # those in flight at first, and a probe
        keys.append(KEY)
        found = await rabbit.read(rabbitmq_worker.OUTCOMES, 40)
    assert {row["ref"] for row in rows([m.body for m in found])} == set(range(40))
    assert emulator.charges == {}


@pytest.mark.broker
async def test_rabbitmq_nothing_poisons_it(rabbit: Rabbit, emulator: ThorEmulator) -> None:
    start_charge(emulator, "A")
    async with rabbit.serving(make_client(emulator)):
        await rabbit.send(b"\xff")
        await rabbit.send(b"[" * 10_000)
        await rabbit.send(COMMAND, None)  # its age is not known
        await rabbit.send(COMMAND, 3600.0)
        letters = await rabbit.read(rabbitmq_worker.DEAD, 4)
        await rabbit.send(COMMAND, sent="many")
        await rabbit.read(rabbitmq_worker.OUTCOMES)
    reasons = sorted(str(letter.headers["reason"]).split(":")[0] for letter in letters)
    assert reasons == ["expired", "expired", "not a StopCharge", "not a StopCharge"]
    assert len(emulator.ledger.requests) == 1


@pytest.mark.broker
async def test_rabbitmq_a_crash_stops_no_later_charge(
    rabbit: Rabbit, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome of a stop that worked is not stored, and then the next driver plugs in."""
    start_charge(emulator, "A")
    publish = rabbitmq_worker.RabbitWorker._publish

    async def crash(self: Any, *args: Any, **headers: Any) -> None:
        monkeypatch.setattr(rabbitmq_worker.RabbitWorker, "_publish", publish)
        start_charge(emulator, "A", ago=-60.0)
        raise OSError

    monkeypatch.setattr(rabbitmq_worker.RabbitWorker, "_publish", crash)
    async with rabbit.serving(make_client(emulator)):
        await rabbit.send(COMMAND)
        (outcome,) = await rabbit.read(rabbitmq_worker.OUTCOMES)
    assert is_over(rows([outcome.body])[0])
    assert set(emulator.charges) == {("A", 1)}


class Kafka:
    """FastStream's broker in memory, and what is published."""

    def __init__(self, thor: ThorClient) -> None:
        self.broker = KafkaBroker("127.0.0.1:1", logger=None)
        self.worker = KafkaWorker(self.broker, thor)
        self.outcomes: list[bytes] = []
        self.dead: list[tuple[bytes, dict[str, str]]] = []

    async def send(self, body: StopCharge | bytes, age: float = 0.0) -> None:
        encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
        at = round((time.time() - age) * 1000)
        await self.broker.publish(encoded, kafka_worker.COMMANDS, timestamp_ms=at)


@contextlib.asynccontextmanager
async def kafka(thor: ThorClient) -> AsyncIterator[Kafka]:
    kafka = Kafka(thor)

    async def keep_outcome(message: KafkaMessage) -> None:
        kafka.outcomes.append(message.body)

    async def keep_letter(message: KafkaMessage) -> None:
        kafka.dead.append((message.body, message.headers))

    raw = command_handler.raw_body
    kafka.broker.subscriber(kafka_worker.OUTCOMES, decoder=raw)(keep_outcome)
    kafka.broker.subscriber(kafka_worker.DEAD, decoder=raw)(keep_letter)
    async with kafka.worker.lifespan(), TestKafkaBroker(kafka.broker):
        yield kafka


async def test_kafka_outcome_and_dead_letter(emulator: ThorEmulator) -> None:
    start_charge(emulator, "A")
    start_charge(emulator, "B")
    emulator.script("WrongTransaction", chargebox="B")
    async with kafka(make_client(emulator)) as served:
        await served.send(COMMAND)
        await served.send(StopCharge("B", 1, TAG))
    (row,) = rows(served.outcomes)
    assert (row["verdict"], row["ref"]) == ("relayed", "r7")
    ((_, headers),) = served.dead
    assert headers["reason"] == "Thor answered 400: WrongTransaction"
    assert headers["maybe_applied"] == "true"  # Kafka does not tell a repeat


async def test_kafka_delay(emulator: ThorEmulator) -> None:
    start_charge(emulator, "A")
    emulator.script(429, 429, chargebox="A")
    async with kafka(make_client(emulator)) as served:
        await served.send(COMMAND)
    assert rows(served.outcomes)[0]["verdict"] == "relayed"
    assert [request.status for request in emulator.ledger.requests if request.command] == [
        429,
        429,
        200,
    ]


async def test_kafka_a_long_delay_goes_round(
    emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No handler waits longer than the broker allows."""
    slept: list[float] = []
    clock = [time.time()]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    start_charge(emulator, "A")
    async with kafka(make_client(emulator)) as served:
        monkeypatch.setattr(time, "time", lambda: clock[0])
        monkeypatch.setattr(asyncio, "sleep", sleep)
        told = {"due": str(clock[0] + 150), "created": str(clock[0] * 1000)[:13], "sent": "1"}
        body = msgspec.json.encode(COMMAND)
        await served.broker.publish(body, kafka_worker.RETRIES, headers=told)
        monkeypatch.undo()
    assert [round(seconds) for seconds in slept if seconds > 1] == [60, 60, 30]
    assert len(served.outcomes) == 1


async def test_kafka_no_later_charge(emulator: ThorEmulator) -> None:
    """A record that was served before, in a batch that was not committed, comes again."""
    start_charge(emulator, "A")
    async with kafka(make_client(emulator)) as served:
        await served.send(COMMAND)
        start_charge(emulator, "A", ago=-60.0)
        await served.send(COMMAND)
    assert [row["verdict"] for row in rows(served.outcomes)] == ["relayed"]
    # The list that was read a moment ago still had the first charge.
    ((_, headers),) = served.dead
    assert (headers["reason"], headers["maybe_applied"]) == (
        "Thor answered 400: WrongTransaction",
        "true",
    )
    assert set(emulator.charges) == {("A", 1)}


async def test_kafka_pause(emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the account is refused, a record waits in the topic of retries; nothing is lost."""
    keys = ["rotated-away"]
    monkeypatch.setattr(kafka_worker, "LONGEST_WAIT", 0.05)
    paused = msgspec.structs.replace(command_handler.PAUSED, delay=0.0)
    monkeypatch.setattr(command_handler, "PAUSED", paused)
    charge = emulator.start_charge("A", 1, TAG)
    async with kafka(make_client(emulator, lambda: keys[-1])) as served:
        sending = asyncio.create_task(served.send(StopCharge("A", 1, TAG, charge.transaction)))
        await wait_until(lambda: emulator.ledger.requests)
        await asyncio.sleep(0.3)
        assert len(emulator.ledger.requests) == 1  # the probe is due after 1 s
        keys.append(KEY)
        await sending
    assert rows(served.outcomes)[0]["verdict"] == "relayed"
    assert served.dead == []


async def test_kafka_nothing_poisons_it(emulator: ThorEmulator) -> None:
    bodies = [b"\xff", b"[" * 10_000, b""]
    async with kafka(make_client(emulator)) as served:
        for body in bodies:
            await served.send(body)
        await served.send(COMMAND, 3600.0)
    assert [body for body, _ in served.dead[:3]] == bodies
    assert served.dead[3][1]["reason"].startswith("expired: ")
    assert emulator.ledger.requests == []
