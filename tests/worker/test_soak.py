"""Workers that are killed, brokers that go away, next drivers with the same tag."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import TAG
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


async def disturb(place: Place, workers: Workers, server: Server, dice: random.Random) -> None:
    """Kills one of two workers, ends the other by SIGTERM, and takes the broker away."""
    first, second = workers.all[-2:]
    await (first, second)[dice.randrange(2)].kill()
    await workers.start(*dice.choice(OPTIONS))
    if second.process.returncode is None:
        await second.end()
    else:
        await first.end()
    await workers.start(*dice.choice(OPTIONS))
    server.stop()
    await asyncio.sleep(2 * ACK_WAIT)
    server.start()


OPTIONS = [("--drain=4",), ("--drain=4", "--confirm=20")]


async def test_no_charge_is_stopped_that_was_not_meant(
    place: Place, server: Server, emulator: ThorEmulator, workers: Workers
) -> None:
    """Every command ends with an outcome or as a dead letter, never with both."""
    dice = random.Random(13)
    emulator.behaviours[None] = Behaviour(delay=(0.0, 0.5), next_driver=NEXT_DRIVER)
    emulator.faults = msgspec.structs.replace(Faults.spread(0.1), latency=(0.0, 0.4))
    commands = make_commands(emulator)
    meant = {charge.transaction for charge in emulator.charges.values()}
    await place.make(ACK_WAIT)
    for options in OPTIONS:
        await workers.start(*options)
    size = COMMANDS // (ROUNDS + 1)
    for number in range(ROUNDS):
        wanted = len(emulator.ledger.requests) + size // 3
        await place.send(*commands[number * size : (number + 1) * size])
        await requests_came(emulator, wanted)
        await disturb(place, workers, server, dice)
    await place.send(*commands[ROUNDS * size :])
    await place.emptied(600)

    rows = await place.outcomes()
    dead = await place.dead()
    check_ends(commands, rows, [msgspec.json.decode(letter.data)["ref"] for letter in dead])
    unmeant = {request.effect for request in emulator.ledger.effects} - meant
    assert not unmeant
    check_claims(commands, rows, emulator)
    print(
        f"{COMMANDS} commands, {len(emulator.ledger.requests)} requests, {len(dead)} dead letters, "
        f"{sum(row['deliveries'] > 1 for row in rows)} outcomes of repeats"
    )
    print(Counter((letter.headers or {})["Thor-Reason"][:60] for letter in dead).most_common(8))


def check_ends(commands: list[StopCharge], rows: list[dict[str, Any]], dead: list[int]) -> None:
    ends = Counter([row["ref"] for row in rows] + dead)
    assert {command.ref for command in commands} == ends.keys()
    assert set(ends.values()) == {1}


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
