"""Thor's lists as a client reads them: whole and true to the wire, or an error, and no secret."""

from __future__ import annotations

import gc
import gzip
import json
import pickle
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import example, given

from tests.behaviour.test_security import (
    REDIRECTS,
    Recorder,
    answer,
    check_silent,
    echo_as,
    thor_at,
)
from tests.conftest import KEY, TAG, Rests, shown
from tests.fault_server import FaultServer, Script, close, flood, read
from thor_async import (
    AccountError,
    APIKeyNotFound,
    Chargebox,
    ChargeboxNotFound,
    ConnectionLost,
    Coordinates,
    InternalServerError,
    NotSentError,
    RejectedError,
    ResponseTimeout,
    RunningCharge,
    ServerError,
    StopCharge,
    ThorClient,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
)
from thor_async._config import ClientConfig
from thor_async._protocol.http_messages import ANSWER_LIMIT, Answer
from thor_async._protocol.lists import (
    LIST_LIMIT,
    build_chargeboxes_request,
    build_running_request,
    decode_chargebox_rows,
    decode_polled_rows,
    decode_running_rows,
    parse_chargeboxes_answer,
    parse_running_answer,
)
from thor_async.emulator import Lists, ThorEmulator

T = TypeVar("T")

PERSON, CARD, DEVICE = "a-driver-of-ours", "card-4242", "tok3n-of-a-payment-device"
ITEM = {
    "id": 52,
    "chargebox": "EaJ7cU9NJ3YkTNgy",
    "connector": 2,
    "date_started": 1_700_000_000_500,
    "energy": 12_345.5,
    "id_tag": TAG,
    "type": "local",
    "user": PERSON,
    "payment": {"card": CARD},
}
CHARGE = RunningCharge(
    chargebox="EaJ7cU9NJ3YkTNgy",
    connector=2,
    transaction=52,
    date_started=datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC),
    energy=12_345.5,
    id_tag=TAG,
    type="local",
    user=PERSON,
    payment={"card": CARD},
)
LISTED = {
    "id": "EaJ7cU9NJ3YkTNgy",
    "alias": "Corso Francia 3",
    "active": True,
    "connected": False,
    "connectors": [{"power": 22_000, "type": "IEC_62196_T2", "token": DEVICE}],
    "occupied_connectors": [1, 2],
    "reserved_connectors": [3],
    "coordinates": {"latitude": 45.07, "longitude": 7},
    "last_heartbeat": 1_700_000_000_500,
    "timezone": "Europe/Rome",
}
CHARGEBOX = Chargebox(
    id="EaJ7cU9NJ3YkTNgy",
    alias="Corso Francia 3",
    active=True,
    connected=False,
    occupied_connectors=(1, 2),
    reserved_connectors=(3,),
    coordinates=Coordinates(45.07, 7.0),
    last_heartbeat=datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC),
    timezone="Europe/Rome",
)
FIELDS = {"id": "transaction"}
"""Names of fields in a `RunningCharge` where Thor has others."""

NEEDED = ("chargebox",)
UNPLACED = (None, 0, -1, 2**63, 10**400, 1.5, "2", True, [2], {"id": 2})
"""What is no number of a connector."""


def running(*items: object, **others: object) -> bytes:
    return json.dumps({"count": len(items), "items": items, "users": {}} | others).encode()


def whole(chunks: Iterator[list[T] | ThorError]) -> list[T] | ThorError:
    values: list[T] = []
    for chunk in chunks:
        if isinstance(chunk, ThorError):
            assert list(chunks) == []
            return chunk
        values += chunk
    return values


def reading(body: bytes | None, status: int = 200) -> list[RunningCharge] | ThorError:
    rows = parse_running_answer(Answer(status, body), (KEY,), 0.0)
    return rows if isinstance(rows, ThorError) else whole(decode_running_rows(rows))


def looking(body: bytes | None, status: int = 200) -> list[Chargebox] | ThorError:
    rows = parse_chargeboxes_answer(Answer(status, body), (KEY,), 0.0)
    return rows if isinstance(rows, ThorError) else whole(decode_chargebox_rows(rows))


