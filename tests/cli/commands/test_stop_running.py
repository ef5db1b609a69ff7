"""`stop-running`: what it selects, what it sends, and what it names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.cli.conftest import CommandOutput, Run, Thor
from tests.conftest import TAG
from thor_async import RunningCharge, ThorClient
from thor_async.cli.commands import running
from thor_async.emulator import Lists, ScriptedAnswer

Stop = Callable[..., CommandOutput]


@pytest.fixture
def site(thor: Thor) -> Thor:
    """Chargeboxes A, B and C; the emulator calls them `Chargebox A` ..."""
    now = datetime.now(UTC)
    thor.emulator.start_charge("A", 1, TAG, 5, date_started=now - timedelta(hours=13))
    thor.emulator.start_charge("A", 2, TAG, 6, date_started=now - timedelta(hours=1))
    thor.emulator.start_charge("B", 1, TAG, 7, date_started=now - timedelta(hours=20))
    thor.emulator.add_chargebox("C")
    return thor


@pytest.fixture
def stop(run: Run) -> Stop:
    return lambda *arguments: run("stop-running", *arguments)


def stopped(thor: Thor) -> set[tuple[str, int, int | None]]:
    commands = (request.command for request in thor.emulator.ledger.requests)
    return {(c.chargebox, c.connector, c.transaction) for c in commands if c}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {("A", 1, 5), ("A", 2, 6), ("B", 1, 7)}),
        (["--chargebox", "A"], {("A", 1, 5), ("A", 2, 6)}),
        (["--alias", "*box a"], {("A", 1, 5), ("A", 2, 6)}),
        (["--older-than", "12h"], {("A", 1, 5), ("B", 1, 7)}),
        (["--older-than", "720m", "--chargebox", "A"], {("A", 1, 5)}),
        (["--older-than", "0.5d", "--alias", "Chargebox B"], {("B", 1, 7)}),
        (["--type", "LOCAL"], {("A", 1, 5), ("A", 2, 6), ("B", 1, 7)}),
    ],
)
def test_what_matches_is_stopped_by_its_transaction(
    site: Thor,
    stop: Stop,
    arguments: list[str],
    expected: set[tuple[str, int, int | None]],
) -> None:
    result = stop(*arguments)
    assert result.status == 0
    assert stopped(site) == expected
    assert len(result.records) == len(expected)
    assert len(site.emulator.charges) == 3 - len(expected)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--alias", "Chargbox*"], "the nearest names are 'Chargebox "),
        (["--chargebox", "C"], "the nearest names are 'A', 'B'"),
        (["--type", "lokal"], "the nearest names are 'local'"),
        (["--chargebox", "A", "--alias", "*B"], "the nearest names are 'Chargebox A'"),
        (
            ["--older-than", "2d"],
            "that matches runs longer than 48.0 h (the oldest: 20.0 h)",
        ),
    ],
)
def test_a_filter_that_matches_nothing(
    site: Thor, stop: Stop, arguments: list[str], hint: str
) -> None:
    result = stop(*arguments)
    assert (result.status, result.out, site.requests) == (2, "", 0)
    assert hint in result.err
    assert result.err.count("\n") == 1


def test_nothing_runs(thor: Thor, stop: Stop) -> None:
    assert stop() == (0, "", "thor-async: 0 of 0 commands: nothing to do\n")
    result = stop("--type", "local")
    assert (result.status, result.out) == (2, "")
    assert "no charge runs that it could match" in result.err


def test_without_a_list_nothing_is_sent(site: Thor, stop: Stop) -> None:
    site.emulator.lists = Lists(broken=1.0)
    result = stop()
    assert (result.status, site.requests) == (2, 0)
    assert result.err.endswith(": run thor-async check to find the cause\n")


def test_charges_that_cannot_be_stopped_are_named(site: Thor, stop: Stop) -> None:
    site.emulator.start_charge("C", 1, mode="api", transaction=9)
    result = stop()
    assert result.status == 3
    assert "rows left out: 1" in result.err
    assert "chargebox 'C' connector 1 transaction 9: no id_tag in the list: not stopped" in (
        result.err
    )
    assert len(stopped(site)) == 3
    assert len(site.emulator.charges) == 1


def test_a_charge_that_was_left_out_stays_open_in_the_journal(
    site: Thor, run: Run, stop: Stop, tmp_path: Path
) -> None:
    output = tmp_path / "j.jsonl"
    site.emulator.start_charge("C", 1, mode="api", transaction=9)
    assert stop("--output", output).status == 3
    assert run("status", output).status == 3
    result = run("stop-many", "--output", output, "--resume")
    assert result.status == 3
    assert run("status", output).status == 3


def test_an_age_that_no_charge_can_have(stop: Stop) -> None:
    result = stop("--older-than", "9999999999d")
    assert result.status == 2
    assert "must be at most 3650d" in result.err


def test_every_command_has_its_transaction(
    thor: Thor, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    charges = [
        RunningCharge(chargebox="A", connector=1, transaction=None, id_tag=TAG),
        RunningCharge(chargebox="B", connector=1, transaction=5, id_tag=f"{TAG}\n"),
        RunningCharge(chargebox="C", connector=1, transaction=6, id_tag=TAG),
    ]

    async def read(client: ThorClient, *, needs_aliases: bool) -> object:
        return charges, {}

    monkeypatch.setattr(running, "_read_lists", read)
    thor.emulator.start_charge("C", 1, TAG, 6)
    result = stop()
    assert (result.status, stopped(thor)) == (3, {("C", 1, 6)})
    assert "chargebox 'A' connector 1 transaction unknown: no transaction" in result.err
    assert "chargebox 'B' connector 1 transaction 5: id_tag must not hold control" in result.err
    # Without a start time it is not known whether they match.
    result = stop("--older-than", "1h")
    assert (result.status, thor.requests) == (3, 1)
    assert result.err.count("no start time in the list: not stopped") == 3


def test_the_guards_are_those_of_stop_many(site: Thor, remote_thor: Thor, stop: Stop) -> None:
    assert "no terminal to ask on" in stop().err
    assert stop("--yes", "--at-most", 2).status == 2
    assert site.requests == 0
    result = stop("--dry-run")
    assert (result.status, site.requests) == (0, 0)
    assert result.out.startswith("would stop 3 charges at 2 chargeboxes through ")
    assert stop("--yes", "--at-most", 3).status == 0


@pytest.mark.usefixtures("throttled_ends")
def test_the_journal_is_continued_by_stop_many(
    site: Thor, stop: Stop, run: Run, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    site.emulator.script("TooManyRequests")
    assert stop("--output", output).status == 1
    assert len(site.emulator.charges) == 1
    refs = [
        line["ref"]
        for line in map(msgspec.json.decode, output.read_bytes().splitlines())
        if "index" in line
    ]
    assert {ref["type"] for ref in refs} == {"local"}
    assert stop("--output", output).status == 2
    assert run("stop-many", "--resume", "--output", output).status == 0
    assert not site.emulator.charges


@pytest.mark.usefixtures("fast_poller")
def test_ensure(site: Thor, stop: Stop) -> None:
    site.emulator.script(ScriptedAnswer(200), chargebox="B")
    result = stop("--ensure", 5)
    assert result.status == 0
    assert {record["state"] for record in result.records} == {"stopped"}
    assert not site.emulator.charges
