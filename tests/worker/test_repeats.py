"""A command that is delivered again, or late, is sent at most once and stops no later charge."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from tests.conftest import TAG, wait_until
from tests.worker.conftest import Place, connect, run_server, serving
from thor_async import StopCharge
from thor_async.emulator import Behaviour, Faults, Lists, ScriptedAnswer, ThorEmulator
from thor_async.worker import service
from thor_async.worker.health import State

pytestmark = pytest.mark.broker

BARE = StopCharge("A", 1, TAG, ref="r7")
ACK_WAIT = 1.5


def start_charge(emulator: ThorEmulator, seconds: float, chargebox: str = "A") -> int:
    """Starts a charge that began `seconds` ago by its `date_started`; returns its transaction."""
    charge = emulator.start_charge(chargebox, 1, TAG)
    began = charge.date_started - int(seconds * 1000)
    emulator.charges[charge.place] = msgspec.structs.replace(charge, date_started=began)
    return charge.transaction


async def reasons(place: Place) -> list[tuple[str, str]]:
    """Returns reason and maybe_applied of each dead letter."""
    headers = [letter.headers or {} for letter in await place.dead()]
    return [(one["Thor-Reason"], one["Thor-Maybe-Applied"]) for one in headers]


async def test_a_fresh_command_needs_no_list(place: Place, emulator: ThorEmulator) -> None:
    start_charge(emulator, 60)
    emulator.lists = Lists(error=1.0)
    async with serving(place, emulator):
        await place.send(BARE)
        await place.emptied()
    assert emulator.charges == {}
    assert emulator.ledger.reads == []


async def test_a_command_delivered_again_does_not_stop_the_next_driver(
    place: Place, emulator: ThorEmulator
) -> None:
    start_charge(emulator, -60)
    await place.make(ACK_WAIT)
    await place.send(BARE)
    await place.deliver_to_a_dead_worker()
    async with serving(place, emulator):
        await place.emptied()
    assert emulator.ledger.requests == []
    [row] = await place.outcomes()
    assert (row["code"], row["verdict"], row["next_step"]) == (None, "not_sent", "done")
    assert (row["deliveries"], row["maybe_applied"]) == (2, True)


async def test_a_consumer_that_is_created_again_does_not_stop_the_next_driver(
    place: Place, emulator: ThorEmulator
) -> None:
    """It delivers for the first time what a worker of the old one may have sent."""
    start_charge(emulator, -60)
    await place.make(ACK_WAIT)
    await place.send(BARE)
    await place.deliver_to_a_dead_worker()
    await place.jetstream.delete_consumer(place.names["stream"], place.durable)
    async with serving(place, emulator):
        await place.emptied()
    assert emulator.ledger.requests == []
    [row] = await place.outcomes()
    assert (row["verdict"], row["maybe_applied"]) == ("not_sent", True)


async def test_a_command_delivered_again_stops_the_charge_that_was_meant(
    place: Place, emulator: ThorEmulator
) -> None:
    transaction = start_charge(emulator, 60)
    await place.make(ACK_WAIT)
    await place.send(BARE)
    await place.deliver_to_a_dead_worker()
    async with serving(place, emulator):
        await place.emptied()
    assert [request.effect for request in emulator.ledger.requests] == [transaction]
    [row] = await place.outcomes()
    assert (row["verdict"], row["transaction"], row["ref"]) == ("relayed", transaction, "r7")


@pytest.mark.parametrize("confirm", [None, 1.0])
async def test_a_retry_does_not_stop_the_next_driver(
    confirm: float | None, place: Place, emulator: ThorEmulator
) -> None:
    """The first try is answered 500 after its effect, and the retry comes after the next driver."""
    transaction = start_charge(emulator, 60)
    emulator.behaviours[None] = Behaviour(next_driver=0.0)
    emulator.script(ScriptedAnswer(500, effect=True))
    async with serving(place, emulator, confirm=confirm):
        await place.send(BARE)
        await place.emptied()
    assert {request.effect for request in emulator.ledger.effects} == {transaction}
    assert emulator.charges["A", 1].transaction == transaction + 1
    [(_, maybe_applied)] = await reasons(place)
    assert maybe_applied == "true"


async def test_a_retry_stops_the_charge_that_goes_on(place: Place, emulator: ThorEmulator) -> None:
    transaction = start_charge(emulator, 60)
    emulator.script(500)
    async with serving(place, emulator):
        await place.send(BARE)
        await place.emptied()
    [row] = await place.outcomes()
    assert (row["verdict"], row["transaction"], row["attempts"]) == ("relayed", transaction, 2)


async def test_an_old_command_does_not_stop_the_next_driver(
    place: Place, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FRESH_FOR", 0.0)
    start_charge(emulator, -60)
    async with serving(place, emulator):
        await place.send(BARE)
        await place.emptied()
    assert emulator.ledger.requests == []
    [row] = await place.outcomes()
    assert (row["next_step"], row["maybe_applied"]) == ("done", False)


async def test_a_command_that_another_worker_may_have_is_not_fresh(
    place: Place, emulator: ThorEmulator
) -> None:
    start_charge(emulator, -60)
    await place.make(ACK_WAIT)
    await place.send(BARE)
    await asyncio.sleep(ACK_WAIT / 2 + 0.1)
    async with serving(place, emulator):
        await place.emptied()
    assert emulator.ledger.requests == []


@pytest.mark.parametrize(
    ("began", "lists", "reason"),
    [
        (0.0, Lists(), "within 2 s of as_of"),  # before or after the message
        (60.0, Lists(error=1.0), "the running list is not known"),
    ],
)
async def test_a_repeat_is_a_dead_letter_where_the_list_cannot_tell(
    began: float, lists: Lists, reason: str, place: Place, emulator: ThorEmulator
) -> None:
    start_charge(emulator, began)
    emulator.lists = lists
    await place.make(ACK_WAIT)
    await place.send(BARE)
    await place.deliver_to_a_dead_worker()
    async with serving(place, emulator):
        await place.emptied()
    assert emulator.ledger.requests == []
    [(why, maybe_applied)] = await reasons(place)
    assert reason in why
    assert maybe_applied == "true"


async def test_an_old_command_waits_for_the_list(
    place: Place, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FRESH_FOR", 0.0)
    transaction = start_charge(emulator, 60)
    emulator.lists = Lists(error=1.0)
    async with serving(place, emulator):
        await place.send(BARE)
        await wait_until(lambda: emulator.ledger.reads)
        await asyncio.sleep(0.5)
        emulator.lists = Lists()
        await place.emptied()
    assert await place.dead() == []
    assert [request.effect for request in emulator.ledger.requests] == [transaction]


async def test_a_short_outage_of_thor_makes_no_dead_letter(
    place: Place, emulator: ThorEmulator
) -> None:
    """Nothing was sent, and this worker knows it: the command waits for the list."""
    boxes = [f"box-{n}" for n in range(10)]
    for box in boxes:
        start_charge(emulator, 60, box)
    await emulator.refuse()
    async with serving(place, emulator):
        await place.send(*[StopCharge(box, 1, TAG) for box in boxes])
        await asyncio.sleep(2.5)  # each was delivered again
        await emulator.accept()
        await place.emptied()
    assert await place.dead() == []
    assert emulator.charges == {}


@pytest.mark.parametrize("is_lost", [False, True])
async def test_what_a_full_stream_does_not_take_is_stored_later(
    is_lost: bool, place: Place, emulator: ThorEmulator
) -> None:
    emulator.behaviours[None] = Behaviour(next_driver=0.1)
    transaction = start_charge(emulator, 60)
    if is_lost:
        emulator.script(ScriptedAnswer(drop=True, effect=True), chargebox="A")
    await place.make(ACK_WAIT, max_msgs=1)
    async with serving(place, emulator) as worker, serving(place, emulator):
        await place.send(BARE)
        await asyncio.sleep(3 * ACK_WAIT)
        await place.make_room()
        await place.emptied()
    assert [request.effect for request in emulator.ledger.requests] == [transaction]
    rows, dead = await place.outcomes(), await reasons(place)
    assert (len(rows), len(dead)) == (0, 1) if is_lost else (1, 0)
    assert all(row["deliveries"] == 1 and row["verdict"] == "relayed" for row in rows)
    assert all(maybe == "true" for _, maybe in dead)
    assert not worker._handler.is_paused


async def test_a_worker_that_cannot_store_is_paused(
    place: Place, emulator: ThorEmulator, tmp_path: Path
) -> None:
    file = tmp_path / "health"
    start_charge(emulator, 60)
    await place.make(ACK_WAIT, max_msgs=1)

    def state() -> State | None:
        return msgspec.json.decode(file.read_bytes())["state"] if file.exists() else None

    async with serving(place, emulator, health_file=file):
        await place.send(BARE)
        await wait_until(lambda: state() == "paused")
        await place.make_room()
        await place.emptied()


async def test_what_was_stopped_while_the_broker_was_away_is_not_sent_again(
    emulator: ThorEmulator, tmp_path: Path
) -> None:
    emulator.behaviours[None] = Behaviour(next_driver=0.1)
    transactions = [start_charge(emulator, 60, f"box-{n}") for n in range(8)]
    commands = [
        StopCharge(f"box-{n}", 1, TAG, None if n % 2 else transactions[n]) for n in range(8)
    ]
    emulator.faults = Faults(latency=(1.0, 1.0))
    with run_server(tmp_path) as server:
        async with connect(server.url) as place:
            await place.make(ACK_WAIT)
            async with serving(place, emulator, max_in_flight=16):
                await place.send(*commands)
                await wait_until(lambda: len(emulator.ledger.requests) == 8)
                server.stop()
                await asyncio.sleep(3 * ACK_WAIT)
                server.start()
                await place.emptied()
            rows = await place.outcomes()
            assert await place.dead() == []
    assert {request.effect for request in emulator.ledger.requests} == {*transactions}
    assert len(emulator.ledger.requests) == len(rows) == 8
    assert {row["verdict"] for row in rows} == {"relayed"}


async def test_a_lost_acknowledgement_is_given_again(place: Place, emulator: ThorEmulator) -> None:
    start_charge(emulator, 60)
    emulator.behaviours[None] = Behaviour(next_driver=0.0)
    await place.make(ACK_WAIT)
    async with serving(place, emulator) as worker:
        publisher = worker._handler._publisher
        with mock.patch.object(publisher, "end", mock.AsyncMock()) as end:
            await place.send(BARE)
            await wait_until(lambda: end.called)
        await place.emptied()
    assert len(emulator.ledger.requests) == len(await place.outcomes()) == 1
    assert emulator.ledger.reads == []


async def test_a_draining_worker_settles_what_it_only_watches(
    place: Place, emulator: ThorEmulator
) -> None:
    """No other worker sends it again, whether it has a transaction or not."""
    transactions = {start_charge(emulator, 60, box) for box in ("A", "B")}
    transaction = emulator.charges["B", 1].transaction
    emulator.behaviours[None] = Behaviour(delay=(600.0, 600.0))
    async with serving(place, emulator, drain=2.0, confirm=120.0):
        await place.send(BARE, StopCharge("B", 1, TAG, transaction))
        await wait_until(lambda: len(emulator.ledger.requests) == 2)
    assert await place.left() == 0
    assert {request.effect for request in emulator.ledger.requests} == transactions
    assert await place.outcomes() == []
    dead = await reasons(place)
    assert [maybe for _, maybe in dead] == ["true", "true"]
    assert all("(relayed)" in reason for reason, _ in dead)


async def test_a_draining_worker_gives_back_no_command_that_could_hit_another_charge(
    place: Place, emulator: ThorEmulator
) -> None:
    start_charge(emulator, 60)
    emulator.faults = Faults(latency=(4.0, 4.0))
    async with serving(place, emulator, drain=1.0):
        await place.send(BARE)
        await wait_until(lambda: emulator.ledger.requests)
    assert await place.left() == 0
    assert [maybe for _, maybe in await reasons(place)] == ["true"]
