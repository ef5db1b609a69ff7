"""The headers of outcomes and dead letters."""

from __future__ import annotations

import msgspec
import pytest

from tests.worker.test_deliveries import SETUP, message
from tests.worker.test_settlement import PINNED, outcome
from thor_async import ChargeboxNotFound, StopCharge
from thor_async.worker import Settlement, publisher
from thor_async.worker.deliveries import Delivery
from thor_async.worker.result_headers import (
    find_log_fields,
    make_dead_letter_headers,
    make_outcome_headers,
)

DEAD = Settlement("dead_letter", reason="no such größe")


def delivery(
    body: StopCharge | bytes = PINNED, count: int = 1, headers: dict[str, str] | None = None
) -> Delivery:
    made = message(count=count)
    made.data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    made.headers = headers
    return Delivery(made, SETUP)


def test_all_headers_of_a_dead_letter() -> None:
    command = msgspec.structs.replace(PINNED, ref={"row": 7})
    refused = outcome(ChargeboxNotFound("no", code="ChargeboxNotFound"), command)
    found = make_dead_letter_headers(delivery(command, headers={"Site": "Harbour"}), DEAD, refused)
    assert found == {
        "Site": "Harbour",
        "Thor-Reason": r"no such gr\xf6\xdfe",
        "Thor-Maybe-Applied": "false",
        "Thor-Deliveries": "1",
        "Thor-Sequence": "7",
        "Thor-Created": "2026-01-01T12:00:00+00:00",
        "Thor-Code": "ChargeboxNotFound",
        "Thor-Verdict": "rejected",
        "Thor-Ref": '{"row":7}',
    }


@pytest.mark.parametrize(
    ("body", "ref"),
    [
        (b'{"ref":"r7","connector":"x"}', "r7"),
        (b'{"ref":"gr\xc3\xb6\xc3\x9fe"}', r"gr\xf6\xdfe"),
        (b"{}", None),
        (b"\xff", None),
        (b"", None),
        (b"[" * 10_000, None),
        (b'{"ref":"' + b"r" * 10_000 + b'"}', "r" * 512),
    ],
)
def test_a_body_that_is_no_command(body: bytes, ref: str | None) -> None:
    found = make_dead_letter_headers(delivery(body, count=2), DEAD, None)
    assert found.get("Thor-Ref") == ref
    assert found["Thor-Maybe-Applied"] == "true"
    assert found.keys().isdisjoint({"Thor-Code", "Thor-Verdict"})


def test_no_header_of_the_producer_replaces_an_own_one() -> None:
    lied = delivery(headers={"Thor-Reason": "x", "Status": "503", "Nats-Msg-Id": "x", "Site": "A"})
    found = make_dead_letter_headers(lied, DEAD, None)
    assert found["Thor-Reason"].startswith("no such")
    assert found.keys().isdisjoint({"Status", "Nats-Msg-Id"})
    assert make_outcome_headers(lied) == {"Site": "A"}


def test_the_fields_of_a_log_line() -> None:
    refused = outcome(ChargeboxNotFound("no"), PINNED)
    headers = make_dead_letter_headers(delivery(), DEAD, refused)
    fields = find_log_fields(delivery(), headers)
    assert fields["chargebox"] == PINNED.chargebox
    assert (fields["sequence"], fields["verdict"]) == (7, "rejected")
    assert PINNED.id_tag not in str(fields)
    assert find_log_fields(delivery(b'{"chargebox":[1]}'), headers)["chargebox"] is None


def test_they_fit_in_the_room_that_is_left_for_them() -> None:
    long = {f"X-{n}": "\U0001f600" * 10 for n in range(100)}
    body = msgspec.json.encode({"ref": "\U0001f600" * 1000})
    dead = Settlement("dead_letter", reason="\U0001f600" * 1000)
    refused = outcome(ChargeboxNotFound("no", code="ChargeboxNotFound"), PINNED)
    found = make_dead_letter_headers(delivery(body, headers=long), dead, refused)
    size = sum(len(f"{name}: {value}\r\n") for name, value in found.items())
    id_and_stream = 300
    assert size + id_and_stream < publisher._MAX_HEADER_BYTES
