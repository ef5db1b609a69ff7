"""Tables, on a terminal and in a file."""

from __future__ import annotations

import io
import sys
from collections import Counter

import pytest

from tests.cli.conftest import NO_OVERCLAIMS, Run
from tests.cli.output.conftest import Terminal
from thor_async.cli import main
from thor_async.cli.output.console import print_table
from thor_async.cli.output.stats import Kind

KINDS = Counter(
    {
        Kind("relayed", "", "stopped", "done"): 1_200,
        Kind("rejected", "ChargeboxNotFound", "", "fix"): 30,
    }
)


def test_a_table_in_a_terminal_that_is_too_narrow_is_a_list(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(KINDS, terminal)
    assert (
        terminal.getvalue() == "1,200 relayed stopped: done\n30 rejected ChargeboxNotFound: fix\n"
    )


def test_a_table_in_a_terminal_without_a_cursor_is_plain(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    print_table(KINDS, terminal)
    plain = io.StringIO()
    print_table(KINDS, plain)
    assert terminal.getvalue() == plain.getvalue()
    assert plain.getvalue().isascii()


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
