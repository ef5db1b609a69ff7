"""What the tests of the journal share: its file, its lines, and the requests that were sent."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.conftest import Run, Thor

Line = dict[str, Any]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def lines(output: Path) -> list[Line]:
    return [msgspec.json.decode(line) for line in output.read_bytes().splitlines()]


def outcomes(output: Path) -> list[Line]:
    return [line for line in lines(output) if "index" in line]


def final(output: Path) -> dict[int, Line]:
    """Returns the last line of each row."""
    return {line["index"]: line for line in outcomes(output)}


def sent(thor: Thor) -> Counter[str]:
    """Returns the number of requests for each chargebox."""
    return Counter(
        request.command.chargebox for request in thor.emulator.ledger.requests if request.command
    )


def refused(run: Run, thor: Thor, *arguments: object) -> str:
    """Asserts that `stop-many` sends nothing, and returns its error."""
    result = run("stop-many", *arguments)
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    assert result.err.count("\n") == 1
    return result.err