def one(item: object) -> RunningCharge:
    found = reading(running(item))
    assert isinstance(found, list), found
    (charge,) = found
    return charge


def one_box(item: object) -> Chargebox:
    found = looking(json.dumps([item]).encode())
    assert isinstance(found, list), found
    (chargebox,) = found
    return chargebox


# Parsing a list


def test_a_running_charge() -> None:
    assert one(ITEM) == CHARGE


def test_a_chargebox() -> None:
    assert one_box(LISTED) == CHARGEBOX


@pytest.mark.parametrize("name", [name for name in ITEM if name not in (*NEEDED, "connector")])
def test_a_missing_field_of_a_charge_is_none(name: str) -> None:
    expected = msgspec.structs.replace(CHARGE, **{FIELDS.get(name, name): None})
    assert one(ITEM | {name: None}) == expected
    assert one({key: value for key, value in ITEM.items() if key != name}) == expected


@pytest.mark.parametrize("name", [name for name in LISTED if name != "id"])
def test_a_missing_field_of_a_chargebox_is_none(name: str) -> None:
    nothing = {"occupied_connectors": (), "reserved_connectors": ()}
    known = name != "connectors"  # of which nothing is kept
    expected = msgspec.structs.replace(CHARGEBOX, **{name: nothing.get(name)} if known else {})
    assert one_box(LISTED | {name: None}) == expected
    assert one_box({key: value for key, value in LISTED.items() if key != name}) == expected


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"latitude": None, "longitude": None},
        {"latitude": 45.07},
        {"latitude": "north", "longitude": 7.0},
        {"latitude": 10**400, "longitude": 7.0},
        "45.07, 7.0",
        [45.07, 7.0],
    ],
)
def test_odd_coordinates_do_not_cost_the_list(place: object) -> None:
    assert one_box(LISTED | {"coordinates": place}).coordinates is None


def test_coordinates_may_be_strings() -> None:
    place = {"latitude": "45.07", "longitude": "7"}
    assert one_box(LISTED | {"coordinates": place}) == CHARGEBOX


def test_only_the_chargebox_is_required() -> None:
    charge = one({name: ITEM[name] for name in NEEDED})
    assert charge == RunningCharge(chargebox="EaJ7cU9NJ3YkTNgy", connector=0, transaction=None)
    assert one_box({"id": "A"}) == Chargebox(id="A")


@pytest.mark.parametrize("value", [None, 0, "x", [1], {"a": {"b": None}}])
def test_an_undocumented_field_is_ignored(value: object) -> None:
    assert one(ITEM | {"soc": value, "transaction": value}) == CHARGE
    assert one_box(LISTED | {"model": value}) == CHARGEBOX
    assert reading(running(ITEM, users=value, next=value)) == [CHARGE]


FIRST, LAST = 946_684_800_000, 4_102_444_800_000  # 2000-01-01 and 2100-01-01


@pytest.mark.parametrize("milliseconds", [FIRST, 1_700_000_000_000, 1.7e12 + 0.5, LAST])
def test_times_are_aware(milliseconds: float) -> None:
    started = one(ITEM | {"date_started": milliseconds}).date_started
    heartbeat = one_box(LISTED | {"last_heartbeat": milliseconds}).last_heartbeat
    assert started == heartbeat
    assert started is not None
    assert started.utcoffset() == timedelta(0)
    assert started.timestamp() == pytest.approx(milliseconds / 1000, abs=1e-6)


ODD_TIMES: list[Any] = [
    *(0, -1, FIRST - 1, LAST + 1, 1e300, -1e15, 10**400),
    *(1_700_000_000, 1_700_000_000_000_000, 1_700_000_000_000_000_000),  # s, us, ns
    *("2023-11-14T22:13:20Z", "1700000000500", True, [1_700_000_000_500]),
]


@pytest.mark.parametrize("odd", ODD_TIMES)
def test_a_time_that_is_not_in_milliseconds_is_none(odd: Any) -> None:
    assert one(ITEM | {"date_started": odd}) == msgspec.structs.replace(CHARGE, date_started=None)
    expected = msgspec.structs.replace(CHARGEBOX, last_heartbeat=None)
    assert one_box(LISTED | {"last_heartbeat": odd}) == expected


