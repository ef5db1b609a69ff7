"""Worker processes, as an orchestrator runs them, and kills them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
import pytest

from tests.conftest import KEY, TAG, wait_until
from tests.worker.conftest import Place
from thor_async import StopCharge
from thor_async.emulator import Faults, ThorEmulator

pytestmark = pytest.mark.broker

COMMANDS, KILLS = (5000, 5) if os.environ.get("THOR_SOAK") else (500, 2)


class Worker(NamedTuple):
    """One process, and the file that it logs to: a pipe that nobody reads would stop it."""

    process: Process
    log: Path

    async def logs(self, words: str) -> None:
        async with asyncio.timeout(120):
            while words not in self.log.read_text():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def end(self) -> str:
        """Its whole log, after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.process.wait(), 120) == 0
        return self.log.read_text()


class Workers:
    """Processes of `thor-async worker` on one stream."""

    def __init__(self, place: Place, emulator: ThorEmulator, folder: Path) -> None:
        options = {"base-url": emulator.base_url}
        self.nats = f"--nats={place.url}"
        names = {name.replace("_", "-"): value for name, value in place.names.items()}
        self.options = [f"--{name}={value}" for name, value in (options | names).items()]
        self.folder = folder
        self.all: list[Worker] = []

    async def start(self, *options: str, until: str = "serving", **environment: str) -> Worker:
        """Returns once its log has these words."""
        nats = [] if "--nats" in options or "NATS_URL" in environment else [self.nats]
        log = self.folder / f"{len(self.all)}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "thor_async", "worker", *nats, *self.options, *options],
                stderr=file,
                env=os.environ | {"THOR_API_KEY": KEY, **environment},
            )
        worker = Worker(process, log)
        self.all.append(worker)
        await worker.logs(until)
        return worker


