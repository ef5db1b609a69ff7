"""The examples of the README run against the emulator, and its names exist."""

from __future__ import annotations

import asyncio
import io
import re
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import thor_async.emulator
from tests.conftest import KEY, TAG, wait_until
from tests.documents import README, perform
from tests.recipes import aiohttp_app
from thor_async import CallFinished, NotSentError, RetryPolicy, StopCharge, ThorClient
from thor_async.emulator import Charge, Notifications, RateLimits, ThorEmulator


async def test_the_example_runs_as_it_stands(emulator: ThorEmulator) -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    tag = "0012847382"
    emulator.next_transaction = 52
    emulator.start_charge("EaJ7cU9NJ3YkTNgy", 2, tag)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Werror",
        "-c",
        example.group(1),
        stdout=asyncio.subprocess.PIPE,
        env={"THOR_API_KEY": KEY, "THOR_BASE_URL": emulator.base_url},
        cwd=Path(__file__).parent.parent,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert printed.decode().startswith("relayed in ")
    assert emulator.charges == {}


def test_what_the_readme_names_is_there() -> None:
    tree = re.search(r"```\nThorError(.*?)```", README, re.DOTALL)
    assert tree is not None
    names = set(re.findall(r"\b[A-Z]\w+(?:Error|Found|Lost|Response|Valid|Transaction)\b", tree[0]))
    assert names
    assert names - {"TimeoutError"} <= set(thor_async.__all__)


