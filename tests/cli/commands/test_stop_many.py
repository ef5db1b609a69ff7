"""`stop-many`: what goes out, and what is told."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.cli.conftest import HEADER, Run, Start, Thor, finish, interrupt, lose_the_first
from tests.conftest import TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.emulator import Faults, ScriptedAnswer


def test_stop_many(thor: Thor, run: Run, fleet: Callable[[int], Path]) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    said = run("stop-many", path)
    assert said.status == 0
    assert sorted(record["index"] for record in said.records) == list(range(100))
    assert {record["verdict"] for record in said.records} == {"relayed"}
    by_index = {record["index"]: record for record in said.records}
    assert by_index[7]["chargebox"] == "box-7"
    assert by_index[7]["transaction"] == 8
    *progress, _, table, _, _, slowest, summary = said.err.splitlines()
    assert [line.split(":")[0] for line in progress] == [f"{n} of 100" for n in range(10, 101, 10)]
    assert progress[1].startswith("20 of 100: 20 relayed; ")
    assert progress[1].endswith(" s left")
    assert table.split() == ["relayed", "done", "100"]
    assert slowest.startswith("thor-async: slowest: 0.")
    assert summary == "thor-async: 100 of 100 commands: 100 done"
    assert not thor.emulator.charges


def test_stop_many_from_standard_input(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"\ufeff{HEADER}\r\nA,1,{TAG},5\r\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    thor.emulator.start_charge("A", 1, TAG, 5)
    assert run("stop-many", "-").status == 0
    assert not thor.emulator.charges


def test_stop_many_with_something_left_to_do(
    thor: Thor, run: Run, fleet: Callable[[int], Path]
) -> None:
    path = fleet(4)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ConnectorNotValid", chargebox="box-1")
    thor.emulator.script(ScriptedAnswer(drop=True), chargebox="box-2")
    said = run("stop-many", path, "--base-url", thor.base_url)
    steps = {record["chargebox"]: record["next_step"] for record in said.records}
    assert said.status == 1
    assert steps == {"box-0": "done", "box-1": "fix", "box-2": "check", "box-3": "done"}
    assert "4 of 4 commands: 2 done, " in said.err
    assert "fix: correct the data or the account" in said.err
    assert "check: look whether the charge still runs" in said.err


def test_stop_many_of_nothing(thor: Thor, run: Run, fleet: Callable[[int], Path]) -> None:
    said = run("stop-many", fleet(0))
    assert said == (0, "", "thor-async: 0 of 0 commands: nothing to do\n")


def test_stop_many_that_gives_up_says_how_many_are_left(
    thor: Thor, run: Run, fleet: Callable[[int], Path]
) -> None:
    thor.emulator.api_key = "renewed"
    said = run("stop-many", fleet(500))
    left = 500 - len(said.records)
    assert said.status == 1
    assert thor.requests <= 32
    assert left >= 400
    summary, advice, gave_up = said.err.splitlines()[-3:]
    assert gave_up.endswith(f"APIKeyNotFound: {left} of 500 commands were not sent")
    assert summary.startswith(f"thor-async: {500 - left} of 500 commands: ")
    assert advice.startswith("thor-async: fix: ")


def test_stop_many_interrupted_tells_what_it_knows(
    thor: Thor, start: Start, fleet: Callable[[int], Path]
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    for number in range(1, 100):
        thor.emulator.always(ScriptedAnswer(delay=30), chargebox=f"box-{number}")
    process = start("stop-many", path)
    assert process.stdout
    first = process.stdout.readline()  # written at once, not when the buffer is full
    thor.saw(requests=33)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while "Ctrl-C again ends what is in flight at once" not in process.stderr.readline():
        assert process.poll() is None  # it waits for what is in flight
    said = interrupt(process)
    assert msgspec.json.decode(first)["chargebox"] == "box-0"
    assert Counter(record["verdict"] for record in said.records) == {"indeterminate": 32}
    assert {record["message"] for record in said.records} == {"cut off while it was in flight"}
    assert said.status == 130
    assert said.err.endswith("thor-async: interrupted: 67 of 100 commands were not sent\n")


def test_the_first_interrupt_waits_for_what_is_in_flight(
    thor: Thor, start: Start, fleet: Callable[[int], Path]
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always(ScriptedAnswer(200, b"{}", effect=True, delay=0.5))
    process = start("stop-many", path, "--max-in-flight", 7)
    thor.saw(requests=7)
    said = interrupt(process)
    assert said.status == 130
    assert thor.requests == 7
    assert Counter(record["verdict"] for record in said.records) == {"relayed": 7}
    assert "7 of 100 commands: 7 done" in said.err


def test_stop_many_into_a_closed_pipe(
    thor: Thor, start: Start, fleet: Callable[[int], Path]
) -> None:
    path = fleet(300)
    thor.emulator.faults = Faults(latency=(0.05, 0.05))
    reading, writing = os.pipe()
    process = start("stop-many", path, stdout=writing)
    os.close(writing)
    os.close(reading)
    said = finish(process)
    assert said.status == 1
    line = said.err.splitlines()[-1]
    rest, lost = (int(word) for word in line.split() if word.isdecimal() and word != "300")
    assert rest + lost == 300
    assert 1 <= thor.requests <= lost <= 128


def test_stop_many_while_nobody_listens_to_its_errors(
    thor: Thor, start: Start, fleet: Callable[[int], Path]
) -> None:
    path = fleet(50)
    thor.emulator.fill(read_command_file(str(path)))
    reading, writing = os.pipe()
    process = start("stop-many", path, stderr=writing)
    os.close(writing)
    os.close(reading)
    said = finish(process)
    assert (said.status, len(said.records)) == (0, 50)


def test_stop_many_does_not_call_a_missing_outcome_done(
    thor: Thor, run: Run, fleet: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(10)
    thor.emulator.fill(read_command_file(str(path)))
    lose_the_first(monkeypatch)
    said = run("stop-many", path)
    assert (said.status, len(said.records)) == (1, 9)
    assert "9 of 10 commands: 9 done" in said.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_an_output_that_is_full(thor: Thor, start: Start, fleet: Callable[[int], Path]) -> None:
    with Path("/dev/full").open("w") as full:
        said = finish(start("stop-many", fleet(1), stdout=full))
    assert said.status == 1
    assert (
        "thor-async: the output takes no more (No space left on device): "
        "0 of 1 commands were not sent, and 1 of the outcomes could not be written\n" in said.err
    )


def test_an_interrupt_ends_the_wait_for_the_next_stop(
    thor: Thor, start: Start, fleet: Callable[[int], Path]
) -> None:
    path = fleet(10)
    thor.emulator.fill(read_command_file(str(path)))
    process = start("stop-many", path, "--over", 10_000)
    assert process.stdout
    first = process.stdout.readline()
    said = interrupt(process)
    assert msgspec.json.decode(first)["verdict"] == "relayed"
    assert (said.status, said.out, thor.requests) == (130, "", 1)
    assert "interrupted: 9 of 10 commands were not sent" in said.err
