"""The head of a journal: who asked for a run, where, and with which command."""

from __future__ import annotations

import getpass
import platform
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import thor_async
from tests.cli.conftest import HEADER, Fleet, Run, Thor
from tests.cli.output.conftest import final, lines, refused
from tests.conftest import TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.output.run_info import describe_run


def test_a_journal_says_who_asked_for_what(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    run("stop-many", path, "--output", output, "--operator", "Nadia Ferri, night shift")
    start, *_, end = lines(output)
    assert start["operator"] == "Nadia Ferri, night shift"
    assert start["machine"] == platform.node()
    assert start["version"] == thor_async.__version__
    assert start["lists"] == thor.base_url
    assert start["command"] == (
        f"thor-async stop-many {path} --output {output} --operator 'Nadia Ferri, night shift'"
    )
    assert end["failure"] is None


def test_each_run_has_an_id_of_its_own(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script("ChargeboxNotFound", chargebox="box-1")
    arguments = ("stop-many", path, "--output", output)
    run(*arguments)
    run(*arguments, "--resume", "--resend", "fix")
    runs = [line["run"] for line in lines(output) if "input" in line]
    assert len(set(runs)) == len(runs) == 2
    assert all(len(text) == 12 for text in runs)


def test_the_operator_is_the_login_name_by_default() -> None:
    args = Namespace(operator=None, command_line="")
    assert describe_run(args, "").operator == getpass.getuser()


@pytest.mark.parametrize("error", [KeyError, OSError, ImportError])
def test_without_a_login_name_the_operator_is_unknown(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail() -> str:
        raise error("no such user")

    monkeypatch.setattr(getpass, "getuser", fail)
    assert describe_run(Namespace(operator=None, command_line=""), "").operator is None


def test_an_operator_of_any_bytes_can_be_written() -> None:
    args = Namespace(operator="\udce9\x1b", command_line="")
    assert describe_run(args, "").operator == "\\udce9\\x1b"


def test_an_early_end_is_in_the_journal(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    thor.emulator.always("APIKeyNotFound")
    run("stop-many", fleet(3), "--output", output, "--max-in-flight", 1)
    assert "APIKeyNotFound" in lines(output)[-1]["failure"]


def test_the_rows_left_out_are_in_the_journal(
    thor: Thor, run: Run, write: Callable[..., Path], output: Path
) -> None:
    path = write(HEADER, f"A,1,{TAG},1", f"B,zero,{TAG},2")
    thor.emulator.fill(read_command_file(str(path), skip_bad=True))
    run("stop-many", path, "--skip-bad", "--output", output)
    start = lines(output)[0]
    assert start["left_out"] == 1
    [row] = start["left_out_rows"]
    assert row.startswith(f"{path} line 3: ")


OLD: list[dict[str, object]] = [
    {
        "journal": 1,
        "input": "",
        "rows": 3,
        "left_out": 0,
        "address": "",
        "resend": [],
        "watch": False,
    }
    | {"started": "2026-01-31T18:00:00.000Z"},
    {"line": 2, "at": "2026-01-31T18:00:00.100Z", "index": 0, "chargebox": "box-0", "connector": 1}
    | {"transaction": 1, "ref": None, "verdict": "relayed", "code": None, "status": None}
    | {"message": None, "attempts": 1, "elapsed": 0.1, "maybe_applied": False, "next_step": "done"},
    {"ended": "2026-01-31T18:00:01.000Z"},
]


def test_a_journal_of_an_older_version_goes_on(
    thor: Thor, run: Run, fleet: Fleet, output: Path
) -> None:
    path = fleet(3)
    command_file = read_command_file(str(path))
    thor.emulator.fill(command_file)
    start = OLD[0] | {"input": command_file.digest, "address": thor.base_url}
    output.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in [start, *OLD[1:]]))
    assert "2 not_sent" not in run("status", output).out
    page = output.with_name("page.html")
    assert run("stop-many", path, "--output", output, "--resume", "--report", page).status == 0
    assert sorted(final(output)) == [0, 1, 2]
    assert thor.requests == 2


def test_an_operator_must_have_a_name(thor: Thor, run: Run, fleet: Fleet, output: Path) -> None:
    problem = refused(run, thor, fleet(1), "--output", output, "--operator", " ")
    assert "--operator" in problem
