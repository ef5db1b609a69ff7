"""`demo` and `emulate`: what they show, and that it is true."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.conftest import HEADER, HONEST, Run, Said, Start, finish, interrupt, lose_the_first
from tests.conftest import KEY, TAG
from thor_async import OutcomeStream, StopOutcome
from thor_async._dispatch.breaker import CircuitBreaker
from thor_async.cli.commands import demo, demo_stories
from thor_async.emulator import Faults, Ledger, ThorEmulator


def kinds(said: Said) -> dict[tuple[str, ...], int]:
    """The rows of the table, by everything but their counts."""
    lines = said.out.splitlines()
    (top,) = [number for number, line in enumerate(lines) if line.startswith("verdict ")]
    rows = [line.split() for line in lines[top + 1 : -2]]
    return {tuple(row[:-1]): int(row[-1].replace(",", "")) for row in rows}


def test_demo(run: Run) -> None:
    said = run("demo", "--charges", 40)
    assert (said.status, said.err) == (0, "")
    assert said.last == HONEST.format(40)
    assert kinds(said) == {("relayed", "done"): 40}
    lines = said.out.splitlines()
    assert [line.split(":")[0] for line in lines[:10]] == [f"{n} of 40" for n in range(4, 41, 4)]
    assert lines[10].startswith("verdict ")
    assert "40 requests seen, 0 retries, 0." in said.out


def test_demo_of_a_thousand_by_default(run: Run) -> None:
    said = run("demo")
    assert (said.status, said.last) == (0, HONEST.format("1,000"))
    assert kinds(said) == {("relayed", "done"): 1000}


def test_demo_of_a_fleet(run: Run, fleet: Callable[[int], Path]) -> None:
    said = run("demo", "--fleet", fleet(12))
    assert (said.status, said.last) == (0, HONEST.format(12))


def test_demo_of_a_fleet_that_cannot_be(run: Run, write: Callable[..., Path]) -> None:
    said = run("demo", "--fleet", write(HEADER, f"A,1,{TAG},1", f"A,1,{TAG}2,2"))
    assert (said.status, said.out) == (2, "")
    assert "a charge runs at 'A', 1" in said.err


def test_demo_with_faults_is_a_success_that_shows_them(run: Run) -> None:
    said = run("demo", "--charges", 300, "--faults", 0.3, "--seed", 1)
    found = kinds(said)
    assert (said.status, said.last) == (0, HONEST.format(300))
    assert sum(found.values()) == 300
    assert found["indeterminate", "ConnectionLost", "check"] > 10
    assert found["rejected", "NotInTransaction", "done"] > 3
    assert " 0 retries" not in said.out


def test_demo_talks_to_nobody_else(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        elsewhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in ("THOR_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere)
        monkeypatch.setenv("THOR_API_KEY", KEY)
        said = run("demo", "--charges", 10)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert kinds(said) == {("relayed", "done"): 10}


def test_demo_needs_no_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THOR_BASE_URL", "not an address")
    monkeypatch.setenv("THOR_API_KEY", "not a key")
    assert run("demo", "--charges", 3).status == 0


def test_demo_catches_a_client_that_lies(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes every answer for a relay."""
    monkeypatch.setattr("thor_async._stop.read_stop", lambda *_: None)
    said = run("demo", "--charges", 20, "--story", "wrong-key")
    assert said.status == 1
    assert said.last == HONEST.format(20).replace("0", "20", 1)


def test_demo_asks_the_ledger_about_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[StopOutcome] = []

    def one_lie(_: Ledger, outcomes: list[StopOutcome]) -> list[StopOutcome]:
        asked.extend(outcomes)
        return outcomes[:1]

    monkeypatch.setattr(Ledger, "overclaims", one_lie)
    said = run("demo", "--charges", 20)
    assert (said.status, len(asked)) == (1, 20)
    assert said.last == HONEST.format(20).replace("0", "1", 1)


