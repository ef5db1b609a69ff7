"""What stands between a typing mistake and ten thousand live charges: address, number, key."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import HEADER, PROCESS, Run, Start, Thor, finish
from tests.conftest import KEY, TAG
from thor_async.cli import client_factory
from thor_async.cli.input.command_file import read_command_file

Fleet = Callable[[int], Path]
AWAY = ("--base-url", "https://thor.example")


class Terminal(NamedTuple):
    """A terminal, by the end that a person sits at."""

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
    monkeypatch.setattr(client_factory, "TERMINAL", name)
    yield Terminal(keyboard, name)
    os.close(other)
    os.close(keyboard)


@pytest.fixture
def elsewhere(thor: Thor, monkeypatch: pytest.MonkeyPatch) -> Thor:
    """A Thor that is not taken for one of this machine."""
    monkeypatch.setattr(client_factory, "is_loopback", lambda _: False)
    return thor


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8080/x", True),
        ("https://[::1]/x", True),
        ("http://localhost:1", True),
        ("https://localhost.example", False),
        ("https://dev.api.thor.tools/latest/integration", False),
        ("https://10.0.0.1", False),
    ],
)
def test_which_addresses_are_this_machine(address: str, expected: bool) -> None:
    assert client_factory.is_loopback(address) is expected


def test_the_number_that_is_typed_is_the_way_through(
    elsewhere: Thor, run: Run, terminal: Terminal, write: Callable[..., Path]
) -> None:
    path = write(HEADER, f"A,1,{TAG},", f"A,2,{TAG},", f"B,1,{TAG},")
    elsewhere.emulator.fill(read_command_file(str(path)))
    terminal.type("3\n")
    assert run("stop-many", path).status == 0
    screen = terminal.screen()
    assert f"3 charges at 2 chargeboxes through {elsewhere.base_url}." in screen
    assert not elsewhere.emulator.charges


@pytest.mark.parametrize("typed", ["2\n", "\n", "yes\n", "33\n", "\x04"])
def test_anything_else_sends_nothing(
    elsewhere: Thor, run: Run, terminal: Terminal, fleet: Fleet, typed: str
) -> None:
    terminal.type(typed)
    said = run("stop-many", fleet(3))
    assert (said.status, said.out, elsewhere.requests) == (2, "", 0)
    assert said.err == "thor-async: nothing was sent: that was not the number of charges\n"


def test_without_a_terminal_it_takes_two_words(elsewhere: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(3)
    elsewhere.emulator.fill(read_command_file(str(path)))
    said = run("stop-many", path)
    assert (said.status, elsewhere.requests) == (2, 0)
    assert said.err.endswith("give --yes --at-most N to stop them without being asked\n")
    assert run("stop-many", path, "--yes", "--at-most", 3).status == 0


def test_nobody_is_asked_about_nothing(elsewhere: Thor, run: Run, fleet: Fleet) -> None:
    assert run("stop-many", fleet(0)).status == 0


@pytest.mark.parametrize("yes", [True, False])
def test_more_than_at_most_sends_nothing_anywhere(
    thor: Thor, run: Run, fleet: Fleet, yes: bool
) -> None:
    said = run("stop-many", fleet(4), "--at-most", 3, *(["--yes"] if yes else []))
    assert (said.status, thor.requests) == (2, 0)
    assert said.err == "thor-async: 4 charges are more than --at-most 3\n"


def test_a_dry_run_needs_no_key_and_sends_nothing(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THOR_API_KEY")
    output = tmp_path / "out.jsonl"
    said = run("stop-many", fleet(3), "--dry-run", "--output", output, *AWAY)
    assert (said.status, said.err, thor.requests) == (0, "", 0)
    assert said.out == "would stop 3 charges at 3 chargeboxes through https://thor.example\n"
    assert not output.exists()


def test_a_dry_run_of_resume_says_what_is_left(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path
) -> None:
    path, output = fleet(3), tmp_path / "out.jsonl"
    thor.emulator.script("TooManyRequests")
    run("stop-many", path, "--output", output)
    before = output.read_bytes()
    said = run("stop-many", path, "--output", output, "--resume", "--dry-run")
    assert said.out.startswith("would stop 1 charges at 1 chargeboxes ")
    assert said.out.endswith("\n2 others are settled by the runs before\n")
    assert (thor.requests, output.read_bytes()) == (3, before)


# The key


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_key_from_a_file(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("THOR_API_KEY", "another")
    key = tmp_path / "key"
    key.write_bytes(f"{KEY}{end}".encode())
    path = fleet(1)
    thor.emulator.fill(read_command_file(str(path)))
    assert run("stop-many", path, "--api-key-file", key).status == 0


@pytest.mark.parametrize("content", [b"", b"\n", f"{KEY}\nmore".encode(), b"\xff\xfe", b"a b"])
def test_a_file_that_holds_no_key(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path, content: bytes
) -> None:
    key = tmp_path / "key"
    key.write_bytes(content)
    said = run("stop-many", fleet(1), "--api-key-file", key)
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert said.err.count("\n") == 1


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
    # The first terminal that a session's leader opens is its own.
    code = f"import os\nos.open({terminal.name!r}, os.O_RDWR)\n{PROCESS}"
    process = start("stop-many", path, code=code)
    screen = ""
    while "Thor's API key: " not in screen:
        screen += terminal.screen()
    terminal.type(f"{KEY}\n")
    said = finish(process)
    assert said.status == 0
    assert len(said.records) == 2
    assert KEY not in screen + terminal.screen()
