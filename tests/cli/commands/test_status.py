"""`status`: what is left of a journal, and the rows that are left."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, Fleet, Run, Thor
from tests.conftest import TAG
from thor_async.cli import main
from thor_async.cli.input.command_file import read_command_file
from thor_async.emulator import ScriptedAnswer


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def remaining(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Runs `status --remaining`, whose output has tags."""
    status = main(["status", "--remaining", *map(str, arguments)])
    return status, *capsys.readouterr()


@pytest.mark.usefixtures("throttled_ends")
def test_the_status_of_a_journal(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(5)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ConnectorNotValid", chargebox="box-0")
    thor.emulator.script("TooManyRequests", chargebox="box-1")
    run("stop-many", path, "--output", output)
    before, requests = output.read_bytes(), thor.requests
    result = run("status", output)
    assert (result.status, result.err) == (1, "")
    assert "relayed" in result.out
    assert "5 of 5 commands: 3 done, 1 " in result.out
    assert "3 relayed stops were not looked at" in result.out.splitlines()[-1]
    assert (output.read_bytes(), thor.requests) == (before, requests)
    run("stop-many", path, "--output", output, "--resume")
    assert run("status", output).status == 3
    run("stop-many", path, "--output", output, "--resume", "--resend", "fix")
    assert run("status", output).status == 0


@pytest.mark.usefixtures("throttled_ends")
def test_the_status_as_json(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(5)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ConnectorNotValid", chargebox="box-0")
    thor.emulator.script("TooManyRequests", chargebox="box-1")
    run("stop-many", path, "--output", output)
    result = run("status", output, "--json")
    (found,) = result.records
    assert result.status == found["status"] == 1
    assert found["next_steps"] == {"done": 3, "fix": 1, "resend": 1}
    assert (found["rows"], found["runs"], found["not_looked_at"]) == (5, 1, 3)
    assert found["outcomes"][0] == {
        "verdict": "relayed",
        "code": "",
        "state": "",
        "next_step": "done",
        "count": 3,
    }


def test_rows_without_an_outcome_are_in_the_table(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(50)
    thor.emulator.api_key = "renewed"
    run("stop-many", path, "--output", output, "--max-in-flight", 2)
    found = run("status", output)
    assert found.status == 1
    counts = [int(line.split()[-1]) for line in found.out.splitlines()[1:] if "  " in line]
    assert sum(counts) == 50
    assert "not_sent " in found.out
    output.write_bytes(output.read_bytes().split(b'{"ended"')[0])
    assert "no outcome" in run("status", output).out


def test_a_relayed_row_is_not_done_after_a_run_that_watched(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    assert run("status", output).status == 0
    start = output.read_bytes().splitlines(keepends=True)[0]
    with output.open("ab") as file:
        file.write(start.replace(b'"watch":false', b'"watch":true'))
        file.write(b'{"ended":"now"}\n')
    assert run("status", output).status == 1


def test_left_out_rows_are_not_done(
    thor: Thor, run: Run, write: Callable[..., Path], output: Path
) -> None:
    path = write(HEADER, f"A,1,{TAG},5", f"B,0,{TAG},5")
    thor.emulator.start_charge("A", 1, TAG, 5)
    run("stop-many", path, "--output", output, "--skip-bad")
    found = run("status", output)
    assert found.status == 3
    assert "rows left out: 1" in found.out


def test_rows_at_which_nobody_looked_are_left_after_a_run_that_watches(
    thor: Thor, run: Run, fleet: Fleet, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output)
    assert len(remaining(capsys, output, path)[1].splitlines()) == 1
    journal = output.read_text()
    start = journal.splitlines(keepends=True)[0].replace('"watch":false', '"watch":true')
    output.write_text(journal + start)
    status, out, _ = remaining(capsys, output, path)
    assert status == 1
    assert len(out.splitlines()) == 4


def test_the_rows_that_are_left_are_an_input(
    thor: Thor,
    run: Run,
    write: Callable[..., Path],
    output: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = ["A,1,{},5,north", "B,1,{},,south", "C,1,{},7,north"]
    path = write(f"{HEADER},site", *(row.format(TAG) for row in rows))
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.start_charge("B", 1, TAG, 6)
    thor.emulator.start_charge("C", 1, TAG, 7)
    thor.emulator.script(ScriptedAnswer(drop=True), chargebox="B")
    thor.emulator.script("ConnectorNotValid", chargebox="C")
    run("stop-many", path, "--output", output)
    status, out, err = remaining(capsys, output, path)
    assert status == 1
    assert TAG not in err
    assert "3 of 3 commands" in err
    _, south, north = csv.reader(io.StringIO(out))
    assert out.splitlines()[0] == f"{HEADER},as_of,site"
    assert south[:4] == ["B", "1", TAG, ""]
    assert south[5] == "south"
    assert north == ["C", "1", TAG, "7", "", "north"]
    left = output.with_name("left.csv")
    left.write_text(out)
    commands = list(read_command_file(str(left)))
    assert [command.chargebox for command in commands] == ["B", "C"]
    assert commands[0].as_of is not None
    assert commands[0].ref == {"site": "south"}


@pytest.mark.usefixtures("throttled_ends")
def test_the_kept_input_is_enough(
    thor: Thor,
    run: Run,
    fleet: Fleet,
    output: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("TooManyRequests", chargebox="box-1")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    run("stop-many", "-", "--output", output)
    status, out, _ = remaining(capsys, output)
    assert (status, out) == (1, f"{HEADER}\nbox-1,1,{TAG}-1,2\n")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status, out, err = remaining(capsys, output)
    assert out == f"{HEADER}\nbox-1,1,***,2\n"
    assert "id_tags are masked on a terminal" in err


@pytest.mark.usefixtures("throttled_ends")
@pytest.mark.parametrize("ref", ['{"chargebox": "x", "n": [1]}', "[1, 2]"])
def test_every_ref_has_a_column(
    thor: Thor,
    run: Run,
    write: Callable[..., Path],
    output: Path,
    capsys: pytest.CaptureFixture[str],
    ref: str,
) -> None:
    row = f'{{"chargebox": "A", "connector": 1, "id_tag": "{TAG}", "transaction": 5'
    path = write(f'{row}, "ref": {ref}}}')
    thor.emulator.script("TooManyRequests")
    run("stop-many", path, "--output", output)
    _, out, _ = remaining(capsys, output, path)
    (cells,) = csv.DictReader(io.StringIO(out))
    assert cells["chargebox"] == "A"
    if ref.startswith("{"):
        assert (cells["ref chargebox"], cells["n"]) == ("x", "[1]")
    else:
        assert cells["ref"] == "[1, 2]"


@pytest.mark.parametrize(
    ("content", "arguments", "problem"),
    [
        (None, [], "cannot read"),
        ("", [], "is empty: no run has begun"),
        ("precious\nthings\n", [], "line 1: not a line of a journal"),
        ('{"a":1}\n', [], "is not a journal of stop-many"),
        ('{"input":"00","rows":1}\n', ["--remaining"], "give the input of the journal as FILE"),
    ],
)
def test_what_is_no_journal(
    run: Run, output: Path, content: str | None, arguments: list[str], problem: str
) -> None:
    if content is not None:
        output.write_text(content)
    result = run("status", output, *arguments)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert problem in result.err


def test_the_input_of_another_journal(run: Run, fleet: Fleet, output: Path) -> None:
    output.write_text('{"input":"00","rows":1}\n')
    result = run("status", output, fleet(1), "--remaining")
    assert result.status == 2
    assert "is the journal of another input" in result.err
