"""Files of commands: bad rows, duplicates, and the memory a row needs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, Run, Thor
from tests.conftest import TAG
from thor_async.cli.errors import UsageError
from thor_async.cli.input import command_file
from thor_async.cli.input.command_file import CommandFile, read_command_file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_with_and_without_its_mark(write: Callable[..., Path], encoding: str) -> None:
    (command,) = read_command_file(str(write(HEADER, "Gar\xe9,1,T,", encoding=encoding)))
    assert command.chargebox == "Gar\xe9"


def test_every_bad_row_is_named_and_nothing_is_sent(
    thor: Thor, run: Run, write: Callable[..., Path]
) -> None:
    path = write(
        HEADER,
        f"A,1,{TAG},5",
        f"B,two,{TAG},5",
        "",
        f"C,1.5,{TAG},5",
        f'"D\nD",1,{TAG},5',
        f"E,1,{TAG},0",
        "F,1,,5",
        f"G,{TAG},1,5",
        f"H,1,{TAG}",
        f"I,1,{TAG},5,{TAG}",
        f"J,1,{TAG},{TAG}",
        f'K,1,"{TAG}"x,5',
        f",1,{TAG},5",
        f'L,1,{TAG},"5',
        f"M,1,{TAG},5",
    )
    result = run("stop-many", path)
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    whole = "must be a whole number of digits only"
    assert result.err.replace(f"thor-async: {path} ", "").splitlines() == [
        f"line 3: connector {whole}",
        f"line 5: connector {whole}",
        r"line 6: chargebox must not hold control characters, not 'D\nD': clean it",
        "line 8: transaction must be at least 1, not 0: leave it out when it is not known",
        "line 9: id_tag must not be empty or blank",
        f"line 10: connector {whole}",
        "line 11: 3 cells under 4 columns: add or quote what is missing",
        "line 12: 5 cells under 4 columns: add or quote what is missing",
        f"line 13: transaction {whole}",
        "line 14: not CSV (',' expected after '\"'): "
        "look for a quote that is not closed or not doubled",
        "line 15: chargebox must not be empty or blank, not ''",
        "line 16: not CSV (unexpected end of data): "
        "look for a quote that is not closed or not doubled",
        "thor-async: nothing was sent: correct the bad rows (12), or leave them out by --skip-bad",
    ]


def test_a_file_that_is_not_utf_8(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    path = write(HEADER, f"A,1,{TAG},", f"Gar\x9d,1,{TAG},", encoding="latin-1")
    result = run("stop-many", path)
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    assert result.err.endswith("line 3: not UTF-8: save it as CSV in UTF-8\n")


def test_the_error_of_a_file_carries_nothing_of_it(write: Callable[..., Path]) -> None:
    path = write(HEADER, f"Gar\x9d,1,{TAG},", encoding="latin-1")
    with pytest.raises(UsageError) as raised:
        read_command_file(str(path))
    assert raised.value.__context__ is None


def test_of_many_bad_rows_the_first_are_named(
    thor: Thor, run: Run, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(HEADER, *(f"A,x,{TAG},{n}" for n in range(1000)), f"A,1,{TAG},5")
    result = run("stop-many", path)
    *named, more, cure = result.err.splitlines()
    assert [line.split(": ")[1] for line in named] == [f"{path} line {n}" for n in range(2, 22)]
    assert more == "thor-async: and 980 other bad rows"
    assert "correct the bad rows (1,000)" in cure
    result = run("stop-many", path, "--skip-bad", "--output", tmp_path / "out.jsonl")
    assert result.err.count("must be a whole number") == 20
    assert "rows left out: 1,000\n" in result.err


def test_bad_rows_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text("\n".join([HEADER, *(f"A,x,{n},1" for n in range(20_000))]))
    tracemalloc.start()
    kept = CommandFile("fleet.csv", path.read_bytes())
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept.bad_rows.count == 20_000
    assert now - path.stat().st_size < 50_000


def test_a_long_file_shows_how_far_it_is_read(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter(range(0, 1000, 2))
    monkeypatch.setattr(command_file, "monotonic", lambda: next(seconds))
    path = write(HEADER, *(f"A,{n + 1},T,{n + 1}" for n in range(50_000)))
    read_command_file(str(path))
    # Two seconds for every 10,000 rows, and a line every five seconds.
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in lines] == [
        "30,000 rows read, 58 %",
        "50,000 rows read, 100 %",
    ]


def test_a_short_file_shows_nothing(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    read_command_file(str(write(HEADER, "A,1,T,5")))
    assert capsys.readouterr().err == ""


def test_numbers_that_lack_the_zeros_of_the_others(
    thor: Thor, run: Run, write: Callable[..., Path]
) -> None:
    rows = ["0101,1,0012847382,", "102,1,12847382,", "0103,1,8473829999,", "0104,1,T,"]
    result = run("stop-many", write(HEADER, *rows), "--dry-run")
    assert result.status == 0
    warnings = [line.partition(": ")[2].partition(": ")[2] for line in result.err.splitlines()]
    assert warnings == [
        f"the {column} of 1 rows may have lost a leading zero, which others have (line 3): format "
        "the column as text, and enter it again"
        for column in ("chargebox", "id_tag")
    ]


def test_json_lines_have_no_zeros_to_lose(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f'{{"chargebox":"A","connector":1,"id_tag":"{tag}"}}' for tag in ("0012", "12")]
    assert len(read_command_file(str(write(*rows)))) == 2
    assert capsys.readouterr().err == ""


def test_skip_bad_leaves_out_bad_rows(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    result = run("stop-many", write(HEADER, f"B,0,{TAG},", f"A,1,{TAG},5", "C,1"), "--skip-bad")
    assert result.status == 3  # only a person can correct them
    assert [record["chargebox"] for record in result.records] == ["A"]
    assert "line 2: connector must be " in result.err
    assert "line 4: 2 cells under 4 columns" in result.err
    assert "rows left out: 2" in result.err
    assert not thor.emulator.charges


def test_exact_duplicates_go_once(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    path = write(f"{HEADER},x", f"A,1,{TAG},5,u", f"A,1,{TAG},5,u", f' A, 1,"{TAG}",5,u')
    result = run("stop-many", path)
    assert (result.status, thor.requests) == (0, 1)
    assert "duplicates, sent once: 2 (line 3, 4)\n" in result.err


def test_rows_that_differ_in_anything_are_no_duplicates(write: Callable[..., Path]) -> None:
    path = write(f"{HEADER},x", "A,1,T,5,u", "A,1,T,5,v", "A,1,T,,u", "A,2,T,5,u")
    assert len(read_command_file(str(path))) == 4


def test_rows_without_a_transaction_are_duplicates_whatever_their_ref(
    write: Callable[..., Path],
) -> None:
    path = write(f"{HEADER},x,as_of", "A,1,T,,u,", "A,1,T,,v,2026-01-31T18:00:00Z", "A,1,U,,u,")
    command_file = read_command_file(str(path))
    assert [command.id_tag for command in command_file] == ["T", "U"]
    assert command_file.duplicate_lines == [3]


def test_a_row_costs_little_beside_the_file(tmp_path: Path) -> None:
    count = 40_000
    path = tmp_path / "fleet.csv"
    rows = (f"smartbit-{n:011},{n % 4 + 1},{n:020},{n + 1},site-{n % 50}" for n in range(count))
    path.write_text("\n".join([f"{HEADER},site", *rows]))
    read_command_file(str(path))
    tracemalloc.start()
    kept = read_command_file(str(path))
    now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == count
    assert now - path.stat().st_size < 40 * count
    assert most - path.stat().st_size < 200 * count


def test_every_bad_row_is_found_again(write: Callable[..., Path]) -> None:
    path = write(HEADER, *(f"A,{'one' if n % 2 else 1},{TAG},{n + 1}" for n in range(100)))
    command_file = read_command_file(str(path), skip_bad=True)
    found = dict(command_file.find_bad_rows())
    assert list(found) == list(range(3, 103, 2))
    assert all("connector" in fault for fault in found.values())


def test_a_misspelled_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").touch()
    with pytest.raises(UsageError, match=r"cannot read .*: did you mean .*fleet\.csv"):
        read_command_file(str(tmp_path / "fleat.csv"))
    with pytest.raises(UsageError, match="give a CSV file"):
        read_command_file(str(tmp_path / "charges.txt"))
