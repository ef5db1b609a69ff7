"""The encodings of spreadsheets: what is read, what is warned of, and the bytes that are kept."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, Run, Thor
from tests.conftest import TAG
from thor_async.cli.errors import UsageError
from thor_async.cli.input.command_file import CommandFile, read_command_file

TEXT = f"{HEADER}\r\nGar\xe9,1,{TAG},\r\n"
FORMS = {
    "utf-8": TEXT.encode(),
    "utf-8 with its mark": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16-le with its mark": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16-be with its mark": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-16-le": TEXT.encode("utf-16-le"),
    "utf-16-be": TEXT.encode("utf-16-be"),
    "utf-32": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "windows-1252": TEXT.encode("cp1252"),
    "json lines": '\ufeff{"chargebox":"Gar\xe9","connector":1,"id_tag":"T"}'.encode("utf-16-le"),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_the_text_is_read_and_the_bytes_are_kept(content: bytes) -> None:
    command_file = CommandFile("fleet.csv", content)
    assert [command.chargebox for command in command_file] == ["Gar\xe9"]
    assert command_file.content == content


def test_a_guess_is_said(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    path = write(HEADER, "A,1,T,", "Gar\xe9,1,T,", encoding="cp1252")
    result = run("stop-many", path, "--dry-run")
    assert result.status == 0
    assert result.err == (
        f"thor-async: {path} line 3: not UTF-8, read as Windows-1252: look at its names, or save "
        "it as CSV in UTF-8\n"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"{HEADER}\nGar\xe9,1,T,\n".encode() + b"Gar\xe9,1,T,\n", "line 3: not UTF-8"),
        (f"{HEADER}\n".encode() + b"Gar\xe9,1,T,\nGar\xc3\xa9,1,T,\n", "line 2: not UTF-8"),
        (f"{HEADER}\n".encode() + b"Gar\x81,1,T,\n", "line 2: not UTF-8"),
        (codecs.BOM_UTF8 + HEADER.encode() + b"\nGar\xe9,1,T,\n", "line 2: not UTF-8"),
        (codecs.BOM_UTF16_LE + b"a", "not UTF-16"),
        (b"PK\x03\x04\x14\0", "is a workbook: save it as CSV in UTF-8"),
    ],
)
def test_damaged_text_is_not_guessed(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "fleet.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=problem) as raised:
        read_command_file(str(path))
    assert raised.value.__context__ is None
