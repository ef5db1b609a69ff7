"""The standard streams of a process: their encoding, closed ones, and what a terminal gets."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, PROCESS, Fleet, Run, Start, Thor, finish
from tests.conftest import TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.emulator import ThorEmulator

CLOSED = """
import os, sys
os.close({number})
os.execv(sys.executable, [sys.executable, "-c", {process!r}, *sys.argv[1:]])
"""
CHARGEBOX = "Z\xfcrich-1 \U0001f50c"
ESCAPES = "Harbour\x1b]0;OWNED\x07\x1b[2J\x9b1;1Hall stopped\r\x7f\u202e"

ENCODINGS: dict[str, dict[str, str]] = {
    "UTF-8": {},
    "Windows": {"PYTHONIOENCODING": "cp1252"},
    "UTF-16": {"PYTHONIOENCODING": "utf-16"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.fixture
def alias(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives all chargeboxes of the emulator this alias."""

    def set_alias(alias: str) -> None:
        item = ThorEmulator._chargebox_item
        monkeypatch.setattr(
            ThorEmulator, "_chargebox_item", lambda self, name: item(self, name) | {"alias": alias}
        )

    return set_alias


def run_process(environment: dict[str, str], *arguments: str, stdin: bytes = b"") -> bytes:
    """Returns the bytes on standard output."""
    return subprocess.run(
        [sys.executable, "-c", PROCESS, *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        check=True,
    ).stdout


@pytest.mark.parametrize("form", ["--csv", "--jsonl"])
@pytest.mark.parametrize("environment", ENCODINGS.values(), ids=ENCODINGS)
def test_the_next_command_stops_the_same_chargebox(
    thor: Thor, alias: Callable[[str], None], environment: dict[str, str], form: str
) -> None:
    alias("=1+1 \xe4\r")
    thor.emulator.start_charge(CHARGEBOX, 1, TAG, 5)
    listed = run_process(environment, "running", form, "--alias", "*")
    assert CHARGEBOX.encode() in listed
    out = run_process(environment, "stop-many", "-", stdin=listed)
    assert CHARGEBOX.encode() in out
    assert b"=1+1 \xc3\xa4\\r" in out
    assert not thor.emulator.charges


@pytest.mark.parametrize(
    "arguments",
    [
        ["running", "--alias", "*"],
        ["running", "--alias", "*", "--jsonl"],
        ["stop-running", "--alias", "*"],
    ],
    ids=" ".join,
)
def test_an_alias_cannot_control_the_terminal(
    thor: Thor, start: Start, alias: Callable[[str], None], arguments: list[str]
) -> None:
    alias(ESCAPES)
    thor.emulator.start_charge("A", 1, TAG, 5)
    keyboard, other = pty.openpty()
    process = start(*arguments, stdout=other)
    assert finish(process).status == 0
    screen = os.read(keyboard, 65_536).decode()
    os.close(other)
    os.close(keyboard)
    assert "Harbour" in screen
    assert screen.replace("\r\n", "").isprintable()


def test_no_report_has_escapes(
    thor: Thor, run: Run, alias: Callable[[str], None], tmp_path: Path
) -> None:
    alias(ESCAPES)
    thor.emulator.start_charge("A", 1, TAG, 5)
    report = tmp_path / "report.html"
    assert run("stop-running", "--alias", "*", "--report", report).status == 0
    assert r"Harbour\x1b]0;OWNED" in report.read_text()
    assert report.read_text().replace("\n", "").isprintable()


def test_a_file_name_that_is_no_text(thor: Thor, start: Start) -> None:
    result = finish(start("stop-many", os.fsdecode(b"no-such-\xff")))
    assert result.status == 2
    assert result.err.startswith(r"thor-async: cannot read no-such-\udcff (No such file")


def start_closed(start: Start, number: int, *arguments: object) -> subprocess.Popen[str]:
    return start(*arguments, code=CLOSED.format(number=number, process=PROCESS))


@pytest.mark.parametrize(
    "arguments",
    [
        ["running"],
        ["stop", "A", "1", TAG],
        ["stop-many", "FLEET"],
        ["stop-many", "FLEET", "--dry-run", "--output", "OUT"],
        ["demo"],
    ],
    ids=" ".join,
)
def test_a_closed_standard_output_sends_nothing(
    thor: Thor, start: Start, fleet: Fleet, tmp_path: Path, arguments: list[str]
) -> None:
    names = {"FLEET": fleet(1), "OUT": tmp_path / "out.jsonl"}
    process = start_closed(start, 1, *(names.get(argument, argument) for argument in arguments))
    assert finish(process) == (
        2,
        "",
        "thor-async: standard output is closed: send it to a file, or to /dev/null\n",
    )
    assert thor.requests == 0


@pytest.mark.parametrize("number", [0, 1, 2])
def test_with_a_journal_no_stream_is_needed(
    thor: Thor, start: Start, fleet: Fleet, tmp_path: Path, number: int
) -> None:
    path, output = fleet(3), tmp_path / "out.jsonl"
    thor.emulator.fill(read_command_file(str(path)))
    result = finish(start_closed(start, number, "stop-many", path, "--output", output))
    assert (result.status, result.out) == (0, "")
    # Nothing but the journal was written to the file that could have got the number.
    assert all(line.startswith(b"{") for line in output.read_bytes().splitlines())
    assert len(output.read_bytes().splitlines()) == 5


def test_a_closed_standard_error_loses_only_messages(
    thor: Thor, start: Start, fleet: Fleet
) -> None:
    path = fleet(3)
    thor.emulator.fill(read_command_file(str(path)))
    result = finish(start_closed(start, 2, "stop-many", path))
    assert (result.status, len(result.records), result.err) == (0, 3, "")
    assert finish(start_closed(start, 2, "stop-many", "no-such-file")).status == 2


@pytest.mark.parametrize("more", [[], ["--resume", "--output", "OUT"]])
def test_a_closed_standard_input_is_empty(
    thor: Thor, start: Start, tmp_path: Path, more: list[str]
) -> None:
    more = [str(tmp_path / "out.jsonl") if argument == "OUT" else argument for argument in more]
    process = start_closed(start, 0, "stop-many", "-", *more)
    result = finish(process)
    assert result.status == 2
    assert result.err == (
        "thor-async: standard input line 1: no column chargebox, connector, id_tag: put "
        f"{HEADER} into the first line\n"
    )


def test_ctrl_c_while_python_imports(start: Start, tmp_path: Path) -> None:
    slow = "print('importing', flush=True)\nimport time\ntime.sleep(60)\n"
    (tmp_path / "aiohttp.py").write_text(slow)
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from thor_async.__main__ import main\n"
        "sys.exit(main())\n"
    )
    process = start("demo", code=code)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(2)
    assert finish(process) == (130, "", "thor-async: interrupted\n")


def test_in_the_background_ctrl_c_stays_ignored(start: Start) -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from thor_async.__main__ import main\n"
        "status = main()\n"
        "print(signal.getsignal(signal.SIGINT).name)\n"
        "sys.exit(status)\n"
    )
    result = finish(start("--help", code=code))
    assert (result.status, result.last) == (0, "SIG_IGN")


def test_the_command_begins_in_a_module_that_imports_nothing_slow() -> None:
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert settings["project"]["scripts"] == {"thor-async": "thor_async.__main__:main"}
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["thor_async"]