async def test_many_at_once_on_two_accounts(
    emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
    emulator.add_account("depot-key")
    fleets = {
        name: [StopCharge(f"{name}-{n}", 1, TAG, n + 1) for n in range(20)]
        for name in ("commands", "more", "depot_commands")
    }
    for commands in fleets.values():
        emulator.fill(commands)
    emulator.script("NotInTransaction", "ChargeboxNotFound", chargebox="commands-3")
    emulator.set_limits(RateLimits(rate=100, burst=40))
    journal = io.BytesIO()
    names = {"ThorClient": ThorClient, "RetryPolicy": RetryPolicy, "msgspec": msgspec}
    await perform("depot_commands", **names, **fleets, journal=journal, depot_key="depot-key")
    assert capsys.readouterr().out == ""
    assert journal.getvalue().count(b'"relayed"') == 20
    assert len(emulator.charges) == 1  # for which Thor said that it is over


async def test_a_stop_until_it_is_proven(
    emulator: ThorEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    charge = emulator.start_charge("A", 1, TAG)
    async with ThorClient(KEY, base_url=emulator.base_url) as thor:
        emulator.notifications = Notifications(thor.notify)
        command = StopCharge("A", 1, TAG, charge.transaction)
        await perform("ensure_stopped(command", thor=thor, command=command)
    expected = "stopped after 1 stops: a stop notification of this transaction\n"
    assert capsys.readouterr().out == expected


async def test_an_event_handler_hears_of_what_failed(
    emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
    alarms: list[tuple[object, ...]] = []
    names = {"ThorClient": ThorClient, "CallFinished": CallFinished}
    performed = await perform("alarm(", **names, alarm=lambda *facts: alarms.append(facts))
    emulator.start_charge("A", 1, TAG)
    async with performed["thor"] as thor:
        await thor.stop_many([StopCharge("A", 1, TAG), StopCharge("unknown", 1, TAG)])
    assert alarms == [("unknown", "rejected", "Thor answered 404: ChargeboxNotFound")]


async def test_telemetry_takes_every_stop(
    emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
    performed = await perform("thor = ThorClient(on_event=Telemetry())", ThorClient=ThorClient)
    emulator.start_charge("A", 1, TAG)
    async with performed["thor"] as thor:
        await thor.stop_charge(StopCharge("A", 1, TAG))


async def test_the_emulator_is_set_up_as_its_page_says(emulator: ThorEmulator) -> None:
    names = {name: getattr(thor_async.emulator, name) for name in thor_async.emulator.__all__}
    await perform(
        "async with ThorEmulator()", **names, ThorClient=ThorClient, StopCharge=StopCharge
    )
    for number in (1, 2):
        emulator.start_charge(f"box-{number}", 1)
    await perform(
        "emulator.clock_offset",
        **names,
        emulator=emulator,
        datetime=datetime,
        timedelta=timedelta,
        UTC=UTC,
    )
    assert emulator.charges["box-3", 1].date_started < time.time() * 1000 - 3_500_000
    await perform("emulator.add_account", **names, emulator=emulator)


async def test_the_confirmation_of_one(
    emulator: ThorEmulator, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.start_charge("A", 1, TAG)
    async with ThorClient(KEY, base_url=emulator.base_url) as thor:
        emulator.notifications = Notifications(thor.notify)
        command = StopCharge("A", 1, TAG)
        await perform("stop_and_confirm(command", thor=thor, command=command)
    expected = "stopped by a stop notification of this transaction after relayed\n"
    assert capsys.readouterr().out == expected


async def test_the_confirmation_of_many(emulator: ThorEmulator, tmp_path: Path) -> None:
    commands = [StopCharge(f"box-{n}", 1, TAG, n + 1) for n in range(10)]
    emulator.fill(commands)
    with (tmp_path / "journal").open("wb") as journal:
        async with ThorClient(KEY, base_url=emulator.base_url) as thor:
            emulator.notifications = Notifications(thor.notify)
            names = {"thor": thor, "commands": commands, "journal": journal, "msgspec": msgspec}
            await perform("confirmation.record()", **names)
    assert (tmp_path / "journal").read_bytes().count(b'"state":"stopped"') == 10


async def test_a_site_by_its_name(emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("box-1", "box-2", "other"):
        emulator.start_charge(name, 1)
    emulator.start_charge("box-3", 1, mode="api")
    listed = emulator._chargebox_item
    aliases = {"other": "Torino 1"}
    monkeypatch.setattr(
        emulator,
        "_chargebox_item",
        lambda name: listed(name) | {"alias": aliases.get(name, "Milano 3")},
    )
    async with ThorClient(KEY, base_url=emulator.base_url) as thor:
        names = await perform("startswith", thor=thor, StopCharge=StopCharge)
    assert [outcome.verdict for outcome in names["outcomes"]] == ["relayed"] * 2
    assert set(emulator.charges) == {("other", 1), ("box-3", 1)}


class Receiver(NamedTuple):
    """The README's web app while it runs, and where Thor's notifications go."""

    app: web.Application
    address: str

    @property
    def kept(self) -> dict[tuple[str, int | None], StopCharge]:
        return self.app[aiohttp_app.STOP_COMMANDS]


@pytest.fixture
async def receiver(
    emulator: ThorEmulator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Receiver]:
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
    monkeypatch.setenv("THOR_HOOK", "h00k")
    app = aiohttp_app.make_app()
    async with TestServer(app) as server:
        address = str(server.make_url("/thor/h00k"))
        emulator.notifications = Notifications(address, delay=(0.0, 0.05), doubled=0.3)
        yield Receiver(app, address)


def start_charges(emulator: ThorEmulator, count: int) -> list[Charge]:
    """Starts charges of which the list hides 60 % of the tags."""
    modes = ("remote", "local", "api", "local", "api")
    return [emulator.start_charge(f"box-{n}", 1, mode=modes[n % 5]) for n in range(count)]


async def test_the_web_app_stops_what_the_list_hides(
    emulator: ThorEmulator, receiver: Receiver
) -> None:
    charges = start_charges(emulator, 200)
    async with ThorClient(KEY, base_url=emulator.base_url) as thor:
        hidden = [charge for charge in await thor.running_charges() if charge.id_tag is None]
    assert len(hidden) == 120
    await wait_until(lambda: len(receiver.kept) == len(charges))
    site = {charge.chargebox for charge in charges}
    done, untagged = await aiohttp_app.stop_site(receiver.app, site)
    stopped = [c for c in done if c.state == "stopped"]
    assert len(stopped) >= 0.99 * len(charges)
    assert {c.outcome.command.transaction for c in stopped} <= emulator.ledger.ended.keys()
    assert len(done) + len(untagged) == len(charges)
    assert untagged == []


async def test_the_web_app_names_what_it_cannot_stop(
    emulator: ThorEmulator, receiver: Receiver
) -> None:
    telling, emulator.notifications = emulator.notifications, None
    missed = emulator.start_charge("missed", 1, mode="api")
    emulator.notifications = telling
    charges = start_charges(emulator, 20)
    emulator.start_charge("elsewhere", 1)
    await wait_until(lambda: len(receiver.kept) == len(charges) + 1)
    site = {charge.chargebox for charge in (missed, *charges)}
    done, untagged = await aiohttp_app.stop_site(receiver.app, site)
    assert [charge.transaction for charge in untagged] == [missed.transaction]
    assert {c.state for c in done} == {"stopped"}
    assert set(emulator.charges) == {("missed", 1), ("elsewhere", 1)}


START = {"type": "start", "accepted": True, "chargebox": "A", "connector": 1, "transaction_id": 7}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/thor/h00k", msgspec.json.encode(START | {"id": TAG}), 200),
        ("/thor/h00k", msgspec.json.encode(START | {"id": TAG, "accepted": False}), 200),
        ("/thor/h00k", msgspec.json.encode(START), 400),
        ("/thor/h00k", msgspec.json.encode({"id": TAG, "chargebox": "A"}), 400),
        ("/thor/h00k", b" " * 70_000, 413),
        ("/thor/guess", msgspec.json.encode(START | {"id": TAG}), 404),
    ],
)
async def test_the_web_app_refuses_what_is_no_notification(
    path: str, body: bytes, status: int, receiver: Receiver
) -> None:
    address = receiver.address.replace("/thor/h00k", path)
    async with aiohttp.ClientSession() as session, session.post(address, data=body) as response:
        assert response.status == status
        assert TAG not in await response.text()
    is_kept = status == 200 and b'"accepted":true' in body
    assert receiver.kept == ({("A", 7): StopCharge("A", 1, TAG, 7)} if is_kept else {})


def test_the_readme_has_every_reason() -> None:
    reasons = re.search(r"NotSentError +\.reason: ([a-z_,\s│]+)", README)
    assert reasons is not None
    documented = re.search(r"`reason` is ([a-z_, ]+ or pin)", NotSentError.__doc__ or "")
    assert documented is not None
    assert re.findall(r"[a-z_]+", reasons[1]) == re.findall(
        r"[a-z_]+", documented[1].replace(" or", ",")
    )