@pytest.mark.parametrize("number", [None, 0, -1, 2**63, 10**400, 1.5, "52", True, [52]])
def test_a_transaction_that_no_stop_could_name_is_none(number: Any) -> None:
    unnumbered = msgspec.structs.replace(CHARGE, transaction=None)
    assert reading(running(ITEM, ITEM | {"id": number}, ITEM)) == [CHARGE, unnumbered, CHARGE]


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("id_tag", 12_847_382),
        ("id_tag", {}),
        ("energy", "12345.5"),
        ("energy", True),
        ("type", 1),
    ],
)
def test_an_odd_field_of_a_charge_costs_only_itself(name: str, odd: Any) -> None:
    expected = msgspec.structs.replace(CHARGE, **{name: None})
    assert reading(running(ITEM, ITEM | {name: odd})) == [CHARGE, expected]


@pytest.mark.parametrize(
    ("name", "odd", "kept"),
    [
        ("alias", 12, None),
        ("active", "yes", None),
        ("connected", "true", None),
        ("occupied_connectors", "1, 2", ()),
        ("occupied_connectors", [1, "2"], ()),
        ("reserved_connectors", 3, ()),
        ("timezone", 1, None),
    ],
)
def test_an_odd_field_of_a_chargebox_costs_only_itself(name: str, odd: Any, kept: Any) -> None:
    expected = msgspec.structs.replace(CHARGEBOX, **{name: kept})
    assert looking(json.dumps([LISTED, LISTED | {name: odd}]).encode()) == [CHARGEBOX, expected]


@pytest.mark.parametrize("number", UNPLACED)
def test_a_charge_without_a_connector_costs_only_its_connector(number: Any) -> None:
    unplaced = msgspec.structs.replace(CHARGE, connector=0)
    assert reading(running(ITEM, ITEM | {"connector": number}, ITEM)) == [CHARGE, unplaced, CHARGE]


@pytest.mark.parametrize("name", [name for name in ITEM if name != "chargebox"])
@pytest.mark.parametrize(
    "odd",
    [
        *(b"null", b"[]", b'{"a": [1]}', b"[[{}]]", b"true", b'""', b"1e308", b"1e999", b"-0.0"),
        *(b"1" * 400, b'"\xe4"', b'{"name": "\xe4"}', b'{"\xe4": 1}'),
    ],
)
def test_no_value_of_a_field_costs_the_rest_of_a_charge_or_of_the_list(
    name: str, odd: bytes
) -> None:
    item = json.dumps(ITEM | {name: "@"}).encode().replace(b'"@"', odd)
    found = reading(b'{"count": 2, "items": [%s, %s]}' % (json.dumps(ITEM).encode(), item))
    assert isinstance(found, list)
    assert found[0] == CHARGE
    own = FIELDS.get(name, name)
    expected = msgspec.structs.asdict(CHARGE) | {own: getattr(found[1], own)}
    assert msgspec.structs.asdict(found[1]) == expected


@pytest.mark.parametrize("name", [name for name in LISTED if name != "id"])
@pytest.mark.parametrize("odd", [b"{}", b"1e999", b"1" * 400, b'"\xe4"', b'{"latitude": "\xe4"}'])
def test_no_value_of_a_field_costs_the_rest_of_a_chargebox(name: str, odd: bytes) -> None:
    item = json.dumps(LISTED | {name: "@"}).encode().replace(b'"@"', odd)
    found = looking(b"[%s, %s]" % (json.dumps(LISTED).encode(), item))
    assert isinstance(found, list)
    assert found[0] == CHARGEBOX
    kept = found[1] if name == "connectors" else msgspec.structs.replace(found[1], **{name: None})
    known = {} if name == "connectors" else {name: None}
    assert kept == msgspec.structs.replace(CHARGEBOX, **known)


