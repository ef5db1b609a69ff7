"""The emulator against a plain HTTP client: its answers, its faults, and the truth it keeps."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import async_solipsism
import msgspec
import pytest

from thor_async.emulator import (
    Faults,
    Ledger,
    LoggedRequest,
    ScriptedAnswer,
    StopBody,
    ThorEmulator,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

GONE = aiohttp.ClientConnectionError
STOP = {"chargebox": "A", "connector": 1, "id_tag": "T"}


class Client:
    """A session that asks one emulator and returns `(status, body)`."""

    def __init__(self, thor: ThorEmulator, session: aiohttp.ClientSession) -> None:
        self.thor, self.session, self.headers = thor, session, {"X-Api-Key": "emulator-key"}

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        url = f"{self.thor.base_url}/{path}"
        options.setdefault("headers", self.headers)
        async with self.session.request(method, url, **options) as response:
            body = await response.read()
        return response.status, msgspec.json.decode(body) if body else None

    async def stop(self, **changes: Any) -> tuple[int, Any]:
        return await self.ask("POST", "charges/stop", json=STOP | changes)

    async def abandoned_stop(self, when: Callable[[], object]) -> None:
        """Send a stop and leave as soon as `when` is true."""
        task = asyncio.create_task(self.stop())
        await until(when)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def thor(caplog: pytest.LogCaptureFixture) -> AsyncIterator[ThorEmulator]:
    async with ThorEmulator() as thor:
        yield thor
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not caplog.get_records("call")


@pytest.fixture
async def client(thor: ThorEmulator) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(thor, session)


def under_virtual_time(
    scenario: Callable[[ThorEmulator, Client], Awaitable[None]],
) -> Callable[[pytest.MonkeyPatch], None]:
    """Make of `scenario` a test in memory, with a clock that jumps: delays cost nothing."""

    async def run() -> None:
        sock = async_solipsism.ListenSocket(("127.0.0.1", 80))
        timeout = aiohttp.ClientTimeout(total=None)
        async with ThorEmulator(sock=sock) as thor, aiohttp.ClientSession(timeout=timeout) as http:
            await scenario(thor, Client(thor, http))

    def test(monkeypatch: pytest.MonkeyPatch) -> None:
        connect = async_solipsism.aiohappyeyeballs_start_connection
        monkeypatch.setattr("aiohappyeyeballs.start_connection", connect)
        with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
            runner.run(run())

    return test


def refused(code: str) -> dict[str, str]:
    return {"message": code}


def truth(thor: ThorEmulator) -> list[tuple[int | None, str | None, int | None]]:
    return [(r.status, r.code, r.effect) for r in thor.ledger.requests]


async def test_a_stop_ends_its_charge_and_only_that(thor: ThorEmulator, client: Client) -> None:
    charge = thor.start_charge("A", 1, "T", 52)
    other = thor.start_charge("A", 2, "T")
    assert await client.stop(transaction=52) == (200, {})
    assert thor.charges == {("A", 2): other}
    assert truth(thor) == [(200, None, charge.transaction)]
    assert await client.stop(transaction=52) == (400, refused("NotInTransaction"))


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
    assert await client.stop(**changes) == (status, refused(code))
    assert len(thor.charges) == 1
    assert truth(thor) == [(status, code, None)]


async def test_additional_properties_are_allowed(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    assert await client.stop(more=[1], transaction=None) == (200, {})


async def test_account_errors_come_in_their_order(thor: ThorEmulator, client: Client) -> None:
    thor.api_key, thor.enabled, thor.source_ip = "renewed", False, "192.0.2.1"
    assert await client.stop() == (403, refused("APIKeyNotFound"))
    client.headers = {"X-Api-Key": "renewed"}
    assert await client.stop() == (403, refused("RestAPINotEnabled"))
    thor.enabled = True
    assert await client.stop() == (403, refused("InvalidSourceIPAddr"))
    thor.source_ip = "127.0.0.1"
    assert await client.stop() == (404, refused("ChargeboxNotFound"))
    assert [r.authorized for r in thor.ledger.requests] == [False, False, False, True]


async def test_no_key_at_all(client: Client) -> None:
    client.headers = {}
    assert await client.stop() == (403, refused("APIKeyNotFound"))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"deep":' + b"[" * 5000, b'{"chargebox":"A"}']
)
async def test_a_malformed_body(thor: ThorEmulator, client: Client, body: bytes) -> None:
    answer = await client.ask("POST", "charges/stop", data=body)
    assert answer == (400, refused("BadRequest"))
    assert thor.ledger.requests[0].command is None


async def test_a_script_is_answered_in_order_and_then_ends(
    thor: ThorEmulator, client: Client
) -> None:
    thor.start_charge("A", 1, "T")
    thor.script(500, "WrongTransaction", ScriptedAnswer(418, b'"tea"'))
    thor.script(503)
    assert [await client.stop() for _ in range(5)] == [
        (500, None),
        (400, refused("WrongTransaction")),
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
    assert await client.stop() == (status, refused(code))


async def test_a_script_of_one_chargebox_waits_for_it_and_comes_first(
    thor: ThorEmulator, client: Client
) -> None:
    thor.script(501, chargebox="B")
    thor.script(502)
    assert await client.stop(chargebox="A") == (502, None)
    assert await client.stop(chargebox="A") == (404, refused("ChargeboxNotFound"))
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
    assert truth(thor) == [(200, None, None)]


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
    assert truth(thor) == [(None, None, charge.transaction if effect else None)]
    assert bool(thor.charges) is not effect


async def test_errors_before_the_effect(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    thor.faults = Faults(error_before=1.0)
    client.headers = {}
    answers = [await client.stop() for _ in range(40)]
    assert {status for status, _ in answers} == {500, 502, 503}
    assert all((body == refused("InternalServerError")) == (s == 500) for s, body in answers)
    assert thor.charges
    assert not thor.ledger.effects


async def test_errors_after_the_effect(thor: ThorEmulator, client: Client) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.faults = Faults(error_after=1.0)
    assert await client.stop() == (500, refused("InternalServerError"))
    assert await client.stop() == (400, refused("NotInTransaction"))
    assert truth(thor)[0] == (500, "InternalServerError", charge.transaction)


async def test_drops_before_the_effect(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    thor.faults = Faults(drop_before=1.0)
    with pytest.raises(GONE):
        await client.stop()
    assert thor.charges
    assert truth(thor) == [(None, None, None)]


async def test_drops_after_the_effect(thor: ThorEmulator, client: Client) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.faults = Faults(drop_after=1.0)
    with pytest.raises(GONE):
        await client.stop()
    assert await client.stop() == (400, refused("NotInTransaction"))
    assert truth(thor)[0] == (None, None, charge.transaction)


async def test_throttling(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    thor.faults = Faults(throttle=1.0)
    async with client.session.post(f"{thor.base_url}/charges/stop", json=STOP) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert thor.charges


@under_virtual_time
async def test_latency_delays_every_request(thor: ThorEmulator, client: Client) -> None:
    thor.faults = Faults(latency=(3600.0, 7200.0))
    now = asyncio.get_running_loop().time
    for path in ("charges/stop", "charges/start"):
        begun = now()
        await client.ask("POST", path, json=STOP)
        assert 3600 <= now() - begun < 7201


@under_virtual_time
async def test_a_scripted_delay(thor: ThorEmulator, client: Client) -> None:
    thor.script(ScriptedAnswer(500, delay=3600))
    begun = asyncio.get_running_loop().time()
    assert await client.stop() == (500, None)
    assert 3600 <= asyncio.get_running_loop().time() - begun < 3601


async def outcomes_of(seed: int) -> list[int | None]:
    """The statuses of 60 stops that meet every kind of fault, alive or dropped."""
    async with ThorEmulator(seed=seed, faults=Faults(0.2, 0.2, 0.2, 0.2, 0.1)) as thor:
        for _ in range(60):
            thor.charges.pop(("A", 1), None)
            thor.start_charge("A", 1, "T")
            async with aiohttp.ClientSession() as session:
                await asyncio.gather(Client(thor, session).stop(), return_exceptions=True)
        return [r.status for r in thor.ledger.requests]


async def test_a_seed_repeats_itself_and_another_differs() -> None:
    first = await outcomes_of(1)
    assert {None, 200, 500, 503} <= set(first)
    assert await outcomes_of(1) == first
    assert await outcomes_of(2) != first


async def test_spread_divides_evenly() -> None:
    assert Faults.spread(0.2) == Faults(0.05, 0.05, 0.05, 0.05)
    assert Faults.spread(1) == Faults(0.25, 0.25, 0.25, 0.25)


@under_virtual_time
async def test_an_entry_holds_the_command_and_the_time(thor: ThorEmulator, client: Client) -> None:
    begun = asyncio.get_running_loop().time()
    thor.faults = Faults(latency=(60.0, 60.0))
    await client.stop(transaction=7)
    await client.stop()
    first, second = thor.ledger.requests
    assert first.command == StopBody("A", 1, "T", 7)
    assert second.command == StopBody("A", 1, "T", None)
    assert [round(r.at - begun) for r in (first, second)] == [0, 60]


@under_virtual_time
async def test_a_client_that_leaves_during_the_delay(thor: ThorEmulator, client: Client) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.script(ScriptedAnswer(200, effect=True, delay=60))
    await client.abandoned_stop(lambda: thor.ledger.effects)
    await asyncio.sleep(61)
    assert truth(thor) == [(None, None, charge.transaction)]


@under_virtual_time
async def test_a_client_that_leaves_does_not_stop_the_work(
    thor: ThorEmulator, client: Client
) -> None:
    charge = thor.start_charge("A", 1, "T")
    thor.faults = Faults(latency=(60.0, 60.0))
    await client.abandoned_stop(lambda: thor.ledger.requests)
    assert truth(thor) == [(None, None, None)]
    await asyncio.sleep(61)
    assert not thor.charges
    assert truth(thor) == [(None, None, charge.transaction)]


async def test_a_request_that_is_cut_short_is_not_entered(thor: ThorEmulator) -> None:
    port = int(thor.base_url.split(":")[2].split("/")[0])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /latest/integration/charges/stop HTTP/1.1\r\nHost: x\r\n")
    writer.write(b"Content-Length: 90\r\n\r\n{")
    await until(lambda: thor._handlers)
    writer.close()
    await writer.wait_closed()
    await until(lambda: not thor._handlers)
    assert thor.ledger.requests == []


def ledger(*answers: tuple[int | None, int | None], id_tag: str = "T") -> Ledger:
    """The ledger of requests with equal fields, as (status, effect)."""
    kept = Ledger()
    for status, effect in answers:
        command = StopBody("A", 1, id_tag)
        kept.requests.append(LoggedRequest(command, True, 0.0, status, None, effect))
    return kept


def outcome(verdict: str, maybe_applied: bool = False, id_tag: str = "T") -> Any:
    command = SimpleNamespace(chargebox="A", connector=1, id_tag=id_tag, transaction=None)
    return SimpleNamespace(command=command, verdict=verdict, maybe_applied=maybe_applied)


RELAYED, NOT_SENT, REJECTED = outcome("relayed"), outcome("not_sent"), outcome("rejected")
AFTER_DOUBT, LOST = outcome("rejected", True), outcome("indeterminate", True)
TWICE = outcome("relayed", True)


@pytest.mark.parametrize(
    ("answers", "outcomes"),
    [
        ([], [NOT_SENT, LOST]),
        ([], [NOT_SENT, NOT_SENT]),
        ([(200, 1)], [RELAYED]),
        ([(200, None)], [RELAYED]),
        ([(429, None), (200, 1)], [RELAYED]),
        ([(500, 1), (200, 2)], [TWICE]),
        ([(500, None)], [outcome("indeterminate"), NOT_SENT]),
        ([(500, 1), (400, None)], [AFTER_DOUBT]),
        ([(None, 1)], [LOST]),
        ([(400, None)], [REJECTED]),
        ([(429, None), (429, None)], [REJECTED]),
        ([(200, 1), (200, 2)], [RELAYED, RELAYED]),
        ([(200, 1), (400, None)], [RELAYED, REJECTED]),
        ([(200, 1)], [RELAYED, NOT_SENT]),
        ([(500, None), (200, 1)], [TWICE, NOT_SENT]),
        ([(400, None)], [REJECTED, NOT_SENT]),
        ([(None, 1), (400, None)], [LOST, REJECTED]),
    ],
)
def test_honest_outcomes_are_not_accused(
    answers: list[tuple[int | None, int | None]], outcomes: list[Any]
) -> None:
    assert ledger(*answers).overclaims(outcomes) == []


@pytest.mark.parametrize(
    ("answers", "outcomes", "lies"),
    [
        ([], [RELAYED], [RELAYED]),
        ([(400, None)], [RELAYED], [RELAYED]),
        ([(None, 1)], [RELAYED], [RELAYED]),
        ([(204, 1)], [RELAYED], [RELAYED]),
        ([(500, 1)], [TWICE], [TWICE]),
        ([(None, None)], [NOT_SENT], [NOT_SENT]),
        ([(400, None)], [NOT_SENT], [NOT_SENT]),
        ([(500, 1)], [REJECTED], [REJECTED]),
        ([(None, 1), (400, None)], [REJECTED], [REJECTED]),
        ([(200, 1)], [RELAYED, RELAYED], [RELAYED]),
        ([(200, 1), (None, 2)], [RELAYED, RELAYED, RELAYED], [RELAYED, RELAYED]),
        ([(200, 1), (None, None)], [RELAYED, NOT_SENT], [NOT_SENT]),
        ([(200, 1), (500, 2)], [RELAYED, REJECTED], [REJECTED]),
        ([(400, None), (500, None)], [REJECTED, NOT_SENT], [NOT_SENT]),
        ([(None, None)], [NOT_SENT, NOT_SENT], [NOT_SENT]),
        ([(400, None)], [RELAYED, LOST], [RELAYED]),
    ],
)
def test_every_kind_of_lie_is_caught(
    answers: list[tuple[int | None, int | None]], outcomes: list[Any], lies: list[Any]
) -> None:
    assert ledger(*answers).overclaims(outcomes) == lies


def test_commands_with_other_fields_are_judged_apart() -> None:
    lie = outcome("relayed", id_tag="X")
    assert ledger((200, 1)).overclaims([RELAYED, lie]) == [lie]
    assert ledger((200, 1)).overclaims([outcome("not_sent", id_tag="X")]) == []


def test_ten_thousand_outcomes_are_judged_quickly() -> None:
    kept, outcomes = Ledger(), []
    for number in range(10_000):
        kept.requests += ledger((500, None), (200, number), id_tag=f"T{number}").requests
        outcomes.append(outcome("relayed", id_tag=f"T{number}"))
    lie = outcome("not_sent", id_tag="T5000")
    outcomes[5000] = lie
    begun = time.process_time()
    assert kept.overclaims(outcomes) == [lie]
    assert time.process_time() - begun < 0.5


async def test_the_judge_agrees_with_a_real_exchange(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    await client.stop()
    assert thor.ledger.overclaims([RELAYED]) == []
    assert thor.ledger.overclaims([NOT_SENT, REJECTED])


def command(connector: int, transaction: int | None = None, id_tag: str = "T") -> Any:
    return SimpleNamespace(
        chargebox="A", connector=connector, id_tag=id_tag, transaction=transaction
    )


def test_fill_starts_what_each_command_would_stop() -> None:
    thor = ThorEmulator()
    thor.fill([command(1, 40), command(2), command(1, 40), command(2)])
    running = [(c.connector, c.id_tag, c.transaction) for c in thor.charges.values()]
    assert running == [(1, "T", 40), (2, "T", 41)]
    for other in (command(1, 41), command(2, id_tag="X")):
        with pytest.raises(ValueError, match="stop it first"):
            thor.fill([other])


def test_start_charge_numbers_and_tags_by_itself() -> None:
    thor, twin = ThorEmulator(seed=3), ThorEmulator(seed=3)
    first, second = thor.start_charge("A", 1), thor.start_charge("B", 1)
    assert (first.transaction, second.transaction) == (1, 2)
    assert first.id_tag != second.id_tag
    assert twin.start_charge("A", 1).id_tag == first.id_tag
    assert set(thor.chargeboxes) == {"A", "B"}
    assert thor.charges["A", 1] is first


@pytest.mark.parametrize(("connector", "mode"), [(0, "local"), (2, "RFID")])
def test_start_charge_refuses_nonsense(connector: int, mode: str) -> None:
    with pytest.raises(ValueError, match="give"):
        ThorEmulator().start_charge("A", connector, mode=mode)


async def test_the_list_of_running_charges(thor: ThorEmulator, client: Client) -> None:
    local = thor.start_charge("A", 1, "T", 7)
    thor.start_charge("B", 1, "T", mode="remote")
    status, both = await client.ask("GET", "charges/running")
    assert (status, both["count"], both["users"]) == (200, 2, {})
    assert [(c["id"], c["chargebox"], c["id_tag"]) for c in both["items"]] == [
        (7, "A", "T"),
        (8, "B", None),
    ]
    _, one = await client.ask("GET", "charges/running?chargebox=A")
    assert one == {"count": 1, "items": both["items"][:1], "users": {}}
    item = one["items"][0]
    assert item["date_started"] == local.date_started
    assert abs(item["date_started"] / 1000 - time.time()) < 60
    assert item.keys() >= {"connector", "energy", "type", "user", "payment"}
    assert await client.ask("GET", "charges/running?chargebox=C") == (
        200,
        {"count": 0, "items": [], "users": {}},
    )


async def test_a_start_over_http(thor: ThorEmulator, client: Client) -> None:
    async def start(**body: Any) -> tuple[int, Any]:
        return await client.ask("POST", "charges/start", json=body)

    assert await start(chargebox="A", connector=1) == (404, refused("ChargeboxNotFound"))
    thor.add_chargebox("A")
    assert await start(chargebox="A", connector=0) == (400, refused("ConnectorNotValid"))
    assert await start(chargebox="A") == (400, refused("BadRequest"))
    status, body = await start(chargebox="A", connector=1)
    assert (status, body) == (200, {"id_tag": thor.charges["A", 1].id_tag})
    assert await start(chargebox="A", connector=1) == (400, refused("AlreadyInTransaction"))
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
    assert await client.ask("GET", "chargeboxes/C") == (404, refused("ChargeboxNotFound"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "charges/running"),
        ("GET", "chargeboxes"),
        ("GET", "chargeboxes/A"),
        ("POST", "charges/start"),
    ],
)
async def test_the_key_is_asked_for_everywhere(client: Client, method: str, path: str) -> None:
    client.headers = {"X-Api-Key": "wrong"}
    assert await client.ask(method, path) == (403, refused("APIKeyNotFound"))


async def test_refuse_and_accept_on_the_same_port(thor: ThorEmulator, client: Client) -> None:
    url = thor.base_url
    thor.always(ScriptedAnswer(delay=60))
    hanging = asyncio.create_task(client.stop())
    await until(lambda: thor.ledger.requests)
    await asyncio.gather(thor.refuse(), thor.refuse())
    with pytest.raises(GONE):
        await hanging
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.stop()
    assert truth(thor) == [(None, None, None)]
    thor.always(None)
    await thor.accept()
    await thor.accept()
    assert thor.base_url == url
    assert await client.stop() == (404, refused("ChargeboxNotFound"))


async def test_refuse_aborts_idle_and_brand_new_connections(
    thor: ThorEmulator, client: Client
) -> None:
    await client.stop()
    port = int(thor.base_url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await thor.refuse()
    async with asyncio.timeout(1):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.stop()


@under_virtual_time
async def test_what_is_refused_in_work_is_abandoned(thor: ThorEmulator, client: Client) -> None:
    thor.start_charge("A", 1, "T")
    thor.faults = Faults(latency=(60.0, 60.0))
    hanging = asyncio.create_task(client.stop())
    await until(lambda: thor.ledger.requests)
    await thor.refuse()
    with pytest.raises(GONE):
        await hanging
    await asyncio.sleep(61)
    assert thor.charges


async def test_a_request_on_its_way_does_not_outlive_a_refusal(
    thor: ThorEmulator, client: Client
) -> None:
    thor.faults = Faults(latency=(60.0, 60.0))
    for step in range(30):
        refusing = asyncio.create_task(thor.refuse())
        start = asyncio.get_running_loop().time() + step * 0.00005
        while asyncio.get_running_loop().time() < start:
            await asyncio.sleep(0)
        arriving = asyncio.create_task(client.stop())
        await refusing
        entered = len(thor.ledger.requests)
        assert not thor._handlers
        await asyncio.gather(arriving, return_exceptions=True)
        assert isinstance(arriving.exception(), GONE)
        assert len(thor.ledger.requests) == entered
        await thor.accept()


async def test_closing_is_quick_with_a_hanging_request() -> None:
    async with aiohttp.ClientSession() as session:
        thor = ThorEmulator(faults=Faults(latency=(60.0, 60.0)))
        async with thor:
            client = Client(thor, session)
            hanging = [asyncio.create_task(client.stop()) for _ in range(20)]
            hanging.append(asyncio.create_task(client.ask("GET", "charges/running")))
            await until(lambda: len(thor._handlers) == 21)
            begun = time.perf_counter()
        assert time.perf_counter() - begun < 0.5
        results = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(result, GONE) for result in results)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(thor.ledger.requests) == 20


async def test_it_can_be_used_again_with_its_state(client: Client) -> None:
    thor = ThorEmulator()
    thor.start_charge("A", 1, "T")
    async with thor:
        pass
    async with thor:
        client.thor = thor
        assert await client.stop() == (200, {})


async def test_a_bound_socket_is_listened_on() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    async with ThorEmulator(sock=sock) as thor, aiohttp.ClientSession() as session:
        assert thor.base_url == f"http://127.0.0.1:{port}/latest/integration"
        assert (await Client(thor, session).stop())[0] == 404
        await thor.refuse()
        await thor.accept()
        assert (await Client(thor, session).stop())[0] == 404


@under_virtual_time
async def test_a_socket_in_memory_is_listened_on(thor: ThorEmulator, client: Client) -> None:
    assert thor.base_url == "http://127.0.0.1:80/latest/integration"
    await thor.refuse()
    with pytest.raises(GONE):
        await client.stop()
    await thor.accept()
    assert (await client.stop())[0] == 404


async def test_before_the_start_and_after_the_end_there_is_no_address() -> None:
    thor = ThorEmulator()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="async with"):
            assert thor.base_url
        with pytest.raises(RuntimeError, match="async with"):
            await thor.accept()
        async with thor:
            assert thor.base_url.startswith("http://127.0.0.1:")


async def test_a_port_in_use_fails_and_leaves_nothing(thor: ThorEmulator) -> None:
    port = int(thor.base_url.split(":")[2].split("/")[0])
    with pytest.raises(OSError, match="address"):
        async with ThorEmulator(port=port):
            pass


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


@pytest.mark.parametrize(
    ("faults", "named"),
    [
        ({"error_before": 1.1}, "error_before=1.1"),
        ({"drop_after": -0.1}, "drop_after=-0.1"),
        ({"throttle": math.nan}, "throttle=nan"),
        ({"error_after": 0.6, "drop_before": 0.6}, "1.2"),
        ({"latency": (2.0, 1.0)}, "latency"),
        ({"latency": (-1.0, 1.0)}, "latency"),
        ({"latency": (0.0, math.inf)}, "latency"),
    ],
)
def test_bad_faults(faults: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Faults(**faults)


def test_probabilities_may_sum_to_exactly_one() -> None:
    assert Faults(0.05, 0.15, 0.4, 0.3, 0.1)  # naively added: 1.0000000000000002
    with pytest.raises(ValueError, match=r"p=1\.5"):
        Faults.spread(1.5)


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
