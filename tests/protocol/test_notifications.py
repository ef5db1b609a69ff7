"""Notifications of every documented shape, and bodies that are none."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.conftest import KEY, TAG, shown
from tests.emulator.harness import Client, under_virtual_time
from thor_async import StartNotification, StopCharge, StopNotification, ThorClient
from thor_async._protocol.notifications import parse_notification
from thor_async.emulator import Behaviour, Notifications, ThorEmulator

Notification = StartNotification | StopNotification

START = {
    "type": "start",
    "accepted": True,
    "chargebox": "A",
    "id": TAG,
    "connector": 2,
    "transaction_id": 52,
    "mode": "remote",
}
END = {
    "type": "stop_transaction",
    "accepted": True,
    "unlocked": False,
    "chargebox": "A",
    "idTag": TAG,
    "connector": 2,
    "transaction_id": 52,
    "kwh": 12.5,
    "time": 90,
    "payment": {"amount": 3},
}
REFUSAL = {
    "msg": "stop",
    "accepted": False,
    "unlocked": False,
    "chargebox": "A",
    "idTag": TAG,
    "connector": 2,
    "transaction_id": 0,
    "energy": 12_500,
    "time": 90,
    "payment": None,
}
UNLOCKED = REFUSAL | {"accepted": True, "unlocked": True, "idTag": ""}


def body(of: object, **changes: Any) -> bytes:
    return json.dumps(of | changes if isinstance(of, dict) else of).encode()


# Every documented shape


@pytest.mark.parametrize("mode", ["local", "remote", "api"])
def test_a_start(mode: str) -> None:
    assert StartNotification.parse(body(START, mode=mode)) == StartNotification(
        chargebox="A", connector=2, accepted=True, id_tag=TAG, transaction=52, mode=mode
    )


def test_a_start_that_was_refused() -> None:
    refused = body(START, accepted=False, transaction_id=0)
    assert StartNotification.parse(refused) == StartNotification(
        chargebox="A", connector=2, accepted=False, id_tag=TAG, transaction=None, mode="remote"
    )


def test_a_normal_end() -> None:
    end = StopNotification.parse(body(END))
    assert end == StopNotification(
        chargebox="A",
        connector=2,
        accepted=True,
        unlocked=False,
        id_tag=TAG,
        transaction=52,
        energy=12_500.0,
        time=90,
        payment={"amount": 3},
        is_normal=True,
    )
    assert (end.is_end, end.is_refusal) == (True, False)


def test_a_refused_remote_stop() -> None:
    refusal = StopNotification.parse(body(REFUSAL))
    assert (refusal.transaction, refusal.id_tag, refusal.energy) == (None, TAG, 12_500.0)
    assert (refusal.is_end, refusal.is_refusal) == (False, True)


@pytest.mark.parametrize("accepted", [True, False])
def test_an_unlocked_connector(accepted: bool) -> None:
    unlocked = StopNotification.parse(body(UNLOCKED, accepted=accepted))
    assert (unlocked.transaction, unlocked.id_tag, unlocked.unlocked) == (None, None, True)
    assert (unlocked.is_end, unlocked.is_refusal) == (False, False)


@pytest.mark.parametrize(
    ("fields", "energy"),
    [
        ({"kwh": 1.5}, 1500.0),
        ({"energy": 1500}, 1500.0),
        ({"kwh": 0, "energy": 7}, 0.0),
        ({}, None),
    ],
)
@pytest.mark.parametrize("shape", [END, REFUSAL], ids=["end", "refusal"])
def test_energy_is_in_wh_under_either_key(shape: Any, fields: Any, energy: float) -> None:
    rest = {name: value for name, value in shape.items() if name not in ("kwh", "energy")}
    assert StopNotification.parse(body(rest, **fields)).energy == energy


@pytest.mark.parametrize("changes", [{"transaction_id": 0}, {"accepted": False}])
def test_an_end_that_proves_nothing(changes: Any) -> None:
    end = StopNotification.parse(body(END, **changes))
    assert (end.is_end, end.is_refusal) == (False, False)


@pytest.mark.parametrize("shape", [START, END, REFUSAL, UNLOCKED])
def test_str_and_bytes_and_more_than_is_known(shape: dict[str, Any]) -> None:
    text = body(shape)
    parsed = parse_notification(text)
    assert type(parsed) is (StartNotification if shape is START else StopNotification)
    assert parse_notification(text.decode()) == parsed
    assert parse_notification(body(shape, soc=80, version={"a": [None]})) == parsed


@pytest.mark.parametrize("name", ["id", "transaction_id", "mode"])
def test_a_missing_field_of_a_start_is_none(name: str) -> None:
    start = StartNotification.parse(body(START, **{name: None}))
    names = {"id": "id_tag", "transaction_id": "transaction"}
    assert getattr(start, names.get(name, name)) is None
    assert start == StartNotification.parse(body({k: v for k, v in START.items() if k != name}))


@pytest.mark.parametrize("shape", [START, END, REFUSAL])
def test_neither_tag_nor_payment_is_shown(shape: dict[str, Any]) -> None:
    parsed = parse_notification(body(shape, payment="card-4242"))
    for text in (repr(parsed), str(parsed), f"{[parsed]}", str(parsed.__rich_repr__())):
        assert "connector" in text
        assert TAG not in text
        assert "card-4242" not in text
    assert pickle.loads(pickle.dumps(parsed)) == parsed


# Bodies that are no notification


MALFORMED: list[Any] = [
    b"",
    b"stop",
    b"null",
    b"[]",
    b'"start"',
    b"{}",
    b"[" * 100_000,
    b'{"payment":' * 100_000,
    body(START)[:-1],
    body(START) + b"x",
    b"\xff" + body(START),
    body(START).replace(b'"A"', b'"\xff"'),
    body(START).replace(b'"A"', b'"\\ud800"'),
    body(START).decode().replace("remote", "\ud800"),
    body([START]),
    None,
    52,
    START,
    [body(START)],
]
WRONG: list[dict[str, Any]] = [
    {"chargebox": None},
    {"chargebox": ""},
    {"chargebox": " "},
    {"chargebox": "A\nB"},
    {"chargebox": 7},
    {"connector": None},
    {"connector": 0},
    {"connector": -1},
    {"connector": 2**63},
    {"connector": "2"},
    {"connector": True},
    {"transaction_id": -1},
    {"transaction_id": 2**63},
    {"transaction_id": 10**400},
    {"transaction_id": "52"},
    {"transaction_id": 1.5},
    {"accepted": "yes"},
    {"accepted": None},
    {"type": None},
    {"type": "reserve", "msg": "start"},
]
PARSERS: list[Callable[[Any], Notification]] = [
    StartNotification.parse,
    StopNotification.parse,
    parse_notification,
]


def check_refused(given: Any, parse: Callable[[Any], Notification]) -> None:
    with pytest.raises(ValueError, match=r"^not a \w*\s?notification|^\w+ must") as refused:
        parse(given)
    text = shown(refused.value)
    assert TAG not in text
    assert len(str(refused.value)) < 600
    assert TAG.encode() not in pickle.dumps(refused.value)
    assert refused.value.__context__ is None


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("given", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed(given: Any, parse: Callable[[Any], Notification]) -> None:
    check_refused(given, parse)


@pytest.mark.parametrize("changes", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("shape", [START, END, REFUSAL], ids=["start", "end", "refusal"])
def test_wrong_values(shape: dict[str, Any], changes: dict[str, Any]) -> None:
    if shape is REFUSAL and changes.keys() == {"type", "msg"}:
        changes = {"msg": "start"}
    check_refused(body(shape, **changes), parse_notification)


@pytest.mark.parametrize("name", ["chargebox", "connector"])
def test_chargebox_and_connector_are_required(name: str) -> None:
    for shape in (START, END, REFUSAL, UNLOCKED):
        rest = {key: value for key, value in shape.items() if key != name}
        check_refused(body(rest), parse_notification)


@pytest.mark.parametrize("name", ["id", "idTag"])
@pytest.mark.parametrize("bad", [7, [TAG], {"tag": TAG}])
def test_a_tag_of_a_wrong_type(name: str, bad: Any) -> None:
    shape = START if name == "id" else END
    check_refused(body(shape, **{name: bad}), parse_notification)


def test_one_kind_is_not_the_other() -> None:
    for shape in (END, REFUSAL, UNLOCKED):
        check_refused(body(shape), StartNotification.parse)
    check_refused(body(START), StopNotification.parse)


ODD: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([[]])
)
NEAR = st.fixed_dictionaries(
    {},
    optional={k: st.just(v) | ODD for k, v in (REFUSAL | END | START).items()},
)


@given(st.binary() | st.text() | NEAR.map(body) | ODD)
def test_anything_is_a_notification_or_a_value_error(given: Any) -> None:
    refusal: ValueError | None = None
    try:
        text = repr(parse_notification(given))
    except ValueError as error:
        refusal = error
    if refusal is not None:
        text = shown(refusal)
    assert TAG not in text


# The stop of what has just started


def test_the_stop_of_a_start() -> None:
    start = StartNotification.parse(body(START))
    assert start.stop_command() == StopCharge("A", 2, TAG, 52)
    late = datetime(2030, 1, 1, tzinfo=UTC)
    expected = StopCharge("A", 2, TAG, 52, ref=["site", 7], not_after=late)
    assert start.stop_command(ref=["site", 7], not_after=late) == expected
    assert StartNotification.parse(body(START, transaction_id=None)).stop_command() == StopCharge(
        "A", 2, TAG
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"accepted": False, "transaction_id": 0}, "was refused"),
        ({"id": None}, "has no id_tag"),
        ({"id": ""}, "has no id_tag"),
        ({"id": f"{TAG}\n"}, "id_tag must not hold control"),
        ({"id": " "}, "id_tag must not be empty"),
    ],
)
def test_a_start_that_cannot_be_stopped(changes: Any, why: str) -> None:
    start = StartNotification.parse(body(START, **changes))
    with pytest.raises(ValueError, match=why) as refused:
        start.stop_command()
    assert TAG not in shown(refused.value)


# What the emulator sends


def listen(thor: ThorEmulator, **options: Any) -> list[Notification]:
    heard: list[Notification] = []
    thor.notifications = Notifications(
        lambda text: heard.append(parse_notification(text)), **options
    )
    return heard


@under_virtual_time
async def test_the_emulators_starts(thor: ThorEmulator, client: Client) -> None:
    heard = listen(thor, doubled=1.0)
    charges = [
        thor.start_charge("A", connector, mode=mode)
        for connector, mode in enumerate(("local", "remote", "api"), 1)
    ]
    await asyncio.sleep(1)
    commands = [one.stop_command() for one in heard if isinstance(one, StartNotification)]
    expected = [StopCharge(c.chargebox, c.connector, c.id_tag, c.transaction) for c in charges]
    assert commands == [command for command in expected for _ in range(2)]
    assert [one.mode for one in heard[::2] if isinstance(one, StartNotification)] == [
        "local",
        "remote",
        "api",
    ]


@under_virtual_time
async def test_the_emulators_refused_start(thor: ThorEmulator, client: Client) -> None:
    heard = listen(thor)
    thor.refuse_start("A", 1, TAG)
    await asyncio.sleep(1)
    (start,) = heard
    assert isinstance(start, StartNotification)
    assert (start.accepted, start.id_tag, start.transaction) == (False, TAG, None)


@under_virtual_time
async def test_the_emulators_stops(thor: ThorEmulator, client: Client) -> None:
    for number, name in enumerate(("ended", "stubborn", "unlocked"), 7):
        thor.start_charge(name, 1, TAG, number)
    thor.behaviours["stubborn"] = Behaviour(refuses=1.0)
    heard = listen(thor)
    thor.end_charge("ended", 1)
    stop = {"chargebox": "stubborn", "connector": 1, "id_tag": TAG}
    await client.ask("POST", "charges/stop", json=stop)
    thor.unlock("unlocked", 1)
    await asyncio.sleep(1)
    stops = {one.chargebox: one for one in heard if isinstance(one, StopNotification)}
    found = {name: (s.is_end, s.is_refusal, s.unlocked, s.transaction) for name, s in stops.items()}
    assert found == {
        "ended": (True, False, False, 7),
        "stubborn": (False, True, False, None),
        "unlocked": (False, False, True, None),
    }
    assert set(thor.ledger.ended) == {7, 9}
    assert set(thor.ledger.refused) == {8}


# Passing one to the client


@pytest.mark.parametrize("shape", [START, END, REFUSAL, UNLOCKED])
async def test_notify_returns_the_notification(shape: dict[str, Any]) -> None:
    async with ThorClient(KEY, base_url="http://127.0.0.1:1") as thor:
        for text in (body(shape), body(shape).decode()):
            for _ in range(2):  # a repeated one is harmless, and so is one without a waiter
                assert thor.notify(text) == parse_notification(text)


@pytest.mark.parametrize(
    "given", [*MALFORMED, body(START, connector=0)], ids=range(len(MALFORMED) + 1)
)
async def test_notify_refuses_other_bodies(given: Any) -> None:
    async with ThorClient(KEY, base_url="http://127.0.0.1:1") as thor:
        check_refused(given, thor.notify)


async def test_notify_needs_an_open_client() -> None:
    thor = ThorClient(KEY, base_url="http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="not open"):
        thor.notify(body(END))
    async with thor:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        thor.notify(body(END))
