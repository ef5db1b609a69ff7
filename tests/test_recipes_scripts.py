"""The recipes of many accounts, of synchronous code and of JSON logs, against the emulator."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from tests.conftest import KEY, TAG, Rests
from tests.documents import perform
from tests.fake_transport import OK, FakeTransport, thor_says
from tests.recipes import json_logging, sync_django, sync_script
from tests.recipes.many_accounts import Account, stop_accounts
from thor_async import BatchPaused, StopCharge, ThorClient, ThorError
from thor_async._telemetry.logging import log
from thor_async.emulator import RateLimits, ThorEmulator

ACCOUNTS = 300


def fleet_of(account: int) -> list[StopCharge]:
    return [StopCharge(f"box-{account}-{n}", 1, TAG, account * 10 + n) for n in range(1, 4)]


@pytest.fixture
def accounts(emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch) -> list[Account]:
    monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
    made = [Account(f"account-{n}", f"key-{n}", fleet_of(n)) for n in range(ACCOUNTS)]
    for account in made:
        emulator.fill(account.commands)
        emulator.add_account(account.api_key)
    return made


async def test_each_account_has_its_summary(
    accounts: list[Account], emulator: ThorEmulator
) -> None:
    """The wrong key and the limit of one account are its own."""
    accounts[7] = Account("wrong key", "unknown", fleet_of(7))
    emulator.set_limits(RateLimits(rate=20, burst=1), "key-8")
    emulator.set_limits(RateLimits(rate=0.001, burst=1), "key-9")
    accounts[9] = Account("does not wait", "key-9", fleet_of(9), waits_for_429=False)
    summaries = await stop_accounts(accounts)
    assert list(summaries) == [account.name for account in accounts]
    wrong, patient, hasty = (summaries.pop(accounts[n].name) for n in (7, 8, 9))
    assert all(
        (summary.next_steps, summary.left) == ({"done": 3}, []) for summary in summaries.values()
    )
    assert wrong.next_steps == {"fix": 3}
    assert {outcome.command.chargebox for outcome in wrong.left} == {
        f"box-7-{n}" for n in range(1, 4)
    }
    assert patient.next_steps == {"done": 3}
    assert hasty.next_steps == {"done": 1, "resend": 2}
    assert emulator.ledger.throttled


async def test_a_key_that_cannot_be_one_sends_nothing(
    accounts: list[Account], emulator: ThorEmulator
) -> None:
    accounts[-1] = Account("bad", "a key", fleet_of(1))
    with pytest.raises(ValueError, match="key"):
        await stop_accounts(accounts)
    assert emulator.ledger.requests == []


async def test_no_account_is_no_summary() -> None:
    assert await stop_accounts([]) == {}


COMMANDS = [StopCharge("box-1", 1, TAG, 1), StopCharge("box-2", 1, TAG, 2)]


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThorEmulator]:
    with ThorEmulator(api_key=KEY) as emulator:
        monkeypatch.setenv("THOR_API_KEY", KEY)
        monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
        emulator.fill(COMMANDS)
        yield emulator


def in_thread(function: Callable[[], Any]) -> Any:
    """Runs it where no loop runs; the test has one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(60)


def test_a_script_stops_a_fleet(threaded: ThorEmulator) -> None:
    outcomes = in_thread(lambda: sync_script.stop_fleet(COMMANDS))
    assert [outcome.verdict for outcome in outcomes] == ["relayed", "relayed"]
    again = in_thread(lambda: sync_script.stop_fleet(COMMANDS))
    assert [outcome.next_step for outcome in again] == ["done", "done"]
    assert threaded.charges == {}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_in_a_notebook_a_loop_runs_already(threaded: ThorEmulator) -> None:
    with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
        sync_script.stop_fleet(COMMANDS)
    assert threaded.ledger.requests == []
    shown: list[str] = []
    names = {"ThorClient": ThorClient, "commands": COMMANDS}
    await perform("# In a notebook", **names, print=lambda *words: shown.extend(words))
    assert shown == ["box-1", "done", "box-2", "done"]


