"""`demo`: what it shows, and that this is true."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.conftest import (
    HEADER,
    NO_OVERCLAIMS,
    CommandOutput,
    Fleet,
    Run,
    Start,
    drop_first_outcome,
    finish,
)
from tests.conftest import KEY, TAG
from thor_async import OutcomeStream, StopOutcome
from thor_async._dispatch.breaker import CircuitBreaker
from thor_async.cli import demo_stories, emulator_factory
from thor_async.emulator import Faults, Ledger, ThorEmulator


def kinds(result: CommandOutput) -> dict[tuple[str, ...], int]:
    """Returns the count of each row of the table."""
    lines = result.out.splitlines()
    (top,) = [number for number, line in enumerate(lines) if line.startswith("verdict ")]
    rows = [line.split() for line in lines[top + 1 : -2]]
    return {tuple(row[:-1]): int(row[-1].replace(",", "")) for row in rows}


def test_demo(run: Run) -> None:
    result = run("demo", "--charges", 40)
    assert (result.status, result.err) == (0, "")
    assert result.last == NO_OVERCLAIMS.format(40)
    assert kinds(result) == {("relayed", "done"): 40}
    lines = result.out.splitlines()
    assert [line.split(":")[0] for line in lines[:10]] == [f"{n} of 40" for n in range(4, 41, 4)]
    assert lines[10].startswith("verdict ")
    assert "40 requests seen, 0 retries, 0." in result.out


def test_demo_of_a_thousand_by_default(run: Run) -> None:
    result = run("demo")
    assert (result.status, result.last) == (0, NO_OVERCLAIMS.format("1,000"))
    assert kinds(result) == {("relayed", "done"): 1000}


def test_demo_of_a_fleet(run: Run, fleet: Fleet) -> None:
    result = run("demo", "--fleet", fleet(12))
    assert (result.status, result.last) == (0, NO_OVERCLAIMS.format(12))


def test_demo_of_an_impossible_fleet(run: Run, write: Callable[..., Path]) -> None:
    result = run("demo", "--fleet", write(HEADER, f"A,1,{TAG},1", f"A,1,{TAG}2,2"))
    assert (result.status, result.out) == (2, "")
    assert "two charges at chargebox 'A' connector 1" in result.err


def test_demo_with_faults_is_a_success_that_shows_them(run: Run) -> None:
    result = run("demo", "--charges", 300, "--faults", 0.3, "--seed", 1)
    found = kinds(result)
    assert (result.status, result.last) == (0, NO_OVERCLAIMS.format(300))
    assert sum(found.values()) == 300
    assert found["indeterminate", "ConnectionLost", "resend"] > 10
    assert found["rejected", "NotInTransaction", "done"] > 3
    assert " 0 retries" not in result.out


def test_demo_makes_no_other_connection(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        elsewhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in ("THOR_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere)
        monkeypatch.setenv("THOR_API_KEY", KEY)
        result = run("demo", "--charges", 10)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert kinds(result) == {("relayed", "done"): 10}


def test_demo_needs_no_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THOR_BASE_URL", "not an address")
    monkeypatch.setenv("THOR_API_KEY", "not a key")
    assert run("demo", "--charges", 3).status == 0


def test_demo_catches_a_client_that_lies(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the client takes every answer for a relay."""
    monkeypatch.setattr("thor_async._stop.parse_stop_answer", lambda *_: None)
    result = run("demo", "--charges", 20, "--story", "wrong-key")
    assert result.status == 1
    assert result.last == NO_OVERCLAIMS.format(20).replace("0", "20", 1)


