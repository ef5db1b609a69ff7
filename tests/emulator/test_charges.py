"""Request bodies, and the charges that they match."""

from __future__ import annotations

import pytest

from thor_async.emulator import Charge, StopBody
from thor_async.emulator.charges import decode, matches

CHARGE = Charge("A", 1, "T", 7, "local", 0)


@pytest.mark.parametrize(
    ("id_tag", "transaction", "expected"),
    [("T", None, True), ("T", 7, True), ("T", 8, False), ("X", None, False), ("X", 7, False)],
)
def test_a_stop_matches_by_tag_and_transaction(
    id_tag: str, transaction: int | None, expected: bool
) -> None:
    assert matches(StopBody("A", 1, id_tag, transaction), CHARGE) is expected


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"chargebox": "A"}', b"[" * 100_000])
def test_a_malformed_body_is_none(body: bytes) -> None:
    assert decode(body, StopBody) is None


@pytest.mark.parametrize(("mode", "listed"), [("local", "T"), ("remote", None), ("api", None)])
def test_only_a_local_charge_lists_its_tag(mode: str, listed: str | None) -> None:
    assert Charge("A", 1, "T", 7, mode, 0).item()["id_tag"] == listed
