"""Fleet files: what is read, what is refused, and what is never shown."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import HEADER, Run, Thor
from tests.conftest import TAG
from thor_async.cli.errors import UsageError
from thor_async.cli.input.command_file import read_command_file


def test_columns_in_any_order_with_others_between(write: Callable[..., Path]) -> None:
    path = write("id_tag,note,transaction,chargebox,connector", "T,hi,,A,1", "", '"U,",,7,"B""",2')
    assert [
        (c.chargebox, c.connector, c.id_tag, c.transaction) for c in read_command_file(str(path))
    ] == [
        ("A", 1, "T", None),
        ('B"', 2, "U,", 7),
    ]


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
        f"C,1.0,{TAG},5",
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
    said = run("stop-many", path)
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    whole = "must be a whole number of digits only"
    assert said.err.replace(f"thor-async: {path} ", "").splitlines() == [
        f"line 3: connector {whole}",
        f"line 5: connector {whole}",
        r"line 6: chargebox must not hold control characters, not 'D\nD': clean it",
        "line 8: transaction must be an int of at least 1, not 0: "
        "leave it out when it is not known",
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
        "thor-async: nothing was sent: correct the rows named here (12), "
        "or leave them out by --skip-bad",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], f"line 1: no column {', '.join(HEADER.split(','))}: put {HEADER} into the first line"),
        ([f"connector-1,2,{TAG},3"], f"put {HEADER} into the first line"),
        ([f"A;2;{TAG};3"], f"put {HEADER} into the first line"),
        (["chargebox,connector,idTag"], "no column id_tag, transaction: found 'chargebox,conn"),
        (["Chargebox\tConnector"], "separated by commas, semicolons or tabs"),
        (["chargebox;connector;note"], "no column id_tag, transaction: found 'chargebox;conn"),
        ([f"{HEADER},connector"], "two columns connector: leave one out"),
        ([f'"{HEADER}'], "line 1: not CSV (unexpected end of data)"),
    ],
)
def test_a_header_that_will_not_do(
    thor: Thor, run: Run, write: Callable[..., Path], lines: list[str], message: str
) -> None:
    said = run("stop-many", write(*lines))
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_file_that_is_not_utf_8(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    said = run("stop-many", write(HEADER, f"A,1,{TAG},", f"Gar\xe9,1,{TAG},", encoding="latin-1"))
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert said.err.endswith("line 3: not UTF-8: save it as CSV in UTF-8\n")


def test_the_error_of_a_file_carries_nothing_of_it(write: Callable[..., Path]) -> None:
    path = write(HEADER, f"Gar\xe9,1,{TAG},", encoding="latin-1")
    with pytest.raises(UsageError) as raised:
        read_command_file(str(path))
    assert raised.value.__context__ is None


def commands(path: Path) -> list[tuple[Any, ...]]:
    return [
        (c.chargebox, c.connector, c.id_tag, c.transaction, c.ref)
        for c in read_command_file(str(path))
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_what_spreadsheets_write(tmp_path: Path, separator: str, end: str, quote: str) -> None:
    path = tmp_path / "fleet.csv"
    rows = [("note", *HEADER.split(",")), ("hi", " A ", " 1", "007", ""), ("", "", "", "", "")]
    rows.append(("ho", "B", "2 ", "08", "5"))
    lines = (separator.join(f"{quote}{cell}{quote}" for cell in row) for row in rows)
    path.write_bytes(("\ufeff" + end.join(lines)).encode())
    assert commands(path) == [
        ("A", 1, "007", None, {"note": "hi"}),
        ("B", 2, "08", 5, {"note": "ho"}),
    ]
    assert [read_command_file(str(path)).line(row) for row in (0, 1)] == [2, 4]


def test_separators_within_quotes_and_blanks_around_them(write: Callable[..., Path]) -> None:
    path = write("chargebox; connector; id_tag; transaction; note", '"A" ; "1"; "x;y" ;; "a ""b"""')
    assert commands(path) == [("A", 1, "x;y", None, {"note": 'a "b"'})]


def test_a_row_of_several_lines(write: Callable[..., Path]) -> None:
    path = write(f"{HEADER},note", 'A,1,T,,"one', 'two"', "B,1,T,,x")
    assert [command[4] for command in commands(path)] == [{"note": "one\ntwo"}, {"note": "x"}]
    assert read_command_file(str(path)).line(1) == 4


def test_blank_lines_before_the_header(write: Callable[..., Path]) -> None:
    path = write("", ",,,", HEADER, "A,1,T,")
    assert commands(path) == [("A", 1, "T", None, None)]
    assert read_command_file(str(path)).line(0) == 4


def test_columns_without_a_name_are_nothing(write: Callable[..., Path]) -> None:
    assert commands(write(f"{HEADER},,", "A,1,T,5,,x")) == [("A", 1, "T", 5, None)]


def test_a_time_past_which_a_row_is_not_sent(write: Callable[..., Path]) -> None:
    path = write(f"{HEADER},not_after", "A,1,T,,2026-01-31T18:00:00+01:00", "B,1,T,,")
    first, second = read_command_file(str(path))
    assert first.not_after == datetime(2026, 1, 31, 17, tzinfo=UTC)
    assert (first.ref, second.not_after) == (None, None)


@pytest.mark.parametrize("moment", ["2026-01-31T18:00:00", "soon", "31.01.2026"])
def test_a_time_that_is_none(write: Callable[..., Path], moment: str) -> None:
    with pytest.raises(UsageError, match="line 2: not_after must be "):
        read_command_file(str(write(f"{HEADER},not_after", f"A,1,T,,{moment}")))


def test_json_lines(write: Callable[..., Path]) -> None:
    path = write(
        '{"chargebox":"A","connector":1,"id_tag":"T","transaction":5,"ref":["x"]}',
        "",
        '{"connector":2,"id_tag":"U","chargebox":"B","site":"north","bay":4}',
        '{"chargebox":"C","connector":3,"id_tag":"V","transaction":null}',
    )
    assert commands(path) == [
        ("A", 1, "T", 5, ["x"]),
        ("B", 2, "U", None, {"site": "north", "bay": 4}),
        ("C", 3, "V", None, None),
    ]
    assert read_command_file(str(path)).line(2) == 4


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"chargebox":"A","connector":1}', "no id_tag: add it"),
        (f'{{"chargebox":"A","connector":"1","id_tag":"{TAG}"}}', "connector must be an int"),
        (f'{{"chargebox":"A","connector":true,"id_tag":"{TAG}"}}', "connector must be an int"),
        (f'{{"chargebox":"A","connector":1,"id_tag":"{TAG}"', "not a JSON object"),
        (f'{{"chargebox":"A","connector":1,"id_tag":["{TAG}"]}}', "id_tag must be a str, not a l"),
        (f'["{TAG}"]', "not a JSON object"),
        (
            f'{{"chargebox":"A","connector":1,"id_tag":"{TAG}","ref":1,"x":2}}',
            "ref beside",
        ),
        (f'{{"chargebox":"A","connector":1,"id_tag":"{TAG}","not_after":5}}', "not_after must be"),
    ],
)
def test_json_lines_that_are_bad(
    run: Run, write: Callable[..., Path], line: str, problem: str
) -> None:
    good = f'{{"chargebox":"A","connector":1,"id_tag":"{TAG}"}}'
    said = run("stop-many", write(good, line), "--dry-run")
    assert (said.status, said.out) == (2, "")
    assert f"line 2: {problem}" in said.err