def test_several_odd_fields_of_one_row() -> None:
    odd = {"id": 0, "energy": "1", "date_started": "today", "user": [1], "payment": 7}
    assert one(ITEM | odd) == msgspec.structs.replace(
        CHARGE, transaction=None, energy=None, date_started=None, user=[1], payment=7
    )


def test_an_empty_list_is_a_list() -> None:
    assert reading(running()) == []
    assert looking(b"[]") == []


# What is no list


BAD_ITEMS: list[Any] = [
    *({name: value for name, value in ITEM.items() if name != needed} for needed in NEEDED),
    *(ITEM | {name: None} for name in NEEDED),
    {"connector": 1, "id": 7},
    ITEM | {"chargebox": 7},
    ITEM | {"chargebox": 7, "energy": "12"},
    None,
    [],
    "item",
]


@pytest.mark.parametrize("item", BAD_ITEMS)
def test_one_bad_charge_makes_it_no_list(item: object) -> None:
    error = reading(running(ITEM, item))
    assert type(error) is UnexpectedResponse
    assert str(error) == "the list of running charges is not as Thor documents it"
    check_silent(error)


async def test_a_charge_without_a_number_cannot_be_pinned(emulator: ThorEmulator) -> None:
    emulator.start_charge("A", 1, TAG, 0)
    emulator.start_charge("B", 1, TAG, 8)
    async with thor_at(emulator.base_url) as thor:
        with pytest.raises(NotSentError, match="no transaction number") as failed:
            await thor.stop_charge(StopCharge("A", 1, TAG), pin=True)
        assert not emulator.ledger.requests
        outcome = await thor.stop_charge(StopCharge("B", 1, TAG), pin=True)
    assert failed.value.reason == "pin"
    assert outcome.command.transaction == 8


@pytest.mark.parametrize(
    "item", [{}, None, LISTED | {"id": None}, LISTED | {"id": 1}, {"active": "yes"}]
)
def test_one_bad_chargebox_makes_it_no_list(item: object) -> None:
    error = looking(json.dumps([LISTED, item]).encode())
    assert type(error) is UnexpectedResponse
    assert str(error) == "the list of chargeboxes is not as Thor documents it"


@pytest.mark.parametrize("place", [0, 260, 599])
def test_a_bad_row_anywhere_makes_a_long_list_no_list(place: int) -> None:
    """A long list is decoded in chunks, and a part of a list is none."""
    items: list[Any] = [ITEM] * 600
    assert reading(running(*items)) == [CHARGE] * 600
    items[place] = {}
    assert type(reading(running(*items))) is UnexpectedResponse


def test_a_polled_list_is_without_user_and_payment() -> None:
    rows = parse_running_answer(Answer(200, running(ITEM, ITEM | {"id": 0, "user": []})), (), 0.0)
    assert isinstance(rows, list)
    expected = msgspec.structs.replace(CHARGE, user=None, payment=None)
    unnumbered = msgspec.structs.replace(expected, transaction=None)
    assert whole(decode_polled_rows(rows)) == [expected, unnumbered]


def test_the_garbage_collector_does_not_track_rows() -> None:
    """A collection that looks at 100,000 of them would hold the event loop."""
    assert not gc.is_tracked(one(ITEM))
    assert not gc.is_tracked(one_box(LISTED))
    rows = parse_running_answer(Answer(200, running(ITEM)), (), 0.0)
    assert isinstance(rows, list)
    assert not gc.is_tracked(rows[0])


def test_a_long_list_comes_in_chunks() -> None:
    rows = parse_running_answer(Answer(200, running(*[ITEM] * 2000)), (), 0.0)
    assert isinstance(rows, list)
    sizes = [len(chunk) for chunk in decode_running_rows(rows) if isinstance(chunk, list)]
    assert sum(sizes) == 2000
    assert max(sizes) <= 500


