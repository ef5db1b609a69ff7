"""CSV and JSON lines: which rows are read, which are refused, and what is never shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.conftest import HEADER, Run, Thor
from tests.conftest import TAG
from thor_async.cli.errors import UsageError
from thor_async.cli.input.command_file import CommandFile, read_command_file


def commands(path: Path) -> list[tuple[Any, ...]]:
    return [
        (c.chargebox, c.connector, c.id_tag, c.transaction, c.ref)
        for c in read_command_file(str(path))
    ]


def test_columns_in_any_order_with_others_between(write: Callable[..., Path]) -> None:
    path = write("id_tag,note,transaction,chargebox,connector", "T,hi,,A,1", "", '"U,",,7,"B""",2')
    assert [
        (c.chargebox, c.connector, c.id_tag, c.transaction) for c in read_command_file(str(path))
    ] == [
        ("A", 1, "T", None),
        ('B"', 2, "U,", 7),
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
    assert [read_command_file(str(path)).line_number(row) for row in (0, 1)] == [2, 4]


cells = st.lists(st.text(st.sampled_from("A1 \t\xa0;,'\x1c")), min_size=3, max_size=5)


@given(st.lists(cells), st.sampled_from(["\n", "\r", "\r\n"]), st.sampled_from(",;\t"))
def test_a_quote_elsewhere_changes_no_row(table: list[list[str]], end: str, mark: str) -> None:
    header = mark.join(["chargebox", "connector", "id_tag", "note"])
    body = end.join(mark.join(row) for row in table)
    plain, quoted = (
        CommandFile("", end.join([header, body, note]).encode())
        for note in (mark.join(["Z", "1", "Z", "z"]), mark.join(["Z", "1", "Z", '"z"']))
    )
    assert list(plain) == list(quoted)
    assert plain.bad_rows.lines == quoted.bad_rows.lines
    assert plain.line_number(len(plain) - 1) == quoted.line_number(len(quoted) - 1)


def test_separators_within_quotes_and_blanks_around_them(write: Callable[..., Path]) -> None:
    path = write("chargebox; connector; id_tag; transaction; note", '"A" ; "1"; "x;y" ;; "a ""b"""')
    assert commands(path) == [("A", 1, "x;y", None, {"note": 'a "b"'})]


def test_a_row_of_several_lines(write: Callable[..., Path]) -> None:
    path = write(f"{HEADER},note", 'A,1,T,,"one', 'two"', "B,1,T,,x")
    assert [command[4] for command in commands(path)] == [{"note": "one\ntwo"}, {"note": "x"}]
    assert read_command_file(str(path)).line_number(1) == 4


def test_blank_lines_before_the_header(write: Callable[..., Path]) -> None:
    path = write("", ",,,", HEADER, "A,1,T,")
    assert commands(path) == [("A", 1, "T", None, None)]
    assert read_command_file(str(path)).line_number(0) == 4


def test_columns_without_a_name_are_ignored(write: Callable[..., Path]) -> None:
    assert commands(write(f"{HEADER},,", "A,1,T,5,,x")) == [("A", 1, "T", 5, None)]


@pytest.mark.parametrize(
    "header",
    [
        "Chargebox,Connector,Id Tag,Transaction",
        "CHARGEBOX,CONNECTOR,ID_TAG,TRANSACTION",
        "charge box,connector,idTag,transaction",
        "chargebox,connector,id-tag, Transaction ",
    ],
)
def test_headers_in_other_spellings(write: Callable[..., Path], header: str) -> None:
    assert commands(write(f"{header},Site", "A,1,T,5,x")) == [("A", 1, "T", 5, {"Site": "x"})]


def test_no_column_for_the_transaction(write: Callable[..., Path]) -> None:
    assert commands(write("chargebox,connector,id_tag", "A,1,T")) == [("A", 1, "T", None, None)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("line", "mark"),
    [
        ("sep=;", ";"),
        ('"sep=;"', ";"),
        ("sep=;;;;", ";"),
        ("SEP=,", ","),
        ("sep=\t", "\t"),
        ("sep=|", "|"),
        ("sep=x", ";"),
    ],
)
def test_a_line_that_names_the_separator(tmp_path: Path, line: str, mark: str, end: str) -> None:
    path = tmp_path / "fleet.csv"
    header, row = ["chargebox", "connector", "id_tag", "note"], ["A", "1", "T", "a"]
    path.write_text(end.join([line, mark.join(header), mark.join(row), ""]), newline="")
    assert commands(path) == [("A", 1, "T", None, {"note": "a"})]
    assert read_command_file(str(path)).line_number(0) == 3


def test_a_header_of_several_lines(write: Callable[..., Path]) -> None:
    path = write('chargebox,"connector', '",id_tag,"Site', '"', "A,1,T,x")
    assert commands(path) == [("A", 1, "T", None, {"Site": "x"})]
    assert read_command_file(str(path)).line_number(0) == 4


def test_whole_numbers_with_decimals(write: Callable[..., Path]) -> None:
    path = write("chargebox;connector;id_tag;transaction", "A;1.0;T;52.0", "B;2,00;T;53,0")
    assert commands(path) == [("A", 1, "T", 52, None), ("B", 2, "T", 53, None)]


@pytest.mark.parametrize("cell", ["1.5", "1.000", "1,000", "1.", ".0", "1.0.0", "NaN", "1E+0"])
def test_no_whole_number(run: Run, write: Callable[..., Path], cell: str) -> None:
    result = run("stop-many", write("chargebox;connector;id_tag", f"A;{cell};{TAG}"), "--dry-run")
    assert result.status == 2
    assert "line 2: connector must be a whole number of digits only" in result.err


def test_not_after(write: Callable[..., Path]) -> None:
    path = write(f"{HEADER},not_after", "A,1,T,,2026-01-31T18:00:00+01:00", "B,1,T,,")
    first, second = read_command_file(str(path))
    assert first.not_after == datetime(2026, 1, 31, 17, tzinfo=UTC)
    assert (first.ref, second.not_after) == (None, None)


@pytest.mark.parametrize("text", ["2026-01-31T18:00:00", "soon", "31.01.2026"])
def test_bad_times(write: Callable[..., Path], text: str) -> None:
    with pytest.raises(UsageError, match="line 2: not_after must be "):
        read_command_file(str(write(f"{HEADER},not_after", f"A,1,T,,{text}")))


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
    assert read_command_file(str(path)).line_number(2) == 4


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"chargebox":"A","connector":1}', "no id_tag: add it"),
        (
            f'{{"chargebox":"A","connector":"1","id_tag":"{TAG}"}}',
            "connector must be a whole number without quotes",
        ),
        (
            f'{{"chargebox":"A","connector":true,"id_tag":"{TAG}"}}',
            "connector must be a whole number without quotes",
        ),
        (f'{{"chargebox":"A","connector":1,"id_tag":"{TAG}"', "not a JSON object"),
        (
            f'{{"chargebox":"A","connector":1,"id_tag":["{TAG}"]}}',
            "id_tag must be a text in quotes",
        ),
        (f'["{TAG}"]', "not a JSON object"),
        (
            f'{{"chargebox":"A","connector":1,"id_tag":"{TAG}","ref":1,"x":2}}',
            "ref beside",
        ),
        (f'{{"chargebox":"A","connector":1,"id_tag":"{TAG}","not_after":5}}', "not_after must be"),
    ],
)
def test_bad_json_lines(run: Run, write: Callable[..., Path], line: str, problem: str) -> None:
    good = f'{{"chargebox":"A","connector":1,"id_tag":"{TAG}"}}'
    result = run("stop-many", write(good, line), "--dry-run")
    assert (result.status, result.out) == (2, "")
    assert f"line 2: {problem}" in result.err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], f"line 1: no column chargebox, connector, id_tag: put {HEADER} into the first line"),
        ([f"connector-1,2,{TAG},3"], f"put {HEADER} into the first line"),
        ([f"A;2;{TAG};3"], f"put {HEADER} into the first line"),
        (["chargebox,connector,tag"], "no column id_tag: found 'chargebox,connector,tag'"),
        (["chargebox,connector,idTag,Transaction ID"], "no column transaction, but 'Transaction I"),
        (
            ["chargebox,connector,id_tag,transacton"],
            "no column transaction, but 'transacton': n",
        ),
        (["Chargebox\tConnector"], "separated by commas, semicolons or tabs"),
        (["chargebox;connector;note"], "no column id_tag: found 'chargebox;conn"),
        ([f"{HEADER},connector"], "two columns 'connector': leave one out"),
        ([f"{HEADER},Id Tag"], "two columns 'id_tag': leave one out"),
        ([f'"{HEADER}'], "line 1: not CSV (unexpected end of data)"),
    ],
)
def test_bad_headers(
    thor: Thor, run: Run, write: Callable[..., Path], lines: list[str], message: str
) -> None:
    result = run("stop-many", write(*lines))
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    assert message in result.err
    assert result.err.count("\n") == 1