@pytest.fixture
async def workers(place: Place, emulator: ThorEmulator, tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(place, emulator, tmp_path)
    yield workers
    for worker in workers.all:
        await worker.kill()
        for never in (KEY, TAG, "Traceback"):
            assert never not in worker.log.read_text()


def fleet(emulator: ThorEmulator, count: int) -> list[StopCharge]:
    commands = [StopCharge(f"box-{n}", 1, TAG, n + 1, ref=n) for n in range(count)]
    emulator.fill(commands)
    return commands


async def requests_came(emulator: ThorEmulator, count: int) -> None:
    await wait_until(lambda: len(emulator.ledger.requests) >= count)


async def test_sigterm_ends_what_is_in_flight(
    place: Place, emulator: ThorEmulator, workers: Workers
) -> None:
    commands = fleet(emulator, 60)
    emulator.faults = Faults(latency=(0.5, 0.5))
    worker = await workers.start("--max-in-flight", "8")
    await place.send(*commands)
    await requests_came(emulator, 8)
    assert "draining" in await worker.end()
    in_flight = len(emulator.ledger.requests)
    assert len(await place.outcomes()) == in_flight < 60
    emulator.faults = Faults()
    await workers.start()
    await place.emptied(60)
    assert len(emulator.ledger.requests) == 60
    assert {row["ref"] for row in await place.outcomes()} == set(range(60))


async def test_sigterm_returns_what_waits_for_the_pace(
    place: Place, emulator: ThorEmulator, workers: Workers
) -> None:
    commands = fleet(emulator, 8)
    worker = await workers.start("--max-rate", "0.05", "--max-in-flight", "8", "--drain", "3")
    await place.send(*commands)
    await requests_came(emulator, 1)
    assert "draining" in await worker.end()
    assert len(emulator.ledger.requests) == len(await place.outcomes()) < 3
    await workers.start()
    await place.emptied(60)
    assert len(emulator.ledger.requests) == 8
    assert {row["ref"] for row in await place.outcomes()} == set(range(8))
    assert await place.dead() == []


async def test_sigterm_has_an_end(place: Place, emulator: ThorEmulator, workers: Workers) -> None:
    """After `--drain` the stop is cut: its answer would come before the attempt_timeout of 10 s."""
    (command,) = fleet(emulator, 1)
    emulator.faults = Faults(latency=(9.0, 9.0))
    worker = await workers.start("--drain", "0.5")
    await place.send(command)
    await wait_until(lambda: emulator.ledger.requests)
    await worker.end()
    assert await place.left() == 1
    assert await place.outcomes() == []
    assert await place.dead() == []


async def test_a_worker_without_nats_ends_when_it_is_told_to(workers: Workers) -> None:
    worker = await workers.start("--nats", "nats://127.0.0.1:1", until="NATS: ")
    assert "serving" not in await worker.end()


async def test_the_health_pages_are_there_before_nats(workers: Workers) -> None:
    options = ("--nats", "nats://127.0.0.1:1", "--health-port", "0", "--health-host", "127.0.0.2")
    worker = await workers.start(*options, until="health pages on")
    address = re.search(r"health pages on (http://127\.0\.0\.2:[0-9]+)", worker.log.read_text())
    assert address is not None
    statuses = []
    async with aiohttp.ClientSession() as session:
        for page in ("healthz", "readyz", "metrics"):
            async with session.get(f"{address[1]}/{page}") as response:
                statuses.append(response.status)
    assert statuses == [200, 503, 200]
    await worker.end()


async def test_the_log_can_be_json(place: Place, emulator: ThorEmulator, workers: Workers) -> None:
    worker = await workers.start("--log-format", "json")
    await place.send(StopCharge("unknown", 1, TAG, ref="r7"))
    await worker.logs("is a dead letter")
    lines = [msgspec.json.decode(line) for line in (await worker.end()).splitlines()]
    names, address = place.names, place.url.rpartition("/")[2]
    start = (
        f"takes {names['subject']} of stream {names['stream']} by consumer {place.durable}, at "
        f"most 32 in flight, from NATS at {address}"
    )
    assert start in [line["message"] for line in lines]
    (letter,) = [line for line in lines if "is a dead letter" in line["message"]]
    about = ("chargebox", "verdict", "code", "ref", "sequence", "maybe_applied")
    expected = ["unknown", "rejected", "ChargeboxNotFound", "r7", 1, False]
    assert [letter[name] for name in about] == expected


async def test_faults_and_kills_lose_nothing(
    place: Place, emulator: ThorEmulator, workers: Workers
) -> None:
    """Every command ends with an outcome or as a dead letter, and nothing else was stopped."""
    dice = random.Random(7)
    bare = [StopCharge(f"bare-{n}", 1, TAG, ref=COMMANDS + n) for n in range(COMMANDS // 10)]
    commands = fleet(emulator, COMMANDS) + bare
    emulator.fill(bare)
    others = [emulator.start_charge(f"other-{n}", 1) for n in range(10)]
    emulator.faults = msgspec.structs.replace(Faults.spread(0.2), latency=(0.0, 0.1))
    await place.make(ack_wait=5.0)
    alive = list(await asyncio.gather(workers.start(), workers.start()))
    shuffled = dice.sample(commands, len(commands))
    size = len(commands) // (KILLS + 1)
    for _ in range(KILLS):
        # A part brings at least `size` requests, however many commands have ended before.
        part, shuffled = shuffled[:size], shuffled[size:]
        wanted = len(emulator.ledger.requests) + size // 2
        sending = asyncio.create_task(place.send(*part))
        await requests_came(emulator, wanted)
        await alive.pop(dice.randrange(2)).kill()
        await sending
        alive.append(await workers.start())
    await place.send(*shuffled)
    await place.emptied(240)

    rows, letters = await place.outcomes(), await place.dead()
    outcomes = Counter(row["ref"] for row in rows)
    dead = Counter(msgspec.json.decode(letter.data)["ref"] for letter in letters)
    assert outcomes.keys() | dead.keys() == set(range(len(commands)))
    done = {commands[ref].chargebox for ref in outcomes}
    assert done.isdisjoint(chargebox for chargebox, _ in emulator.charges)
    told = {command.chargebox for command in commands}
    effects = [request.command for request in emulator.ledger.effects if request.command]
    assert {command.chargebox for command in effects} <= told
    assert {(charge.chargebox, 1) for charge in others} <= emulator.charges.keys()
    # JetStream stores one result of each message.
    assert {*outcomes.values(), *dead.values()} == {1}
    assert outcomes.keys().isdisjoint(dead)
    print(
        f"{len(commands)} commands, {len(emulator.ledger.requests)} requests, {len(dead)} dead "
        f"letters, {sum(row['deliveries'] > 1 for row in rows)} delivered again"
    )
