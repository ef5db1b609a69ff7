"""Dead letters are read from a real stream, and come back as commands that stop no later charge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

from tests.conftest import TAG
from tests.worker.conftest import Place
from thor_async import StopCharge
from thor_async._models import MaskedBytes
from thor_async.worker.dead_letters import (
    DeadLetter,
    find_created,
    get_dead_letter,
    iterate_dead_letters,
    make_repeat,
)
from thor_async.worker.streams import Subjects

BARE = StopCharge("A", 1, TAG, ref="r7")
PINNED = StopCharge("A", 1, TAG, 52)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def letter(body: StopCharge | bytes = BARE, **headers: str) -> DeadLetter:
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return DeadLetter(7, NOW, MaskedBytes(encoded), names)


def subjects(place: Place) -> Subjects:
    names = place.names
    return Subjects(names["stream"], names["subject"], names["dead_letter"], names["outcomes"])


async def make_stream(place: Place, retention: RetentionPolicy = RetentionPolicy.LIMITS) -> None:
    held = [f"t{place.number}.>"]
    await place.jetstream.add_stream(StreamConfig(place.names["stream"], None, held, retention))


async def bury(place: Place, body: StopCharge | bytes = BARE, **headers: str) -> int:
    found = letter(body, **headers)
    subject = place.names["dead_letter"]
    stored = await place.jetstream.publish(
        subject, bytes(found.body), headers=found.headers or None
    )
    return stored.seq


@pytest.mark.broker
@pytest.mark.parametrize("retention", [RetentionPolicy.LIMITS, RetentionPolicy.WORK_QUEUE])
async def test_all_dead_letters_of_a_stream(place: Place, retention: RetentionPolicy) -> None:
    await make_stream(place, retention)
    assert [found async for found in iterate_dead_letters(place.jetstream, subjects(place))] == []
    await place.send(BARE)
    first = await bury(place, Thor_Reason="why", Thor_Maybe_Applied="false", Thor_Sequence="1")
    await place.send(BARE)
    second = await bury(place, b"\xff")
    found = [found async for found in iterate_dead_letters(place.jetstream, subjects(place))]
    assert [f.sequence for f in found] == [first, second] == [2, 4]
    assert [f.reason for f in found] == ["why", ""]
    assert [f.maybe_applied for f in found] == [False, True]
    assert [f.message_sequence for f in found] == [1, None]
    assert found[0].command == BARE
    assert found[1].body == b"\xff"
    assert await get_dead_letter(place.jetstream, subjects(place), first) == found[0]
    for other in (1, 3, 99):  # a command, and a number without a message
        assert await get_dead_letter(place.jetstream, subjects(place), other) is None


@pytest.mark.broker
async def test_a_missing_stream_is_no_empty_list(place: Place) -> None:
    with pytest.raises(NotFoundError):
        await get_dead_letter(place.jetstream, subjects(place), 1)
    with pytest.raises(NotFoundError):
        await anext(iterate_dead_letters(place.jetstream, subjects(place)))


@pytest.mark.broker
async def test_the_time_of_the_command(place: Place) -> None:
    await make_stream(place)
    await place.send(BARE, PINNED)
    raw = await place.jetstream.get_msg(place.names["stream"], 1)
    written = {"Thor-Created": "2026-01-01T11:00:00Z", "Thor-Sequence": "1"}
    for headers, expected in [
        (written, NOW - HOUR),
        ({"Thor-Sequence": "1"}, raw.time),
        ({"Thor-Sequence": "2"}, None),  # the message is another one
        ({"Thor-Sequence": "99"}, None),
        ({"Thor-Sequence": "x"}, None),
        ({"Thor-Created": "yesterday"}, None),
        ({"Thor-Created": "2026-01-01T11:00:00"}, None),
        ({}, None),
    ]:
        sequence = await bury(place, BARE, **{k.replace("-", "_"): v for k, v in headers.items()})
        found = await get_dead_letter(place.jetstream, subjects(place), sequence)
        assert found is not None
        assert await find_created(place.jetstream, subjects(place), found) == expected
    # A stream created anew counts from 1 again: a later message is not the one that was buried.
    await place.send(BARE)
    later = int((await place.jetstream.stream_info(place.names["stream"])).state.last_seq)
    early = msgspec.structs.replace(letter(BARE, Thor_Sequence=str(later)), sequence=1)
    assert await find_created(place.jetstream, subjects(place), early) is None


@pytest.mark.parametrize(
    ("command", "created", "as_of"),
    [
        (BARE, NOW - HOUR, NOW - HOUR),
        (msgspec.structs.replace(BARE, as_of=NOW), NOW - HOUR, NOW),
        (msgspec.structs.replace(BARE, as_of=NOW), None, NOW),
        (PINNED, NOW - HOUR, NOW - HOUR),
        (PINNED, None, None),
        (msgspec.structs.replace(BARE, not_after=NOW + HOUR), NOW - HOUR, NOW - HOUR),
    ],
)
def test_a_repeat_has_an_as_of(
    command: StopCharge, created: datetime | None, as_of: datetime | None
) -> None:
    repeat = make_repeat(letter(command), created, NOW)
    assert repeat.command == msgspec.structs.replace(command, as_of=as_of)
    assert msgspec.json.decode(repeat.body, type=StopCharge) == repeat.command


def test_a_repeat_keeps_the_fields_that_only_a_tolerant_worker_takes() -> None:
    fields = msgspec.json.decode(msgspec.json.encode(BARE)) | {"site": "Harbour"}
    repeat = make_repeat(letter(msgspec.json.encode(fields)), NOW, NOW)
    assert repeat.command == msgspec.structs.replace(BARE, as_of=NOW)
    assert msgspec.json.decode(repeat.body)["site"] == "Harbour"
    newer = letter(msgspec.json.encode(fields), Thor_Schema="2")
    with pytest.raises(ValueError, match="Thor-Schema is 2"):
        make_repeat(newer, NOW, NOW)


@pytest.mark.parametrize(
    ("body", "created", "cause"),
    [
        (BARE, None, "no transaction, and the time of its message is not known"),
        (msgspec.structs.replace(PINNED, not_after=NOW - HOUR), NOW, "its not_after has passed"),
        (b"{}", NOW, "not a StopCharge: "),
    ],
)
def test_what_is_not_sent_again(
    body: StopCharge | bytes, created: datetime | None, cause: str
) -> None:
    with pytest.raises(ValueError, match=cause):
        make_repeat(letter(body), created, NOW)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            msgspec.json.encode({"chargebox": "A", "connector": 0, "id_tag": TAG, "ref": {"a": 1}}),
            {"chargebox": "A", "connector": 0, "id_tag": "***", "ref": {"a": 1}},
        ),
        (
            msgspec.json.encode({"idTag": TAG, "chargebox": [TAG], "transaction": TAG}),
            {"idTag": "***", "chargebox": "***", "transaction": "***"},
        ),
        (TAG.encode(), f"{len(TAG)} bytes, not JSON: not shown, because of a possible id_tag"),
        (f'["{TAG}"]'.encode(), f"JSON that is no object: {len(TAG) + 4} bytes, not shown"),
        (b"[" * 100_000, "100,000 bytes, not JSON: not shown, because of a possible id_tag"),
        (b"\xff", "1 bytes, not JSON: not shown, because of a possible id_tag"),
    ],
)
def test_a_body_is_shown_without_its_id_tag(body: bytes, shown: Any) -> None:
    found = letter(body)
    assert found.show_body() == shown
    assert TAG not in repr(found)
