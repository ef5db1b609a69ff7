"""Whether a charge really stopped: `--wait`, `--pin`, `--canary`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.cli.conftest import HEADER, Run, Thor
from tests.conftest import TAG
from thor_async._confirm import poller
from thor_async.cli.input.command_file import read_command_file
from thor_async.emulator import Behaviour, Lists, ScriptedAnswer

Fleet = Callable[[int], Path]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "_FIRST", 0.05)
    monkeypatch.setattr(poller, "_LONGEST", 0.05)
    monkeypatch.setattr(poller, "_FRESH", 0.05)


def test_stop_and_wait(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    said = run("stop", "A", 1, TAG, "--wait", 5)
    assert said.status == 0
    assert ": stopped (seen in the running list, then absent " in said.out
    assert said.out.endswith("nothing is left to do\n")
    assert said.out.count("\n") == 1


def test_stop_that_the_chargebox_does_not_carry_out(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.behaviours["A"] = Behaviour(refuses=1.0)
    said = run("stop", "A", 1, TAG, "--transaction", 5, "--wait", 1.5)
    assert said.status == 1
    assert said.out.startswith("relayed: ")
    assert ": still running (" in said.out
    assert said.out.endswith("look whether the charge still runs before you send it again\n")


def test_stop_pinned_to_nothing(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 2, TAG, 5)
    said = run("stop", "A", 1, TAG, "--pin")
    assert (said.status, thor.requests) == (1, 0)
    assert "no charge runs there" in said.out


def test_pin_fills_in_the_transaction(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    thor.emulator.start_charge("A", 1, TAG, 77)
    assert run("stop-many", write(HEADER, f"A,1,{TAG},"), "--pin").status == 0
    (request,) = thor.emulator.ledger.requests
    assert request.command is not None
    assert request.command.transaction == 77


def test_stop_many_and_wait(thor: Thor, run: Run, fleet: Fleet, tmp_path: Path) -> None:
    path, output = fleet(20), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.behaviours["box-3"] = Behaviour(refuses=1.0)
    thor.emulator.script("NotInTransaction", chargebox="box-4")
    thor.emulator.script("TooManyRequests", chargebox="box-5")
    said = run("stop-many", path, "--wait", 1.5, "--output", output)
    told = {
        line["chargebox"]: (line["verdict"], line["state"], line["next_step"])
        for line in map(msgspec.json.decode, output.read_bytes().splitlines())
        if "index" in line
    }
    assert said.status == 1
    assert told.pop("box-3") == ("relayed", "still_running", "check")
    assert told.pop("box-4") == ("rejected", "still_running", "check")
    assert told.pop("box-5") == ("rejected", "unconfirmed", "resend")
    assert set(told.values()) == {("relayed", "stopped", "done")}
    assert "relayed   " in said.err
    assert "  stopped  " in said.err
    assert "20 of 20: " in said.err
    assert " stopped" in said.err.split("20 of 20: ")[1].splitlines()[0]


def test_a_charge_that_thor_says_is_over_is_done_without_proof(
    thor: Thor, run: Run, fleet: Fleet
) -> None:
    path = fleet(1)
    thor.emulator.add_chargebox("box-0")
    said = run("stop-many", path, "--wait", 1.5)
    (record,) = said.records
    assert (record["code"], record["state"]) == ("NotInTransaction", "unconfirmed")
    assert (record["next_step"], said.status) == ("done", 0)


def test_the_canary_lives(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(12)
    thor.emulator.fill(read_command_file(str(path)))
    said = run("stop-many", path, "--canary", 4)
    assert said.status == 0
    states = Counter(record.get("state") for record in said.records)
    assert states == {"stopped": 4, None: 8}
    assert [record["index"] < 4 for record in said.records] == [True] * 4 + [False] * 8
    assert not thor.emulator.charges


@pytest.mark.parametrize("trouble", ["refuses", "gone", "wrong list"])
def test_the_canary_dies(
    thor: Thor,
    run: Run,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    path = fleet(12)
    thor.emulator.fill(read_command_file(str(path)))
    if trouble == "refuses":
        thor.emulator.behaviours["box-2"] = Behaviour(refuses=1.0)
    elif trouble == "gone":
        thor.emulator.always("NotInTransaction")
    else:
        thor.emulator.lists = Lists(empty=1.0)
    said = run("stop-many", path, "--canary", 4, "--wait", 1.5)
    assert (said.status, thor.requests, len(said.records)) == (1, 4, 4)
    last = said.err.splitlines()[-1]
    seen = 3 if trouble == "refuses" else 0
    assert last == (
        f"thor-async: only {seen} of the first 4 charges were seen to stop: "
        "8 of 12 commands were not sent"
    )


def test_a_canary_of_which_one_had_gone_before_lives(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(6)
    thor.emulator.fill(list(read_command_file(str(path)))[1:])
    thor.emulator.add_chargebox("box-0")
    assert run("stop-many", path, "--canary", 3, "--wait", 1.5).status == 0
    assert thor.requests == 6


def test_a_canary_of_a_wrong_key_is_all(thor: Thor, run: Run, fleet: Fleet) -> None:
    thor.emulator.api_key = "renewed"
    said = run("stop-many", fleet(100), "--canary", 5)
    assert said.status == 1
    assert thor.requests <= 5
    assert "APIKeyNotFound" in said.err


def test_within_ends_it(thor: Thor, run: Run, fleet: Fleet) -> None:
    thor.emulator.always(ScriptedAnswer(delay=30))
    said = run("stop-many", fleet(50), "--within", 1.5, "--max-in-flight", 5)
    assert said.status == 1
    assert Counter(record["verdict"] for record in said.records) == {"indeterminate": 5}
    assert "45 of 50 commands were not sent" in said.err


def test_attempts(thor: Thor, run: Run, fleet: Fleet) -> None:
    thor.emulator.always("InternalServerError")
    run("stop-many", fleet(3), "--attempts", 1)
    assert thor.requests == 3
