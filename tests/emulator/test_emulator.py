"""The API of the emulator, against a plain HTTP client."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.emulator.harness import Client, error_body, logged
from thor_async.emulator import ThorEmulator


async def test_a_stop_ends_its_charge_and_only_that(thor: ThorEmulator, client: Client) -> None:
    charge = thor.start_charge("A", 1, "T", 52)
    other = thor.start_charge("A", 2, "T")
    assert await client.stop(transaction=52) == (200, {})
    assert thor.charges == {("A", 2): other}
    assert logged(thor) == [(200, None, charge.transaction)]
    assert await client.stop(transaction=52) == (400, error_body("NotInTransaction"))


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"chargebox": "B"}, 404, "ChargeboxNotFound"),
        ({"chargebox": "B", "connector": 0}, 404, "ChargeboxNotFound"),
        ({"connector": 0}, 400, "ConnectorNotValid"),
        ({"connector": -1}, 400, "ConnectorNotValid"),
        ({"connector": 2}, 400, "NotInTransaction"),
        ({"id_tag": "X"}, 400, "WrongTransaction"),
        ({"transaction": 53}, 400, "WrongTransaction"),
        ({"transaction": 0}, 400, "WrongTransaction"),
        ({"connector": "1"}, 400, "BadRequest"),
        ({"id_tag": None}, 400, "BadRequest"),
    ],
)
async def test_a_stop_that_thor_refuses(
    thor: ThorEmulator, client: Client, changes: dict[str, Any], status: int, code: str
) -> None:
    thor.start_charge("A", 1, "T", 52)
    assert await client.stop(**changes) == (status, error_body(code))
    assert len(thor.charges) == 1
    assert logged(thor) == [(status, code, None)]


async def test_additional_properties_are_allowed(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    assert await client.stop(more=[1], transaction=None) == (200, {})


async def test_account_errors_come_in_their_order(thor: ThorEmulator, client: Client) -> None:
    thor.api_key, thor.enabled, thor.source_ip = "renewed", False, "192.0.2.1"
    assert await client.stop() == (403, error_body("APIKeyNotFound"))
    client.headers = {"X-Api-Key": "renewed"}
    assert await client.stop() == (403, error_body("RestAPINotEnabled"))
    thor.enabled = True
    assert await client.stop() == (403, error_body("InvalidSourceIPAddr"))
    thor.source_ip = "127.0.0.1"
    assert await client.stop() == (404, error_body("ChargeboxNotFound"))
    assert [r.authorized for r in thor.ledger.requests] == [False, False, False, True]


async def test_no_key_at_all(client: Client) -> None:
    client.headers = {}
    assert await client.stop() == (403, error_body("APIKeyNotFound"))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"deep":' + b"[" * 5000, b'{"chargebox":"A"}']
)
async def test_a_malformed_body(thor: ThorEmulator, client: Client, body: bytes) -> None:
    answer = await client.ask("POST", "charges/stop", data=body)
    assert answer == (400, error_body("BadRequest"))
    assert thor.ledger.requests[0].command is None


async def test_a_start_over_http(thor: ThorEmulator, client: Client) -> None:
    async def start(**body: Any) -> tuple[int, Any]:
        return await client.ask("POST", "charges/start", json=body)

    assert await start(chargebox="A", connector=1) == (404, error_body("ChargeboxNotFound"))
    thor.add_chargebox("A")
    assert await start(chargebox="A", connector=0) == (400, error_body("ConnectorNotValid"))
    assert await start(chargebox="A") == (400, error_body("BadRequest"))
    status, body = await start(chargebox="A", connector=1)
    assert (status, body) == (200, {"id_tag": thor.charges["A", 1].id_tag})
    assert await start(chargebox="A", connector=1) == (400, error_body("AlreadyInTransaction"))
    _, running = await client.ask("GET", "charges/running")
    assert running["items"][0]["id_tag"] is None
    assert await client.stop(**body) == (200, {})


async def test_the_chargeboxes(thor: ThorEmulator, client: Client) -> None:
    thor.add_chargebox("B")
    thor.start_charge("A", 2)
    thor.start_charge("A", 1)
    thor.add_chargebox("A")
    del thor.charges["A", 2]
    status, boxes = await client.ask("GET", "chargeboxes?onlyactive=true")
    assert status == 200
    assert [(b["id"], b["occupied_connectors"], len(b["connectors"])) for b in boxes] == [
        ("B", [], 0),
        ("A", [1], 2),
    ]
    _, one = await client.ask("GET", "chargeboxes/A")
    assert one.keys() == boxes[1].keys()
    assert await client.ask("GET", "chargeboxes/C") == (404, error_body("ChargeboxNotFound"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "charges/running"),
        ("GET", "chargeboxes"),
        ("GET", "chargeboxes/A"),
        ("POST", "charges/start"),
    ],
)
async def test_every_request_needs_the_key(client: Client, method: str, path: str) -> None:
    client.headers = {"X-Api-Key": "wrong"}
    assert await client.ask(method, path) == (403, error_body("APIKeyNotFound"))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"api_key": ""}, "''"),
        ({"api_key": "a b"}, "a b"),
        ({"api_key": "a\r\nb"}, "api_key"),
        ({"port": -1}, "-1"),
        ({"port": 65536}, "65536"),
        ({"port": 80, "sock": socket.socket}, "sock"),
        ({"source_ip": "localhost"}, "localhost"),
    ],
)
def test_bad_settings(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ThorEmulator(**settings)