@pytest.mark.parametrize("count", [0, 1, 3, -2, 2**70])
def test_a_count_that_differs_is_an_error(count: int) -> None:
    error = reading(running(ITEM, ITEM, count=count))
    assert type(error) is UnexpectedResponse
    assert str(error) == f"a list of {count} running charges with 2 in it"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"message": "OK"}',
        b"<html>sign in</html>",
        b"\xff\xfe",
        b"[" * 100_000,
        running(ITEM)[:-1],
        running(ITEM) + b"}",
        running(ITEM, count=None),
        running(count=0, items=None),
        running().replace(b'"count": 0, ', b""),
    ],
)
def test_garbage_is_no_list(body: bytes) -> None:
    assert type(reading(body)) is UnexpectedResponse
    if body != b"[]":
        assert type(looking(body)) is UnexpectedResponse


ODD: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([[]])
)
NEAR = st.fixed_dictionaries(
    {}, optional={name: st.just(value) | ODD for name, value in (ITEM | LISTED).items()}
)
BODIES = st.one_of(
    st.none(),
    st.binary(),
    st.builds(lambda items, n: running(*items, count=n), st.lists(NEAR), st.integers(0, 3) | ODD),
    st.builds(lambda items: json.dumps(items).encode(), st.lists(NEAR)),
    st.recursive(ODD, lambda part: st.lists(part) | st.dictionaries(st.text(), part)).map(
        lambda value: json.dumps(value).encode()
    ),
)


@example(status=200, body=b'{"count":1,"items":[{"id":1' + b"0" * 5000 + b"}]}")
@example(status=500, body=b"[" * 100_000)
@given(status=st.integers(100, 999), body=BODIES)
def test_any_bytes_with_any_status_are_a_list_or_an_error(status: int, body: bytes | None) -> None:
    for found in (reading(body, status), looking(body, status)):
        if isinstance(found, list):
            assert status == 200
            assert len(repr(found)) < 2**20
            assert pickle.loads(pickle.dumps(found)) == found
        else:
            check_error(found)


def check_error(error: ThorError) -> None:
    """Checks that the error has no command, is one line, and can be pickled."""
    assert error.command is None
    assert str(error) == error.message
    assert error.message
    assert "\n" not in str(error)
    assert len(repr(error)) < 400
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert (str(twin), vars(twin)) == (str(error), vars(error))


# What is not shown, and not kept


def test_a_charge_shows_neither_tag_nor_user_nor_payment() -> None:
    for text in (repr(CHARGE), str(CHARGE), f"{[CHARGE]}", str(CHARGE.__rich_repr__())):
        assert "transaction" in text
        for hidden in (TAG, PERSON, CARD):
            assert hidden not in text


async def test_no_token_of_a_payment_device_is_kept() -> None:
    body = json.dumps([LISTED | {"token": DEVICE, "payment": {"token": DEVICE}}]).encode()
    async with Recorder(answer(200, body)) as origin, thor_at(origin.url) as thor:
        found = await thor.chargeboxes()
    assert found == [CHARGEBOX]
    kept = repr(found) + str(msgspec.to_builtins(found)) + str(pickle.dumps(found))
    assert DEVICE not in kept
    assert "Corso Francia 3" in kept


async def test_the_emulators_token_is_not_kept_either(emulator: ThorEmulator) -> None:
    emulator.start_charge("A", 1)
    async with thor_at(emulator.base_url) as thor:
        found = [*await thor.chargeboxes(), *await thor.running_charges()]
    assert b"secret" not in msgspec.json.encode(found)


# Over the wire


Ask = Callable[[ThorClient], Awaitable[Any]]
ASKS: list[Ask] = [
    lambda thor: thor.running_charges(),
    lambda thor: thor.running_charges("A"),
    lambda thor: thor.chargeboxes(),
]
every_ask = pytest.mark.parametrize("ask", ASKS, ids=["running", "of one", "chargeboxes"])


async def error_of(thor: ThorClient, ask: Ask = ASKS[0]) -> ThorError:
    with pytest.raises(ThorError) as failed:
        await ask(thor)
    check_silent(failed.value)
    check_error(failed.value)
    return failed.value


@pytest.fixture
async def origin() -> AsyncIterator[Recorder]:
    async with Recorder() as origin:
        yield origin