def test_demo_checks_all_outcomes_against_the_ledger(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[StopOutcome] = []

    def one_overclaim(_: Ledger, outcomes: list[StopOutcome]) -> list[StopOutcome]:
        checked.extend(outcomes)
        return outcomes[:1]

    monkeypatch.setattr(Ledger, "overclaims", one_overclaim)
    result = run("demo", "--charges", 20)
    assert (result.status, len(checked)) == (1, 20)
    assert result.last == NO_OVERCLAIMS.format(20).replace("0", "1", 1)


def repeat_first_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the second outcome by the first."""
    anext_ = OutcomeStream.__anext__
    seen: list[StopOutcome] = []

    async def next_outcome(self: Any) -> Any:
        seen.append(await anext_(self))
        return seen[0 if len(seen) == 2 else -1]

    monkeypatch.setattr(OutcomeStream, "__anext__", next_outcome)


@pytest.mark.parametrize("spoil", [drop_first_outcome, repeat_first_outcome])
def test_demo_misses_an_outcome(
    run: Run, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    spoil(monkeypatch)
    result = run("demo", "--charges", 20)
    assert result.status == 1
    assert "An outcome is missing" in result.out
    assert result.last.startswith("Checked against the emulator: ")


def test_demo_gives_the_emulator_its_seed_and_faults(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def make(**settings: Any) -> ThorEmulator:
        made.append(settings)
        return ThorEmulator(**settings)

    monkeypatch.setattr(emulator_factory, "ThorEmulator", make)
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
    monkeypatch.setattr(CircuitBreaker, "_FIRST_DELAY", 0.1)
    monkeypatch.setattr(demo_stories, "AWAY", 0.25)
    result = run("demo", "--story", "outage", "--charges", 400)
    found = kinds(result)
    relayed = found["relayed", "done"]
    refused = found["not_sent", "connect", "resend"]
    cut = found.get(("indeterminate", "ConnectionLost", "resend"), 0)
    assert (result.status, result.last) == (0, NO_OVERCLAIMS.format(400))
    assert relayed + refused + cut == 400
    assert 64 <= refused + cut <= 130
    assert "Thor will refuse every\nconnection for 0.25 seconds" in result.out
    assert f"\n{cut} stops were cut off in flight" in result.out
    assert f"\n{refused} could not connect to Thor" in result.out
    assert f"\nanswered: {relayed} relayed. " in result.out
    silence = result.out.split("without any request at Thor was ")[1]
    assert float(silence.split()[0]) >= 0.2


def test_rate_limit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_stories, "ALLOWED", 100)
    result = run("demo", "--story", "rate-limit", "--charges", 300)
    assert (result.status, result.last) == (0, NO_OVERCLAIMS.format(300))
    assert kinds(result) == {("relayed", "done"): 300}
    assert "the account allows 100 requests a second, and\nThor answers 429" in result.out
    assert "\n300 of 300 relayed in " in result.out
    assert "the limit allows no less than 2.0 s.\n" in result.out
    throttled, requests = map(int, re.findall(r"429 to (\d+) of (\d+) requests", result.out)[0])
    assert 0 < throttled == requests - 300
    assert f"{requests} requests seen, {throttled} retries" in result.out


@pytest.mark.parametrize("charges", [20, 1000])
def test_wrong_key(run: Run, charges: int) -> None:
    result = run("demo", "--story", "wrong-key", "--charges", charges)
    ((kind, count),) = kinds(result).items()
    assert (result.status, result.last) == (0, NO_OVERCLAIMS.format(count))
    assert kind == ("rejected", "APIKeyNotFound", "fix")
    assert count <= 32
    assert f"Thor saw {count} requests: the first APIKeyNotFound stopped the batch" in result.out
    assert (
        f"\n{count} outcomes + {charges - count} never pulled = {charges:,} of {charges:,} c"
        in (result.out)
    )


def test_next_driver(run: Run) -> None:
    result = run("demo", "--story", "next-driver")
    assert (result.status, result.last) == (0, NO_OVERCLAIMS.format(2))
    assert kinds(result) == {
        ("relayed", "done"): 1,
        ("rejected", "WrongTransaction", "check"): 1,
    }
    _, without, with_, *_ = result.out.split("\n\n")
    assert without.startswith("Without transaction, 2 attempts. relayed: ")
    assert "handed the stop on, and may have done so before;" in without
    assert without.endswith("The next driver's charge was stopped by the retry.")
    assert with_.startswith("With transaction, 2 attempts. rejected: ")
    assert "WrongTransaction (attempts 2, may have been applied)" in with_
    assert with_.endswith("The next driver's charge still runs.")
    assert "4 requests seen, 2 retries" in result.out


@pytest.mark.parametrize(
    ("options", "charges"),
    [
        (["--charges", 30, "--faults", 0.3], 30),
        (["--story", "next-driver"], 2),
        (["--story", "wrong-key", "--charges", 200], 200),
    ],
)
def test_the_report_of_a_demo(
    run: Run, tmp_path: Path, options: list[object], charges: int
) -> None:
    report = tmp_path / "demo.html"
    result = run("demo", *options, "--report", report)
    assert result.status == 0
    assert result.last == f"The report is in {report}"
    page = report.read_text()
    assert f"{charges:,}" in page
    assert "thor-async demo" in page
    assert "the-fleet-card" not in page
    assert "tag-1" not in page


def test_a_report_of_a_demo_that_cannot_be_written(run: Run) -> None:
    result = run("demo", "--report", "/no/folder/a.html")
    assert (result.status, result.out) == (2, "")
    assert "give --report a file in a writable folder" in result.err
