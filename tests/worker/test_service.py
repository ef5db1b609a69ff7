"""The worker between a real broker and an emulated Thor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.api import StreamConfig

from tests.conftest import KEY, TAG, wait_until
from tests.worker.conftest import Place, serving
from thor_async import StopCharge
from thor_async.emulator import Behaviour, Lists, RateLimits, ThorEmulator
from thor_async.worker import service

pytestmark = pytest.mark.broker

BARE = StopCharge("A", 1, TAG, ref="r7")


def health(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    return found


def fleet(emulator: ThorEmulator, count: int) -> list[StopCharge]:
    commands = [StopCharge(f"box-{n}", 1, TAG, n + 1) for n in range(count)]
    emulator.fill(commands)
    return commands


async def test_a_done_command_is_acknowledged_with_its_outcome(
    place: Place, emulator: ThorEmulator
) -> None:
    emulator.start_charge("A", 1, TAG)
    async with serving(place, emulator):
        await place.send(BARE, BARE)
        await place.emptied()
    assert emulator.charges == {}
    first, second = sorted(await place.outcomes(), key=lambda row: str(row["verdict"]))
    assert (first["verdict"], first["code"]) == ("rejected", "NotInTransaction")
    assert second["verdict"] == "relayed"
    for row in (first, second):
        assert (row["next_step"], row["deliveries"], row["ref"]) == ("done", 1, "r7")
        assert not row["maybe_applied"]
        assert "id_tag" not in row
    assert await place.dead() == []


async def test_a_command_that_cannot_succeed_becomes_a_dead_letter(
    place: Place, emulator: ThorEmulator
) -> None:
    emulator.start_charge("A", 1, "another tag")
    bad = b'{"chargebox": "A", "connector": 0, "id_tag": "' + TAG.encode() + b'"}'
    bodies = [bad, b"\xff\0", b"x" * (2**20 - 100), msgspec.json.encode(BARE)]
    async with serving(place, emulator):
        await place.send(*bodies)
        await place.emptied()
        dead = await place.dead()
    assert {letter.data for letter in dead} == {bad, b"\xff\0", b"x" * (2**20 - 4096), bodies[3]}
    headers = [letter.headers or {} for letter in dead]
    assert {h["Thor-Maybe-Applied"] for h in headers} == {"false"}
    assert {h["Thor-Deliveries"] for h in headers} == {"1"}
    reasons = sorted(h["Thor-Reason"] for h in headers)
    assert reasons[0] == "Thor answered 400: WrongTransaction"
    assert reasons[1].startswith("not a StopCharge: ")
    assert not any(TAG in reason for reason in reasons)
    assert len(emulator.ledger.requests) == 1
    assert await place.outcomes() == []


async def test_an_expired_command_is_not_sent(place: Place, emulator: ThorEmulator) -> None:
    emulator.start_charge("A", 1, TAG)
    past = msgspec.structs.replace(BARE, not_after=datetime.now(UTC) - timedelta(seconds=1))
    async with serving(place, emulator, max_age=1e-9):
        await place.send(BARE, past)
        await place.emptied()
        dead = await place.dead()
    assert all("expired" in (letter.headers or {})["Thor-Reason"] for letter in dead)
    assert len(dead) == 2
    assert emulator.ledger.requests == []


async def test_an_unknown_outcome_is_repeated_only_with_a_transaction(
    place: Place, emulator: ThorEmulator
) -> None:
    emulator.start_charge("A", 1, TAG)
    pinned = fleet(emulator, 1)[0]
    for box in ("A", pinned.chargebox):
        emulator.script(500, 500, 500, chargebox=box)
    async with serving(place, emulator):
        await place.send(BARE, pinned)
        await place.emptied()
        (letter,) = await place.dead()
        (row,) = await place.outcomes()
    assert letter.data == msgspec.json.encode(BARE)
    assert (letter.headers or {})["Thor-Maybe-Applied"] == "true"
    assert (row["verdict"], row["deliveries"], row["maybe_applied"]) == ("relayed", 2, True)
    assert set(emulator.charges) == {("A", 1)}


async def test_a_refused_account_pauses_and_loses_nothing(
    place: Place, emulator: ThorEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    commands = fleet(emulator, 40)
    keys = ["rotated-away"]
    async with serving(place, emulator, key=lambda: keys[-1], max_in_flight=8) as worker:
        await place.send(*commands)
        await wait_until(lambda: len(emulator.ledger.requests) >= 3)
        assert len(emulator.ledger.requests) <= 9  # those in flight, and one probe
        keys.append(KEY)
        await place.emptied()
        assert await place.dead() == []
        assert len(await place.outcomes()) == 40
        assert worker._handler.results["relayed", None] == 40
        assert worker._handler.results["rejected", "APIKeyNotFound"] > 0
        assert worker._handler.redeliveries > 0
        assert worker.pending == 0
    assert emulator.charges == {}
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert [text for text in errors if "Thor refuses the account: Thor answered 403" in text]


async def test_a_key_function_that_raises_pauses_and_loses_nothing(
    place: Place, emulator: ThorEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    commands = fleet(emulator, 40)
    calls: list[bool] = []

    def find_key() -> str:
        calls.append(is_broken)
        if is_broken:
            raise OSError(TAG)
        return KEY

    is_broken = True
    async with serving(place, emulator, key=find_key, max_in_flight=8) as worker:
        await place.send(*commands)
        await wait_until(lambda: len(calls) >= 3)
        assert worker.state == "paused"
        assert len(calls) <= 9  # those in flight, and a probe
        is_broken = False
        await place.emptied()
        assert await place.dead() == []
        assert len(await place.outcomes()) == 40
    assert emulator.charges == {}
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert errors
    assert not any(TAG in text for text in errors)


@pytest.mark.parametrize("name", ["Status", "status", "Description", "content-type", "reply_to"])
async def test_a_header_of_the_producer_poisons_nothing(
    name: str, place: Place, emulator: ThorEmulator
) -> None:
    """nats-py takes every message with a header `Status` for a word of the server."""
    (command,) = fleet(emulator, 1)
    subject, stream = place.names["subject"], place.names["stream"]
    async with serving(place, emulator):
        for value in ("new", "404", "100", "503", "\u20ac", "x" * 2000):
            with contextlib.suppress(UnicodeEncodeError):
                body = msgspec.json.encode(command)
                await place.jetstream.publish(subject, body, stream=stream, headers={name: value})
        await place.emptied(20)
    assert len(await place.outcomes()) >= 5
    assert await place.dead() == []


async def test_no_command_is_lost_in_an_outage_of_thor(
    place: Place, emulator: ThorEmulator
) -> None:
    commands = fleet(emulator, 100)
    await emulator.refuse()
    async with serving(place, emulator):
        await place.send(*commands)
        await asyncio.sleep(0.5)
        await emulator.accept()
        await place.emptied()
        assert len(await place.outcomes()) == 100
        assert await place.dead() == []
    assert emulator.charges == {}


async def test_a_stop_is_confirmed(place: Place, emulator: ThorEmulator) -> None:
    (command,) = fleet(emulator, 1)
    emulator.always("ChargeboxNotFound", chargebox="B")
    async with serving(place, emulator, confirm=20.0):
        await place.send(command, StopCharge("B", 1, TAG))
        await place.emptied()
        (row,) = await place.outcomes()
        (letter,) = await place.dead()
    assert (row["state"], row["next_step"], row["deliveries"]) == ("stopped", "done", 1)
    assert (letter.headers or {})["Thor-Reason"].endswith(": ChargeboxNotFound")


async def test_what_is_only_watched_leaves_its_place(
    place: Place, emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_WATCHED_AT_ONCE", 6)
    emulator.behaviours[None] = Behaviour(delay=(600.0, 600.0))
    emulator.faults = msgspec.structs.replace(emulator.faults, latency=(0.02, 0.02))
    commands = fleet(emulator, 20)
    async with serving(place, emulator, confirm=60.0, max_in_flight=2, drain=1.0) as worker:
        await place.send(*commands)
        await wait_until(lambda: len(emulator.ledger.requests) == 12)
        await asyncio.sleep(0.5)
        assert worker.in_hand == 12  # as many as may be watched
    times = [request.at for request in emulator.ledger.requests]
    assert len(times) == 12
    # Two at the same time.
    assert all(later - earlier > 0.01 for earlier, later in zip(times, times[2:], strict=False))


async def test_what_waits_for_a_list_before_its_stop_keeps_its_place(
    place: Place, emulator: ThorEmulator
) -> None:
    """It would wait for a place on the wire next, while another worker may have it."""
    emulator.lists = Lists(error=1.0)
    emulator.faults = msgspec.structs.replace(emulator.faults, latency=(0.3, 0.3))
    async with serving(place, emulator, confirm=60.0, max_in_flight=2, drain=1.0) as worker:
        await place.send(*fleet(emulator, 20))
        most = 0
        while len(emulator.ledger.requests) < 6:
            most = max(most, worker.in_hand - worker._handler.watched)
            await asyncio.sleep(0.01)
    assert most == 2


async def test_an_existing_stream_and_consumer_are_not_changed(
    place: Place, emulator: ThorEmulator
) -> None:
    await place.make(ack_wait=7.0)
    stream = (await place.jetstream.stream_info(place.names["stream"])).config
    consumer = (await place.jetstream.consumer_info(place.names["stream"], place.durable)).config
    for _ in range(2):
        async with serving(place, emulator):
            pass
    assert (await place.jetstream.stream_info(place.names["stream"])).config == stream
    unchanged = await place.jetstream.consumer_info(place.names["stream"], place.durable)
    assert unchanged.config == consumer


async def test_a_missing_stream_and_consumer_are_created(
    place: Place, emulator: ThorEmulator
) -> None:
    async with serving(place, emulator), serving(place, emulator):
        pass
    created = (await place.jetstream.stream_info(place.names["stream"])).config
    assert set(created.subjects or []) == {n for k, n in place.names.items() if k != "stream"}
    assert created.retention == "limits"
    info = await place.jetstream.consumer_info(place.names["stream"], place.durable)
    assert info.config.max_deliver == -1
    assert info.config.ack_wait == 30.0


async def test_a_stream_without_a_subject_is_refused(place: Place, emulator: ThorEmulator) -> None:
    stream = StreamConfig(name=place.names["stream"], subjects=[place.names["subject"]])
    await place.jetstream.add_stream(stream)
    with pytest.raises(RuntimeError, match=r"does not hold 't\d+\.stop\.dead': add it"):
        async with serving(place, emulator):
            pass


async def test_the_state_is_in_the_health_file(
    place: Place, emulator: ThorEmulator, tmp_path: Path
) -> None:
    file = tmp_path / "health"
    async with serving(place, emulator, health_file=file):
        await wait_until(lambda: file.exists() and health(file)["state"] == "running")
        found = health(file)
    assert found == {"state": "running", "in_hand": 0, "pace": None, "throttled": 0}
    async with serving(place, emulator, health_file=tmp_path / "no" / "health"):
        await place.send(b"")
        await place.emptied()


async def test_a_command_in_hand_is_not_delivered_to_another_worker(
    place: Place, emulator: ThorEmulator
) -> None:
    await place.make(ack_wait=1.5)
    (command,) = fleet(emulator, 1)
    emulator.faults = msgspec.structs.replace(emulator.faults, latency=(3.0, 3.0))
    async with serving(place, emulator), serving(place, emulator):
        await place.send(command)
        await place.emptied()
    assert len(emulator.ledger.requests) == 1


async def test_commands_that_wait_during_a_pause_are_handed_over(
    place: Place, emulator: ThorEmulator
) -> None:
    commands = fleet(emulator, 20)
    await place.make(ack_wait=3.0)  # a message that the last pull took waits for it
    async with serving(place, emulator, key="rotated-away", max_in_flight=4):
        await place.send(*commands)
        await wait_until(lambda: emulator.ledger.requests)
    async with serving(place, emulator):
        await place.emptied()
    assert emulator.charges == {}
    assert await place.dead() == []


async def test_two_workers_share_the_rate_of_an_account(
    place: Place, emulator: ThorEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_HEALTH_INTERVAL", 0.1)
    commands = fleet(emulator, 200)
    emulator.set_limits(RateLimits(50, burst=20))
    files = [tmp_path / "first", tmp_path / "second"]
    first, second = (
        serving(place, emulator, retry_throttled=True, max_in_flight=8, health_file=file)
        for file in files
    )
    async with first, second:
        await place.send(*commands)
        await place.emptied()
        rows = await place.outcomes()
        await wait_until(lambda: all(health(file)["throttled"] for file in files))
        paces = [health(file)["pace"] for file in files]
    assert {row["verdict"] for row in rows} == {"relayed"}
    assert len(rows) == 200
    assert await place.dead() == []
    assert emulator.charges == {}
    assert all(pace is not None and 0 < pace < 200 for pace in paces)
    throttled = sum(request.status == 429 for request in emulator.ledger.requests)
    print(f"{throttled} answers 429")
    assert throttled < 100


async def test_a_command_that_waits_for_the_pace_is_not_delivered_to_another_worker(
    place: Place, emulator: ThorEmulator
) -> None:
    await place.make(ack_wait=1.5)
    commands = fleet(emulator, 6)
    first, second = (serving(place, emulator, max_rate=0.4, max_in_flight=3) for _ in range(2))
    async with first, second:
        await place.send(*commands)
        await place.emptied()
    assert [row["deliveries"] for row in await place.outcomes()] == [1] * 6
    times = [request.at for request in emulator.ledger.requests]
    assert len(times) == 6
    assert times[-1] - times[0] > 2.4