async def test_the_lists_of_the_emulator(emulator: ThorEmulator) -> None:
    emulator.start_charge("A", 2, TAG, 7)
    emulator.start_charge("B", 1, TAG, 8, mode="api")
    emulator.go_offline("B")
    async with thor_at(emulator.base_url) as thor:
        charges = await thor.running_charges()
        assert await thor.running_charges("B") == [charges[1]]
        assert await thor.running_charges("C") == []
        boxes = await thor.chargeboxes()
    rows = [(c.chargebox, c.connector, c.transaction, c.id_tag, c.type) for c in charges]
    assert rows == [("A", 2, 7, TAG, "local"), ("B", 1, 8, None, "api")]
    assert [(b.id, b.alias, b.connected, b.occupied_connectors) for b in boxes] == [
        ("A", "Chargebox A", True, (2,)),
        ("B", "Chargebox B", False, (1,)),
    ]


@every_ask
async def test_a_list_is_asked_for_with_the_key_in_its_header_only(
    ask: Ask, origin: Recorder
) -> None:
    origin.reply = lambda request: answer(200, b"[]" if b"boxes" in request else running())
    async with thor_at(origin.url) as thor:
        assert await ask(thor) == []
    (request,) = origin.requests
    assert request.startswith(b"GET /")
    assert request.endswith(b"\r\n\r\n")
    assert request.count(KEY.encode()) == 1
    assert f"\r\nX-Api-Key: {KEY}\r\n" in origin.one


@pytest.mark.parametrize(
    "name",
    [
        "A",
        "a&b=c",
        "#1",
        "50%",
        "%26",
        "a b",
        "a+b",
        "a/../b",
        "?x",
        "\N{SNOWMAN}\N{GRINNING FACE}",
    ],
)
async def test_an_odd_name_arrives_as_it_is(name: str, emulator: ThorEmulator) -> None:
    charge = emulator.start_charge(name, 1, TAG)
    async with thor_at(emulator.base_url) as thor:
        (found,) = await thor.running_charges(name)
    assert (found.chargebox, found.transaction) == (name, charge.transaction)
    assert [(r.path, r.chargebox) for r in emulator.ledger.reads] == [("charges/running", name)]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\ud800", 7, b"A"])
async def test_a_bad_name_is_refused_before_any_request(name: Any, origin: Recorder) -> None:
    async with thor_at(origin.url) as thor:
        with pytest.raises(ValueError, match="chargebox must"):
            await thor.running_charges(name)
    assert not origin.connections


async def test_read_url_is_where_lists_come_from(origin: Recorder) -> None:
    async with (
        Recorder(answer(200, running())) as lists,
        thor_at(f"{origin.url}/stop", read_url=f"{lists.url}/read/") as thor,
    ):
        await thor.running_charges()
        await thor.stop_charge(StopCharge("A", 1, TAG))
    assert lists.one.startswith("GET /read/charges/running HTTP/1.1")
    assert origin.one.startswith("POST /stop/charges/stop HTTP/1.1")


async def test_a_given_base_url_serves_both(origin: Recorder) -> None:
    origin.reply = lambda _: answer(200, running())
    async with thor_at(f"{origin.url}/both") as thor:
        await thor.running_charges()
    assert origin.one.startswith("GET /both/charges/running HTTP/1.1")


def test_without_any_address_it_is_the_documented_one() -> None:
    config: ClientConfig = ThorClient(KEY)._settings
    assert build_running_request(config.read_url).url == (
        "https://api.thor.tools/latest/integration/charges/running"
    )
    assert build_chargeboxes_request(config.read_url).url == (
        "https://api.thor.tools/latest/integration/chargeboxes"
    )
    assert config.base_url == "https://dev.api.thor.tools/latest/integration"


# Retrying


@every_ask
@pytest.mark.parametrize("status", [500, 502, 503, 599])
async def test_5xx_is_retried(ask: Ask, status: int, rests: Rests, origin: Recorder) -> None:
    origin.reply = lambda _: answer(status)
    async with thor_at(origin.url, retry=rests.policy()) as thor:
        error = await error_of(thor, ask)
    assert type(error) is ServerError
    assert (error.status, error.attempts, len(origin.requests)) == (status, 3, 3)
    assert rests.waits == [0.5, 1.0]


