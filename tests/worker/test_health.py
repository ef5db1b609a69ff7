"""The health file of the worker."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from thor_async.worker.health import write_health


def test_the_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "health"
    write_health(file, "running", 3, 19.5, 12)
    with file.open("rb") as first:
        write_health(file, "paused", 0, None, 0)
        # A reader that opened the file before still reads the complete old state.
        old = {"state": "running", "in_hand": 3, "pace": 19.5, "throttled": 12}
        assert msgspec.json.decode(first.read()) == old
    new = {"state": "paused", "in_hand": 0, "pace": None, "throttled": 0}
    assert msgspec.json.decode(file.read_bytes()) == new
    assert [path.name for path in tmp_path.iterdir()] == ["health"]


def test_a_file_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_health(tmp_path / "missing" / "health", "running", 0, None, 0)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "cannot write the health file: No such file or directory"
