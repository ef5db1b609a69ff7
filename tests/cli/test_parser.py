"""What cannot be used, help, and the terminal: one line with the cure, never a traceback."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import HONEST, Run, Start, Thor, finish
from tests.conftest import KEY, TAG
from thor_async.cli import main
from thor_async.cli.output import console
from thor_async.cli.output.stats import BatchStats


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ([], "required: COMMAND"),
        (["halt"], "choose from"),
        (["stop", "A", "1"], "required: ID_TAG"),
        (["stop", "A", TAG, "1"], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "1_0", TAG], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "9" * 19, TAG], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "0", TAG], "connector must be an int of at least 1, not 0"),
        (["stop", "", "1", TAG], "chargebox must not be empty"),
        (["stop", "A", "1", TAG + "\n"], "id_tag must not hold control characters"),
        (["stop", "A", "1", TAG, "--transaction", TAG], "--transaction: must be a whole number"),
        (["stop", "A", "1", TAG, "--transaction", "0"], "leave it out when it is not known"),
        (["stop", "A", "1", "04", TAG], "too many arguments (1): quote what has blanks"),
        (["stop", "A", "1", TAG, "--api-key", KEY], "too many arguments (2)"),
        (["stop", "A", "1", TAG, "--trans", "5"], "too many arguments (2)"),
        (["stop", "A", "1", TAG, "--base-url", "x"], "base_url must be an address like https://"),
        (["stop", "A", "1", TAG, "--base-url", "http://x.example"], "use https"),
        (["stop-many", "no-such-file"], "cannot read no-such-file (No such file or directory)"),
        (["stop-many", "."], "cannot read . (Is a directory)"),
        (["stop-many", "x", "--yes"], "--yes needs --at-most N beside it"),
        (["stop-many", "x", "--output", "-"], "leave it out to write to standard output"),
        (["stop-many", "x", "--resume"], "--resume needs --output FILE"),
        (["stop-many", "x", "--resend-unknown"], "--resend-unknown needs --resume"),
        (["stop-many", "x", "--wait", "5", "--within", "9"], "give one of them"),
        (["stop-many", "x", "--within", "nan"], "--within: must be seconds, more than 0"),
        (["stop-many", "x", "--over", "soon"], "--over: must be seconds, more than 0"),
        (["stop-many", "x", "--at-most", "0"], "--at-most: must be at least 1"),
        (["stop-many", "x", "--report", "fleet.csv"], "give it a name that ends with .html"),
        (["stop-many", "x", "--report", "/no/folder/a.html"], "cannot write /no/folder/a.html"),
        (["stop", "A", "1", TAG, "--api-key-file", "no-such-file"], "give the file of the key"),
        (["running", "--tags", "no-such-file"], "cannot read no-such-file"),
        (["running", "--chargeboxes", "no-such-file"], "give one chargebox a line"),
        (["demo", "--charges", "0"], "--charges: must be at least 1"),
        (["demo", "--charges", "5", "--fleet", "x"], "not allowed with argument --charges"),
        (["demo", "--fleet", "no-such-file"], "cannot read no-such-file"),
        (["demo", "--faults", "1.5"], "give a number from 0 to 1"),
        (["demo", "--faults", "0.1", "--story", "outage"], "not allowed with argument --faults"),
        (["demo", "--story", "outage", "--charges", "299"], "give at least 300"),
        (["demo", "--story", "next-driver", "--charges", "9"], "leave --charges and --fleet out"),
        (["demo", "--story", "next-driver", "--fleet", "x"], "leave --charges and --fleet out"),
        (["emulate", "--fleet", "no-such-file"], "cannot read no-such-file"),
    ],
)
def test_bad_usage_is_one_line_with_the_cure(
    thor: Thor, run: Run, arguments: list[str], cure: str
) -> None:
    said = run(*arguments)
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert said.err.startswith("thor-async")
    assert cure in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["stop A 1 T", "stop-many fleet.csv", "check", "running"])
@pytest.mark.parametrize("key", [None, "", f"{KEY} "])
def test_a_missing_or_bad_key(
    thor: Thor,
    run: Run,
    fleet: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    key: str | None,
) -> None:
    monkeypatch.chdir(fleet(3).parent)
    monkeypatch.delenv("THOR_API_KEY")
    if key is not None:
        monkeypatch.setenv("THOR_API_KEY", key)
    said = run(*command.split())
    cure = "copied with it" if key else "set THOR_API_KEY, or give --api-key-file"
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert said.err.endswith(f"{cure}\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("port", [None, "65536"])
def test_a_port_that_cannot_be_had(thor: Thor, start: Start, port: str | None) -> None:
    taken = thor.base_url.split(":")[2].split("/")[0]
    said = finish(start("emulate", "--port", port or taken))
    assert (said.status, said.out) == (2, "")
    assert ("give 0 to 65535" if port else "give another --port") in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "command", ["check", "demo", "emulate", "running", "stop", "stop-many", "worker", None]
)
def test_help_has_an_example(run: Run, command: str | None) -> None:
    said = run(*[command] if command else [], "--help")
    assert (said.status, said.err) == (0, "")
    assert said.out.count(f"example: thor-async {command or 'demo'}") == 1
    assert max(map(len, said.out.splitlines())) <= 100


def test_help_of_the_module_brings_nothing_slow() -> None:
    code = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('thor_async.cli', run_name='__main__')\n"
        "except SystemExit as end: print('left with', end.code)\n"
        "slow = {'rich', 'thor_async.emulator', 'aiohttp.web', 'faststream'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.startswith("usage: thor-async ")
    assert out.endswith("left with 0\n[]\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_a_terminal_gets_a_bar(terminal: Terminal) -> None:
    with console.progress(3, BatchStats(), terminal) as tick:
        tick()
        tick()
    assert "━" in terminal.getvalue()
    assert "2/3" in terminal.getvalue()


@pytest.mark.parametrize("missing", [True, False])
def test_plain_lines_without_rich_or_when_not_live(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with console.progress(30, BatchStats(), terminal, live=missing) as tick:
        for _ in range(30):
            tick()
    assert terminal.getvalue() == "".join(f"{count} of 30: \n" for count in range(3, 31, 3))


def test_the_demo_in_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["demo", "--charges", "8"]) == 0
    assert "8/8" in terminal.getvalue()
    assert "┃" in terminal.getvalue()
    assert terminal.getvalue().endswith(f"\n{HONEST.format(8)}\n")


def test_no_colour_into_a_file_even_when_it_is_forced(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run("demo", "--charges", 4).last == HONEST.format(4)