async def test_a_list_after_two_500(rests: Rests, origin: Recorder) -> None:
    replies = iter([answer(500, b'"InternalServerError"'), answer(503), answer(200, running(ITEM))])
    origin.reply = lambda _: next(replies)
    async with thor_at(origin.url, retry=rests.policy()) as thor:
        assert await thor.running_charges() == [CHARGE]


REFUSED = {
    (403, b'{"message": "APIKeyNotFound"}'): APIKeyNotFound,
    (404, b'"ChargeboxNotFound"'): ChargeboxNotFound,
    (400, b""): RejectedError,
    (429, b""): TooManyRequests,
}


@every_ask
@pytest.mark.parametrize(("refusal", "expected"), REFUSED.items())
async def test_4xx_is_not_retried(
    ask: Ask, refusal: Any, expected: type[ThorError], rests: Rests, origin: Recorder
) -> None:
    origin.reply = lambda _: answer(*refusal, "Retry-After: 7")
    async with thor_at(origin.url, retry=rests.policy()) as thor:
        error = await error_of(thor, ask)
    assert type(error) is expected
    assert (error.status, error.attempts, error.retry_after) == (refusal[0], 1, 7.0)
    assert len(origin.requests) == 1


async def test_429_is_retried_on_request(rests: Rests, origin: Recorder) -> None:
    replies = iter([answer(429, b"", "Retry-After: 7"), answer(200, running())])
    origin.reply = lambda _: next(replies)
    async with thor_at(origin.url, retry=rests.policy(retry_throttled=True)) as thor:
        assert await thor.running_charges() == []
    assert rests.waits == [7.0]


async def test_an_internal_error_keeps_its_name(origin: Recorder, rests: Rests) -> None:
    origin.reply = lambda _: answer(500, b'{"message": "InternalServerError"}')
    async with thor_at(origin.url, retry=rests.policy(max_attempts=1)) as thor:
        error = await error_of(thor)
    assert type(error) is InternalServerError
    assert str(error) == "Thor answered 500: InternalServerError"


async def test_a_refused_connection(origin: Recorder, rests: Rests) -> None:
    async with thor_at("http://127.0.0.1:1", retry=rests.policy()) as thor:
        error = await error_of(thor)
    assert type(error) is NotSentError
    assert (error.reason, error.attempts) == ("connect", 1)


async def test_no_answer_in_time() -> None:
    async with (
        FaultServer([read, 60]) as server,
        thor_at(server.url, attempt_timeout=0.05) as thor,
    ):
        error = await error_of(thor)
    assert type(error) is ResponseTimeout


# What is not the answer of a Thor


@every_ask
@pytest.mark.parametrize("status", [204, 206, *REDIRECTS, 304, 999])
async def test_any_other_status_is_no_list(ask: Ask, status: int, origin: Recorder) -> None:
    async with Recorder() as other:
        body = b"" if status in (204, 304) else running(ITEM)
        origin.reply = lambda _: answer(status, body, f"Location: {other.url}")
        async with thor_at(origin.url) as thor:
            assert type(await error_of(thor, ask)) is UnexpectedResponse
        assert other.connections == 0
    assert len(origin.requests) == 1


@every_ask
async def test_a_portals_page_is_no_list(ask: Ask, origin: Recorder) -> None:
    origin.reply = lambda _: answer(200, b"<html>sign in</html>", "Content-Type: text/html")
    async with thor_at(origin.url) as thor:
        assert type(await error_of(thor, ask)) is UnexpectedResponse


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_nothing_is_decompressed(encoding: str, origin: Recorder) -> None:
    body = gzip.compress(running(ITEM))
    origin.reply = lambda _: answer(200, body, f"Content-Encoding: {encoding}")
    async with thor_at(origin.url) as thor:
        assert type(await error_of(thor)) is UnexpectedResponse
    assert "\r\nAccept-Encoding: identity\r\n" in origin.one


