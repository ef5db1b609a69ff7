"""Progress and tables, on a terminal and in a file."""

from __future__ import annotations

import io
import sys

import pytest

from tests.cli.conftest import NO_OVERCLAIMS, Run
from thor_async.cli import main
from thor_async.cli.output import console
from thor_async.cli.output.stats import BatchStats


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_a_terminal_gets_a_bar(terminal: Terminal) -> None:
    with console.progress(3, BatchStats(), terminal) as advance:
        advance()
        advance()
    assert "━" in terminal.getvalue()
    assert "2/3" in terminal.getvalue()


@pytest.mark.parametrize("missing", [True, False])
def test_plain_lines_without_rich_or_when_not_live(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with console.progress(30, BatchStats(), terminal, live=missing) as advance:
        for _ in range(30):
            advance()
    assert terminal.getvalue() == "".join(f"{count} of 30: \n" for count in range(3, 31, 3))


def test_the_demo_in_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["demo", "--charges", "8"]) == 0
    assert "8/8" in terminal.getvalue()
    assert "┃" in terminal.getvalue()
    assert terminal.getvalue().endswith(f"\n{NO_OVERCLAIMS.format(8)}\n")


def test_no_colour_into_a_file_even_when_it_is_forced(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run("demo", "--charges", 4).last == NO_OVERCLAIMS.format(4)
