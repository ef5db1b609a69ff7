"""Ctrl-C, SIGTERM and SIGHUP: the first ends a batch in order, the second at once."""

from __future__ import annotations

import math
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import PROCESS, Fleet, Run, Start, Thor, finish
from tests.cli.output.conftest import final, lines
from tests.conftest import TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.emulator import Behaviour, ScriptedAnswer

ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Reads standard error up to this text."""
    assert process.stderr
    while text not in process.stderr.readline():
        assert process.poll() is None


@pytest.mark.parametrize(("number", "status"), ENDS)
def test_the_first_signal_waits_for_what_is_in_flight(
    thor: Thor, start: Start, run: Run, fleet: Fleet, output: Path, number: int, status: int
) -> None:
    path = fleet(50)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always(ScriptedAnswer(200, b"{}", effect=True, delay=1.0))
    process = start("stop-many", path, "--output", output, "--max-in-flight", 7)
    thor.wait_for_requests(7)
    process.send_signal(number)
    result = finish(process)
    assert (result.status, thor.requests) == (status, 7)
    assert "ended" in lines(output)[-1]
    assert {line["verdict"] for line in final(output).values()} == {"relayed"}
    assert "7 of 50 commands: 7 done" in result.err
    thor.emulator.always(None)
    assert run("stop-many", path, "--output", output, "--resume").status == 0
    assert thor.requests == 50


@pytest.mark.parametrize(("number", "status"), ENDS)
@pytest.mark.parametrize("option", [[], ["--wait", "60"], ["--ensure", "60"]])
def test_after_a_second_signal_every_row_has_a_line(
    thor: Thor,
    start: Start,
    fleet: Fleet,
    output: Path,
    number: int,
    status: int,
    option: list[str],
) -> None:
    path = fleet(40)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.behaviours[None] = Behaviour(ignores=math.inf)
    thor.emulator.always(ScriptedAnswer(delay=60), chargebox="box-3")
    process = start("stop-many", path, "--output", output, "--max-in-flight", 5, *option)
    thor.wait_for_requests(20)
    process.send_signal(number)
    wait_for(process, "press Ctrl-C again to end the requests in flight")
    process.send_signal(number)
    result = finish(process)
    assert result.status == status
    assert "ended" in lines(output)[-1]
    rows = final(output)
    requested = {
        request.command.chargebox for request in thor.emulator.ledger.requests if request.command
    }
    assert requested <= {line["chargebox"] for line in rows.values()}
    assert rows[3]["verdict"] == "indeterminate"
    assert rows[3]["next_step"] != "done"
    for line in rows.values():
        assert line.get("state") != "stopped"
        assert line.get("interrupted") or not option
        assert line["next_step"] != "done" or not option


def test_a_hangup_that_is_ignored_stays_ignored(
    thor: Thor, start: Start, fleet: Fleet, output: Path
) -> None:
    path = fleet(20)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.always(ScriptedAnswer(200, b"{}", effect=True, delay=0.5))
    nohup = PROCESS.replace("SIG_DFL", "SIG_IGN")
    process = start("stop-many", path, "--output", output, "--max-in-flight", 5, code=nohup)
    thor.wait_for_requests(5)
    process.send_signal(signal.SIGHUP)
    assert (finish(process).status, thor.requests) == (0, 20)


@pytest.mark.parametrize(("number", "status"), ENDS)
def test_a_single_stop_prints_its_line(thor: Thor, start: Start, number: int, status: int) -> None:
    thor.emulator.start_charge("A", 2, TAG, 52)
    thor.emulator.always(ScriptedAnswer(delay=30))
    process = start("stop", "A", 2, TAG)
    thor.wait_for_requests(1)
    process.send_signal(number)
    result = finish(process)
    assert (result.status, result.err) == (status, "thor-async: interrupted\n")
    assert result.out.startswith("indeterminate: chargebox 'A' connector 2: ")
    assert result.out.count("\n") == 1