@pytest.mark.parametrize("length", ["Content-Length: 500", "Transfer-Encoding: chunked"])
async def test_a_cut_list_is_none(length: str) -> None:
    body = running(ITEM)
    sent = body if "500" in length else b"%x\r\n%s\r\n" % (len(body), body)
    script: Script = [read, f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + sent, close]
    async with FaultServer(script) as server, thor_at(server.url) as thor:
        error = await error_of(thor)
    assert type(error) is UnexpectedResponse
    assert "did not arrive whole" in str(error)


async def test_a_connection_that_drops_before_the_answer() -> None:
    async with FaultServer([read, close]) as server, thor_at(server.url) as thor:
        assert type(await error_of(thor)) is ConnectionLost


async def test_a_list_that_is_seen_to_be_wrong_is_an_error(emulator: ThorEmulator) -> None:
    emulator.start_charge("A", 1)
    async with thor_at(emulator.base_url) as thor:
        for lie in (Lists(cut=1.0), Lists(broken=1.0)):
            emulator.lists = lie
            assert type(await error_of(thor)) is UnexpectedResponse
        emulator.lists = Lists(error=1.0)
        assert isinstance(await error_of(thor), ServerError)


@pytest.mark.parametrize("form", ["text", "message", "nested", "headers", "cut"])
@pytest.mark.parametrize("status", [200, 302, 400, 403, 429, 500])
async def test_an_echo_puts_no_key_into_the_error(status: int, form: str, origin: Recorder) -> None:
    origin.reply = echo_as(status, form)
    async with thor_at(origin.url) as thor:
        await error_of(thor)  # which looks for the key


# Size


def padded(size: int) -> bytes:
    body = running(*({"id": n, "chargebox": "A", "connector": 1} for n in range(1, 1001)))
    return body + b" " * (size - len(body))


async def test_a_list_just_below_the_limit_is_read() -> None:
    body = padded(LIST_LIMIT)
    script: Script = [read, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body]
    async with FaultServer(script) as server, thor_at(server.url) as thor:
        begun = time.perf_counter()
        assert len(await thor.running_charges()) == 1000
        assert time.perf_counter() - begun < 3


async def test_a_list_over_the_limit_is_an_error_not_a_part() -> None:
    body = padded(LIST_LIMIT + 1)
    script: Script = [read, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body]
    async with FaultServer(script) as server, thor_at(server.url) as thor:
        error = await error_of(thor)
    assert type(error) is UnexpectedResponse
    assert "more than 33,554,432 bytes" in str(error)


async def memory_of(script: Script, expected: type[ThorError]) -> int:
    async with FaultServer(script) as server, thor_at(server.url) as thor:
        tracemalloc.start()
        try:
            error = await error_of(thor)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert type(error) is expected
    return most


async def test_a_list_without_an_end_costs_bounded_memory() -> None:
    script: Script = [
        read,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        flood(b" " * 2**20, 200),
    ]
    assert await memory_of(script, UnexpectedResponse) < 1.5 * LIST_LIMIT


@pytest.mark.parametrize("status", [302, 403, 500])
async def test_an_error_body_is_read_to_the_limit_of_a_stop(status: int) -> None:
    expected = {302: UnexpectedResponse, 403: AccountError, 500: ServerError}[status]
    script: Script = [read, b"HTTP/1.1 %d X\r\n\r\n" % status, flood(b" " * ANSWER_LIMIT, 200)]
    assert await memory_of(script, expected) < 2_000_000


# When a list can be read


@every_ask
async def test_a_client_that_is_not_open(ask: Ask) -> None:
    thor = thor_at("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="not open: use `async with"):
        await ask(thor)
    async with thor:
        pass
    with pytest.raises(RuntimeError, match="closed: build a new one"):
        await ask(thor)


async def test_a_key_that_is_bad_when_it_is_used(origin: Recorder) -> None:
    async with thor_at(origin.url, api_key=lambda: f"{KEY}\n") as thor:
        with pytest.raises(ValueError, match="printable ASCII") as failed:
            await thor.running_charges()
    assert KEY not in shown(failed.value)
    assert not origin.connections
