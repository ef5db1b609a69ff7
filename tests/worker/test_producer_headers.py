"""The producer's own headers go on, and no other ones."""

from __future__ import annotations

import pytest

from thor_async.worker.producer_headers import escape_header, find_producer_headers

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_producers_own_headers_go_on() -> None:
    own = {"traceparent": TRACE, "Site": "Harbour", "Thor-Sent-By": "ann@desk"}
    assert find_producer_headers(own) == own
    assert find_producer_headers(None) == {}


@pytest.mark.parametrize(
    "name",
    [
        "Nats-Msg-Id",
        "nats-expected-stream",
        "Status",
        "status",
        "Description",
        "Thor-Reason",
        "thor-maybe-applied",
        "Thor-Sequence",
        "",
        "na me",
        "näme",
        "na:me",
        "na\x00me",
    ],
)
def test_no_other_header_goes_on(name: str) -> None:
    assert find_producer_headers({name: "x", "Site": "Harbour"}) == {"Site": "Harbour"}


def test_a_value_is_ascii() -> None:
    assert find_producer_headers({"Site": "Größe\r\n\u2028\x7f"}) == {
        "Site": r"Gr\xf6\xdfe\r\n\u2028\x7f"
    }
    assert escape_header("a\tb😀") == r"a\tb\U0001f600"


def test_they_leave_room_for_the_workers_own() -> None:
    many = {f"X-{n}": "v" * 100 for n in range(1000)}
    kept = find_producer_headers(many)
    assert 10 < len(kept) < 20
    assert sum(len(name) + len(value) + 4 for name, value in kept.items()) <= 2048