def repeat_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first outcome comes in place of the second."""
    anext_ = OutcomeStream.__anext__
    seen: list[StopOutcome] = []

    async def next_outcome(self: Any) -> Any:
        seen.append(await anext_(self))
        return seen[0 if len(seen) == 2 else -1]

    monkeypatch.setattr(OutcomeStream, "__anext__", next_outcome)


@pytest.mark.parametrize("spoil", [lose_the_first, repeat_the_first])
def test_demo_misses_an_outcome(
    run: Run, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    spoil(monkeypatch)
    said = run("demo", "--charges", 20)
    assert said.status == 1
    assert "An outcome is missing" in said.out
    assert said.last.startswith("Checked against the emulator: ")


def test_demo_gives_the_emulator_its_dice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def make(**settings: Any) -> ThorEmulator:
        made.append(settings)
        return ThorEmulator(**settings)

    monkeypatch.setattr(demo, "ThorEmulator", make)
    run("demo", "--charges", 1, "--faults", 0.4, "--seed", 7)
    (settings,) = made
    latency = settings["faults"].latency
    assert settings["seed"] == 7
    assert settings["faults"] == msgspec.structs.replace(Faults.spread(0.4), latency=latency)
    assert 0 < latency[0] < latency[1] < 0.1


def test_demo_into_a_closed_pipe(start: Start) -> None:
    reading, writing = os.pipe()
    process = start("demo", "--charges", 300, "--story", "outage", stdout=writing)
    os.close(writing)
    os.close(reading)
    assert finish(process) == (1, "", "")


def test_outage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CircuitBreaker, "_FIRST", 0.1)
    monkeypatch.setattr(demo_stories, "AWAY", 0.25)
    said = run("demo", "--story", "outage", "--charges", 400)
    found = kinds(said)
    relayed = found["relayed", "done"]
    refused = found["not_sent", "connect", "resend"]
    cut = found.get(("indeterminate", "ConnectionLost", "check"), 0)
    assert (said.status, said.last) == (0, HONEST.format(400))
    assert relayed + refused + cut == 400
    assert 64 <= refused + cut <= 130
    assert "Thor will refuse every\nconnection for 0.25 seconds" in said.out
    assert f"\n{cut} stops were cut off on their way" in said.out
    assert f"\n{refused} found no Thor at all" in said.out
    assert f"\nanswered: {relayed} relayed. " in said.out
    silence = said.out.split("without any request at Thor was ")[1]
    assert float(silence.split()[0]) >= 0.2


@pytest.mark.parametrize("charges", [20, 1000])
def test_wrong_key(run: Run, charges: int) -> None:
    said = run("demo", "--story", "wrong-key", "--charges", charges)
    ((kind, count),) = kinds(said).items()
    assert (said.status, said.last) == (0, HONEST.format(count))
    assert kind == ("rejected", "APIKeyNotFound", "fix")
    assert count <= 32
    assert f"Thor saw {count} requests: the first APIKeyNotFound stopped the batch" in said.out
    assert (
        f"\n{count} outcomes + {charges - count} never pulled = {charges:,} of {charges:,} c"
        in (said.out)
    )


def test_next_driver(run: Run) -> None:
    said = run("demo", "--story", "next-driver")
    assert (said.status, said.last) == (0, HONEST.format(2))
    assert kinds(said) == {
        ("relayed", "done"): 1,
        ("rejected", "WrongTransaction", "check"): 1,
    }
    _, without, with_, *_ = said.out.split("\n\n")
    assert without.startswith("Without transaction, 2 attempts. relayed: ")
    assert "handed the stop on, and may have done so before;" in without
    assert without.endswith("The next driver's charge was stopped by the retry.")
    assert with_.startswith("With transaction, 2 attempts. rejected: ")
    assert "WrongTransaction (attempts 2, may have been applied)" in with_
    assert with_.endswith("The next driver's charge still runs.")
    assert "4 requests seen, 2 retries" in said.out


def test_emulate_until_interrupted(
    run: Run, start: Start, fleet: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(3)
    process = start("emulate", "--fleet", path)
    assert process.stdout
    address, key = process.stdout.readline().strip(), process.stdout.readline().strip()
    monkeypatch.setenv("THOR_API_KEY", key)
    stopped = run("stop-many", path, "--base-url", address)
    said = interrupt(process)
    assert stopped.status == 0
    assert {record["verdict"] for record in stopped.records} == {"relayed"}
    assert (said.status, said.out) == (0, "")
    assert said.err.count("\n") == 1
