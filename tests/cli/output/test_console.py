"""Progress and tables, on a terminal and in a file."""

from __future__ import annotations

import io
import sys

import pytest

from tests.cli.conftest import NO_OVERCLAIMS, Run
from thor_async import PaceLowered, PaceRestored
from thor_async.cli import main
from thor_async.cli.output import console
from thor_async.cli.output.allowed_rate import AllowedRate
from thor_async.cli.output.stats import BatchStats, Kind

RELAYED = Kind("relayed", "", "", "done")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_a_terminal_gets_a_bar(terminal: Terminal) -> None:
    with console.progress(3, BatchStats(), terminal, AllowedRate()) as advance:
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
    with console.progress(30, BatchStats(), terminal, AllowedRate(), live=missing) as advance:
        for _ in range(30):
            advance()
    assert terminal.getvalue() == "".join(f"{count} of 30: \n" for count in range(3, 31, 3))


def test_the_time_left_is_by_the_rate_that_thor_allows(terminal: Terminal) -> None:
    allowed, stats = AllowedRate(), BatchStats()
    with console.progress(2000, stats, terminal, allowed, live=False) as advance:
        for number in range(200):
            stats.kinds[RELAYED] += 1
            advance()
            if number == 99:
                allowed(PaceLowered(19.7))
        allowed(PaceRestored(40.0))
        allowed(PaceRestored(None))
    *lines, last = terminal.getvalue().splitlines()
    assert lines == [
        "100 of 2,000: 100 relayed; Thor allows about 20 a second: 96 s left",
        "200 of 2,000: 200 relayed; Thor allows about 20 a second: 91 s left",
        "200 of 2,000: 200 relayed; Thor allows about 40 a second: 45 s left",
    ]
    assert last.startswith("200 of 2,000: 200 relayed; ")
    assert last.endswith(" left; no limit is known")


def test_the_bar_tells_the_rate_that_thor_allows(terminal: Terminal) -> None:
    allowed = AllowedRate()
    with console.progress(2000, BatchStats(), terminal, allowed) as advance:
        advance()
        allowed(PaceLowered(0.5))
    # The console is 80 characters wide.
    assert "Thor allows about 0.5 a second:" in terminal.getvalue()


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
