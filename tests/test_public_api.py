"""The public API keeps what the last release had; see `tests/public_api.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

import thor_async
from tests.documents import DOCUMENTS
from tests.public_api import added_parameters, describe

RELEASES = Path(__file__).parent / "releases"


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def last_release() -> tuple[str, set[str]]:
    path = max(RELEASES.glob("*.txt"), key=lambda path: version(path.stem))
    return path.stem, set(path.read_text().splitlines())


def test_nothing_of_the_last_release_is_broken() -> None:
    """Before 1.0 a new minor version may break, and the changelog names what."""
    name, before = last_release()
    after = set(describe())
    broken = sorted(before - after) + added_parameters(before, after)
    if version(thor_async.__version__)[:2] > version(name)[:2] and "CHANGELOG.md" in DOCUMENTS:
        told = DOCUMENTS["CHANGELOG.md"].partition(f"## [{name}]")[0]
        broken = [line for line in broken if line.split("(")[0].split(".")[-1] not in told]
    assert broken == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a.f", "a.g"}, {"a.f"}),
        ({"a.f", "a.f(x by name)"}, {"a.f"}),
        ({"a.f", "a.f(x by name)"}, {"a.f", "a.f(x by name required)"}),
        ({"a.f", "a.f(x by position)"}, {"a.f", "a.f(x by name)"}),
        ({"a.f"}, {"a.f", "a.f(x by position required)"}),
    ],
)
def test_a_break_is_found(before: set[str], after: set[str]) -> None:
    assert sorted(before - after) + added_parameters(before, after)


@pytest.mark.parametrize(
    "line",
    [
        "thor_async.ThorClient(timeout by name)",
        "thor_async.ThorClient.stop_charge(command by position required)",
        "thor_async.StopCharge(as_of by name)",
        "thor_async.NotInTransaction is a DomainError",
        "thor_async.StopOutcome.next_step",
        "thor_async.otel.Telemetry",
        "thor_async.emulator.ThorEmulator.set_limits",
    ],
)
def test_the_lines_describe_the_api(line: str) -> None:
    assert line in describe()
