"""Scripted answers, and the codes of Thor."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from tests.emulator.harness import GONE, STOP, Client, error_body, logged, under_virtual_time
from thor_async.emulator import Faults, ScriptedAnswer, ThorEmulator


async def test_a_script_is_answered_in_order_and_then_ends(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T")
    thor.script(500, "WrongTransaction", ScriptedAnswer(418, b'"tea"'))
    thor.script(503)
    assert [await client.stop() for _ in range(5)] == [
        (500, None),
        (400, error_body("WrongTransaction")),
        (418, "tea"),
        (503, None),
        (200, {}),
    ]
    assert [r.code for r in thor.ledger.requests] == [None, "WrongTransaction", None, None, None]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ConnectorNotValid", 400),
        ("NotInTransaction", 400),
        ("WrongTransaction", 400),
        ("APIKeyNotFound", 403),
        ("RestAPINotEnabled", 403),
        ("InvalidSourceIPAddr", 403),
        ("ChargeboxNotFound", 404),
        ("TooManyRequests", 429),
        ("InternalServerError", 500),
    ],
)
async def test_a_code_has_its_documented_status(
    thor: ThorEmulator, client: Client, code: str, status: int
) -> None:
    thor.script(code)
    assert await client.stop() == (status, error_body(code))


async def test_a_script_of_one_chargebox_waits_for_it_and_comes_first(
    thor: ThorEmulator, client: Client
) -> None:
    thor.script(501, chargebox="B")
    thor.script(502)
    assert await client.stop(chargebox="A") == (502, None)
    assert await client.stop(chargebox="A") == (404, error_body("ChargeboxNotFound"))
    thor.script(503)
    assert await client.stop(chargebox="B") == (501, None)
    assert await client.stop(chargebox="B") == (503, None)


async def test_a_script_goes_before_key_and_faults(thor: ThorEmulator, client: Client) -> None:
    thor.faults, client.headers = Faults(drop_before=1.0), {}
    thor.script(500)
    assert await client.stop() == (500, None)
    with pytest.raises(GONE):
        await client.stop()


async def test_always_holds_until_it_is_ended(thor: ThorEmulator, client: Client) -> None:
    thor.always("InternalServerError")
    thor.always(503, chargebox="B")
    thor.script(502)
    assert [(await client.stop())[0] for _ in range(3)] == [502, 500, 500]
    assert (await client.stop(chargebox="B"))[0] == 503
    thor.always(None, chargebox="B")
    assert (await client.stop(chargebox="B"))[0] == 500
    thor.always(None)
    thor.always(None)
    assert (await client.stop())[0] == 404


async def test_a_scripted_answer_with_headers_and_effect(
    thor: ThorEmulator, client: Client
) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.script(
        ScriptedAnswer(503, b"<p>", {"Content-Type": "text/html", "Retry-After": "7"}, effect=True)
    )
    url = f"{thor.base_url}/charges/stop"
    async with client.session.post(url, json=STOP, headers=client.headers) as response:
        assert (response.status, response.content_type) == (503, "text/html")
        assert response.headers["Retry-After"] == "7"
        assert await response.read() == b"<p>"
    assert not thor.charges
    assert thor.ledger.effects == thor.ledger.requests
    assert thor.ledger.effects[0].effect == charge.transaction


@pytest.mark.parametrize("changes", [{"id_tag": "X"}, {"connector": 2}, {"connector": "1"}])
async def test_a_scripted_effect_needs_a_stop_that_has_one(
    thor: ThorEmulator, client: Client, changes: dict[str, Any]
) -> None:
    thor.start_charge("A", 1, "T")
    thor.script(ScriptedAnswer(200, effect=True))
    assert await client.stop(**changes) == (200, None)
    assert len(thor.charges) == 1
    assert logged(thor) == [(200, None, None)]


async def test_a_stop_without_the_key_has_no_scripted_effect(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T")
    thor.script(ScriptedAnswer(500, effect=True))
    client.headers = {}
    assert (await client.stop(), len(thor.charges)) == ((500, None), 1)


@pytest.mark.parametrize("effect", [True, False])
async def test_a_scripted_drop(thor: ThorEmulator, client: Client, effect: bool) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.script(ScriptedAnswer(drop=True, effect=effect))
    with pytest.raises(GONE):
        await client.stop()
    assert logged(thor) == [(None, None, charge.transaction if effect else None)]
    assert bool(thor.charges) is not effect


@under_virtual_time
async def test_a_scripted_delay(thor: ThorEmulator, client: Client) -> None:
    thor.script(ScriptedAnswer(500, delay=3600))
    started = asyncio.get_running_loop().time()
    assert await client.stop() == (500, None)
    assert 3600 <= asyncio.get_running_loop().time() - started < 3601


@pytest.mark.parametrize("given", [99, 1000, "NotACode"])
def test_bad_answers(given: int | str) -> None:
    with pytest.raises(ValueError, match=str(given)):
        ThorEmulator().script(200, given)
    with pytest.raises(ValueError, match=str(given)):
        ThorEmulator().always(given)


@pytest.mark.parametrize("delay", [-1.0, math.nan, math.inf])
def test_bad_delays(delay: float) -> None:
    with pytest.raises(ValueError, match="delay"):
        ScriptedAnswer(delay=delay)
