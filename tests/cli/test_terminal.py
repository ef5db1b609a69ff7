"""The questions on the terminal: the number of charges, and the key."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import HEADER, PROCESS, Fleet, Run, Start, Thor, finish
from tests.conftest import KEY, TAG
from thor_async.cli import terminal as terminal_module
from thor_async.cli.input.command_file import read_command_file


class Terminal(NamedTuple):
    """A terminal, seen by the person who types on it."""

    keyboard: int
    name: str

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())

    def screen(self) -> str:
        return os.read(self.keyboard, 10_000).decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    keyboard, other = pty.openpty()
    name = os.ttyname(other)
    monkeypatch.setattr(terminal_module, "TERMINAL", name)
    yield Terminal(keyboard, name)
    os.close(other)
    os.close(keyboard)


def test_the_typed_number_of_charges_starts_the_batch(
    remote_thor: Thor, run: Run, terminal: Terminal, write: Callable[..., Path]
) -> None:
    path = write(HEADER, f"A,1,{TAG},", f"A,2,{TAG},", f"B,1,{TAG},")
    remote_thor.emulator.fill(read_command_file(str(path)))
    terminal.type("3\n")
    assert run("stop-many", path).status == 0
    screen = terminal.screen()
    assert f"3 charges at 2 chargeboxes through {remote_thor.base_url}." in screen
    assert not remote_thor.emulator.charges


@pytest.mark.parametrize("typed", ["2\n", "\n", "yes\n", "33\n", "\x04"])
def test_anything_else_sends_nothing(
    remote_thor: Thor, run: Run, terminal: Terminal, fleet: Fleet, typed: str
) -> None:
    terminal.type(typed)
    result = run("stop-many", fleet(3))
    assert (result.status, result.out, remote_thor.requests) == (2, "", 0)
    assert result.err == "thor-async: nothing was sent: the answer was not the number of charges\n"


def test_without_a_terminal_two_options_are_needed(
    remote_thor: Thor, run: Run, fleet: Fleet
) -> None:
    path = fleet(3)
    remote_thor.emulator.fill(read_command_file(str(path)))
    result = run("stop-many", path)
    assert (result.status, remote_thor.requests) == (2, 0)
    assert result.err.endswith(
        "give --yes --at-most COUNT to stop the charges without this question\n"
    )
    assert run("stop-many", path, "--yes", "--at-most", 3).status == 0


def test_the_key_is_asked_for_on_the_terminal_and_not_shown(
    thor: Thor,
    start: Start,
    terminal: Terminal,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("THOR_API_KEY")
    path = fleet(2)
    thor.emulator.fill(read_command_file(str(path)))
    # The first terminal that the leader of a session opens becomes the terminal of the session.
    code = f"import os\nos.open({terminal.name!r}, os.O_RDWR)\n{PROCESS}"
    process = start("stop-many", path, code=code)
    screen = ""
    while "Thor's API key: " not in screen:
        screen += terminal.screen()
    terminal.type(f"{KEY}\n")
    result = finish(process)
    assert result.status == 0
    assert len(result.records) == 2
    assert KEY not in screen + terminal.screen()


@pytest.mark.parametrize(
    ("typed", "requests"), [("yes\n", 120), ("YES \n", 120), ("no\n", None), ("\n", None)]
)
def test_the_question_about_the_environment(
    thor: Thor, run: Run, terminal: Terminal, fleet: Fleet, typed: str, requests: int | None
) -> None:
    terminal.type(typed)
    result = run("stop-many", fleet(120))
    screen = terminal.screen()
    assert f"Thor knows none of the first 50 chargeboxes at {thor.base_url}: this may" in screen
    assert result.status == 3
    if requests is None:
        assert 50 <= thor.requests <= 82
        assert "or give --go-on" in result.err
    else:
        assert thor.requests == requests
        assert "--go-on" not in result.err


async def test_a_signal_ends_the_wait_for_an_answer(terminal: Terminal) -> None:
    interrupted = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, interrupted.set)
    assert not await terminal_module.ask_to_go_on("Go on?", interrupted)
    assert "Go on? Type yes to go on: " in terminal.screen()


async def test_without_a_terminal_the_answer_is_no() -> None:
    assert not await terminal_module.ask_to_go_on("Go on?", asyncio.Event())
