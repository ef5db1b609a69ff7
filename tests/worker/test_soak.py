"""Workers that are killed, all else that goes away or is lost, next drivers with the same tag."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from tests.conftest import KEY, TAG, wait_until
from tests.worker.conftest import Place, Server, connect, run_server
from tests.worker.test_command_line import Workers, requests_came
from thor_async import StopCharge
from thor_async.emulator import Behaviour, Faults, ThorEmulator

pytestmark = pytest.mark.broker

COMMANDS, ROUNDS = (5000, 8) if os.environ.get("THOR_SOAK") else (300, 2)
ACK_WAIT = 3.0
NEXT_DRIVER = 2.0
"""Less than the retries of one call take."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    with run_server(tmp_path) as server:
        yield server


@pytest.fixture
async def place(server: Server) -> AsyncIterator[Place]:
    async with connect(server.url) as place:
        yield place


@pytest.fixture
async def workers(place: Place, emulator: ThorEmulator, tmp_path: Path) -> AsyncIterator[Workers]:
    workers = Workers(place, emulator, tmp_path)
    yield workers
    for worker in workers.all:
        await worker.kill()


def make_commands(emulator: ThorEmulator) -> list[StopCharge]:
    """Starts the charges of all commands, well before them. Every fourth has a transaction."""
    commands = []
    for number in range(COMMANDS):
        charge = emulator.start_charge(f"box-{number}", 1, TAG)
        began = charge.date_started - 60_000
        emulator.charges[charge.place] = msgspec.structs.replace(charge, date_started=began)
        transaction = None if number % 4 else charge.transaction
        commands.append(StopCharge(charge.chargebox, 1, TAG, transaction, ref=number))
    return commands


class Scene:
    """Two workers, what can be taken away from them, and the results of all commands so far."""

    def __init__(
        self, place: Place, server: Server, emulator: ThorEmulator, workers: Workers
    ) -> None:
        self.place, self.server, self.emulator, self.workers = place, server, emulator, workers
        self.dice = random.Random(13)
        self.key_file = workers.folder / "api-key"
        self.key_file.write_text(KEY)
        self.rows: list[dict[str, Any]] = []
        self.dead: list[Msg] = []

    async def start_worker(self, *options: str) -> None:
        await self.workers.start("--api-key-file", str(self.key_file), *options)

    async def send(self, commands: list[StopCharge]) -> None:
        """Returns when a third of them may have come to Thor."""
        wanted = len(self.emulator.ledger.requests) + len(commands) // 3
        await self.place.send(*commands)
        await requests_came(self.emulator, wanted)

    async def disturb(self) -> None:
        """Kills one of two workers, ends the other by SIGTERM, takes the broker and Thor away."""
        first, second = self.workers.all[-2:]
        await (first, second)[self.dice.randrange(2)].kill()
        await self.start_worker(*self.dice.choice(OPTIONS))
        await (first if first.process.returncode is None else second).end()
        await self.start_worker(*self.dice.choice(OPTIONS))
        self.server.stop()
        await asyncio.sleep(2 * ACK_WAIT)
        self.server.start()
        await self.emulator.refuse()
        await asyncio.sleep(2.0)
        await self.emulator.accept()

    async def lose_key(self, commands: list[StopCharge]) -> None:
        """Takes the API key away for a while."""
        self.key_file.write_text("rotated-away")
        refused = self.refusals
        await self.place.send(*commands)
        await wait_until(lambda: self.refusals >= refused + 3)
        self.key_file.write_text(KEY)

    @property
    def refusals(self) -> int:
        return sum(request.status == 403 for request in self.emulator.ledger.requests)

    async def lose_store(self, commands: list[StopCharge]) -> None:
        """Empties the store in the middle of these commands, and sends them all again.

        One without a transaction has an `as_of`, as its producer must give it to send it twice.
        """
        now = datetime.now(UTC)
        commands = [
            command
            if command.transaction is not None
            else msgspec.structs.replace(command, as_of=now)
            for command in commands
        ]
        await self.collect()
        await self.send(commands)
        self.server.stop()
        self.server.remove_store()
        self.server.start()
        # What a client of nats-py asks while it reconnects has no answer.
        async with connect(self.server.url) as place:
            place.use_number(self.place.number)
            await place.make(ACK_WAIT)
            await place.send(*commands)

    async def collect(self) -> None:
        """Waits until all commands have ended, and takes in their results."""
        await self.place.emptied(600)
        self.rows += await self.place.outcomes()
        self.dead += await self.place.dead()


OPTIONS = [("--drain=4",), ("--drain=4", "--confirm=20")]


async def test_no_charge_is_stopped_that_was_not_meant(
    place: Place, server: Server, emulator: ThorEmulator, workers: Workers
) -> None:
    """Every command ends with an outcome or as a dead letter, never with both."""
    emulator.behaviours[None] = Behaviour(delay=(0.0, 0.5), next_driver=NEXT_DRIVER)
    emulator.faults = msgspec.structs.replace(Faults.spread(0.1), latency=(0.0, 0.4))
    commands = make_commands(emulator)
    meant = {charge.transaction for charge in emulator.charges.values()}
    await place.make(ACK_WAIT)
    scene = Scene(place, server, emulator, workers)
    for options in OPTIONS:
        await scene.start_worker(*options)
    size = COMMANDS // (ROUNDS + 2)
    parts = [commands[n : n + size] for n in range(0, COMMANDS, size)]
    for part in parts[:ROUNDS]:
        await scene.send(part)
        await scene.disturb()
    await scene.lose_key(parts[ROUNDS])
    await scene.lose_store(parts[ROUNDS + 1])
    for part in parts[ROUNDS + 2 :]:
        await place.send(*part)
    await scene.collect()

    rows, dead = scene.rows, scene.dead
    twice = {command.ref for command in parts[ROUNDS + 1]}
    dead_refs = [msgspec.json.decode(letter.data)["ref"] for letter in dead]
    check_ends(commands, rows, dead_refs, twice)
    unmeant = {request.effect for request in emulator.ledger.effects} - meant
    assert not unmeant
    check_claims(commands, rows, emulator)
    print(
        f"{COMMANDS} commands, {len(emulator.ledger.requests)} requests, {len(dead)} dead letters, "
        f"{sum(row['deliveries'] > 1 for row in rows)} outcomes of repeats"
    )
    print(Counter((letter.headers or {})["Thor-Reason"][:60] for letter in dead).most_common(8))


def check_ends(
    commands: list[StopCharge], rows: list[dict[str, Any]], dead: list[int], twice: set[int]
) -> None:
    """Each command has one end; one of `twice` may have one for each time that it was sent."""
    ends = Counter([row["ref"] for row in rows] + dead)
    assert {command.ref for command in commands} == ends.keys()
    assert {ref for ref, count in ends.items() if count > 1} <= twice
    assert max(ends.values()) <= 2


def check_claims(
    commands: list[StopCharge], rows: list[dict[str, Any]], emulator: ThorEmulator
) -> None:
    """What an outcome calls over is over, or was relayed to its chargebox."""
    relayed = {request.effect for request in emulator.ledger.effects}
    for row in rows:
        transaction = row["ref"] + 1
        assert row["next_step"] == "done"
        assert transaction in relayed | emulator.ledger.ended.keys()
        if row.get("state") == "stopped" or row["verdict"] != "relayed":
            assert transaction in emulator.ledger.ended