def test_a_view_of_django_stops_a_fleet(threaded: ThorEmulator) -> None:
    """Each call makes a loop of its own, and ends it."""
    rows = in_thread(lambda: sync_django.stop_fleet_now(COMMANDS))
    assert [row["verdict"] for row in rows] == ["relayed", "relayed"]
    assert TAG not in json.dumps(rows)
    rows = in_thread(lambda: sync_django.stop_fleet_now(COMMANDS))
    assert [row["code"] for row in rows] == ["NotInTransaction"] * 2
    assert threaded.charges == {}


def test_async_to_sync_makes_a_loop_for_each_call() -> None:
    async def find_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    first, second = (in_thread(async_to_sync(find_loop)) for _ in range(2))
    assert first is not second
    assert first.is_closed()
    assert second.is_closed()


async def test_a_view_of_django_below_asgi_does_so_too(threaded: ThorEmulator) -> None:
    """There `async_to_sync` uses the loop of the server, from the thread of the view."""
    rows = await sync_to_async(sync_django.stop_fleet_now)(COMMANDS)
    assert [row["verdict"] for row in rows] == ["relayed", "relayed"]
    with pytest.raises(RuntimeError, match="same thread as an async event loop"):
        sync_django.stop_fleet_now(COMMANDS)


def test_a_client_of_another_call_says_the_fix(threaded: ThorEmulator) -> None:
    """Why the recipe enters its client within each call."""
    thor = ThorClient()

    async def hold() -> None:
        async with thor:
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.to_thread(async_to_sync(thor.stop_charge), COMMANDS[0])

    asyncio.run(hold())
    assert threaded.ledger.requests == []


def written(record: logging.LogRecord) -> dict[str, Any]:
    line = json_logging.JsonFormatter().format(record)
    assert TAG not in line
    assert "\n" not in line
    row: dict[str, Any] = json.loads(line)
    return row


async def test_a_failed_stop_is_a_line_of_json_with_its_facts(
    command: StopCharge, caplog: pytest.LogCaptureFixture, rests: Rests
) -> None:
    answers = iter([thor_says("InternalServerError", 500), thor_says("WrongTransaction", 400)])
    thor = FakeTransport(lambda *_: next(answers))
    with thor.installed():
        async with thor.client(retry=rests.policy()) as client:
            with pytest.raises(ThorError):
                await client.stop_charge(command)
    row = written(caplog.records[-1])
    assert row.pop("at").endswith("+00:00")
    assert row.pop("message").startswith("failed: chargebox='EaJ7cU9NJ3YkTNgy'")
    assert row == {
        "level": "WARNING",
        "logger": "thor_async",
        "chargebox": "EaJ7cU9NJ3YkTNgy",
        "connector": 2,
        "transaction": 52,
        "attempt": 2,
        "verdict": "rejected",
        "code": "WrongTransaction",
        "next_step": "check",
    }


async def test_a_success_is_no_line_above_debug(
    command: StopCharge, caplog: pytest.LogCaptureFixture
) -> None:
    thor = FakeTransport(lambda *_: OK)
    with thor.installed():
        async with thor.client() as client:
            await client.stop_charge(command)
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


def test_other_records_are_lines_too(caplog: pytest.LogCaptureFixture) -> None:
    log(BatchPaused("no answer in time"))
    row = written(caplog.records[-1])
    assert row.keys() == {"at", "level", "logger", "message"}
    try:
        int("mine")
    except ValueError:
        logging.getLogger("mine").exception("it %s", "failed")
    assert written(caplog.records[-1])["exception"].endswith("base 10: 'mine'")


def test_it_is_set_up_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    json_logging.log_as_json()
    [handler] = root.handlers
    assert isinstance(handler.formatter, json_logging.JsonFormatter)
    assert root.level == logging.INFO