def test_bad_rows_are_left_out_when_that_is_asked_for(
    thor: Thor, run: Run, write: Callable[..., Path]
) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    said = run("stop-many", write(HEADER, f"B,0,{TAG},", f"A,1,{TAG},5", "C,1"), "--skip-bad")
    assert said.status == 1  # two rows were left out
    assert [record["chargebox"] for record in said.records] == ["A"]
    assert "line 2: connector must be " in said.err
    assert "line 4: 2 cells under 4 columns" in said.err
    assert "bad rows, left out: 2" in said.err
    assert not thor.emulator.charges


def test_exact_duplicates_go_once(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    thor.emulator.start_charge("A", 1, TAG, 5)
    path = write(f"{HEADER},x", f"A,1,{TAG},5,u", f"A,1,{TAG},5,u", f' A, 1,"{TAG}",5,u')
    said = run("stop-many", path)
    assert (said.status, thor.requests) == (0, 1)
    assert "exact duplicates, sent once: 2 (line 3, 4)\n" in said.err


def test_rows_that_differ_in_anything_are_no_duplicates(write: Callable[..., Path]) -> None:
    path = write(f"{HEADER},x", "A,1,T,5,u", "A,1,T,5,v", "A,1,T,,u", "A,2,T,5,u")
    assert len(commands(path)) == 4


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
