"""An API key in a file that changes while a command runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thor_async import ThorClient, Verdict
from thor_async._events import CallFinished
from thor_async.cli.errors import UsageError
from thor_async.cli.key_file import KeyFile

OLD, NEW = "old-key", "new-key"


def replace_unseen(file: Path, text: str) -> None:
    """Changes the text of a file, but nothing that its status tells."""
    status = file.stat()
    file.write_text(text)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def finished(error: str | None) -> CallFinished:
    return CallFinished(
        index=0,
        chargebox="A",
        connector=1,
        transaction=None,
        ref=None,
        verdict=Verdict.REJECTED,
        error=error,
        reason=None,
        status=403,
        code=error,
        message=None,
        attempts=1,
        elapsed=0.1,
        maybe_applied=False,
        next_step="fix",
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{OLD}\n")
    return file


def test_a_file_that_has_changed_is_read_again(file: Path) -> None:
    key = KeyFile(str(file))
    assert key() == OLD
    file.with_name("new").write_text(f"{NEW}\r\n")
    file.with_name("new").replace(file)
    assert key() == NEW
    assert type(key()) is str


def test_after_a_refusal_the_file_is_read_again_whatever_its_times_say(file: Path) -> None:
    key = KeyFile(str(file))
    key()
    replace_unseen(file, f"{NEW}\n")
    for error in (None, "NotInTransaction"):
        key.note_event(finished(error))
        assert key() == OLD
    key.note_event(finished("APIKeyNotFound"))
    assert key() == NEW


def test_a_file_without_a_key_is_told_when_it_is_used(file: Path) -> None:
    key = KeyFile(str(file))
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="does not hold an API key"):
        key()
    file.unlink()
    with pytest.raises(FileNotFoundError):
        key()


def test_the_key_is_not_shown(file: Path) -> None:
    key = KeyFile(str(file))
    key()
    assert OLD not in repr(vars(key))
    assert ThorClient(key)
