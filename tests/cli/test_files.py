"""Fleet files: what is read, what is refused, and what is never shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, Run, Thor
from tests.conftest import TAG
from thor_async.cli.fleet import read_fleet
from thor_async.cli.problem import BadInput


def test_columns_in_any_order_with_others_between(write: Callable[..., Path]) -> None:
    path = write("id_tag,note,transaction,chargebox,connector", "T,hi,,A,1", "", '"U,",,7,"B""",2')
    assert [(c.chargebox, c.connector, c.id_tag, c.transaction) for c in read_fleet(str(path))] == [
        ("A", 1, "T", None),
        ('B"', 2, "U,", 7),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_with_and_without_its_mark(write: Callable[..., Path], encoding: str) -> None:
    (command,) = read_fleet(str(write(HEADER, "Gar\xe9,1,T,", encoding=encoding)))
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
        "thor-async: nothing was sent: correct the rows named here (12)",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], f"line 1: no column {', '.join(HEADER.split(','))}: put {HEADER} into the first line"),
        ([f"connector-1,2,{TAG},3"], f"put {HEADER} into the first line"),
        ([f"A;2;{TAG};3"], f"put {HEADER} into the first line"),
        (["chargebox,connector,idTag"], "no column id_tag, transaction: found 'chargebox,conn"),
        (["Chargebox\tConnector"], "separate the columns with commas, not tabs"),
        (["chargebox;connector;note"], "'chargebox;connector;note': separate the columns with com"),
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
    with pytest.raises(BadInput) as raised:
        read_fleet(str(path))
    assert raised.value.__context__ is None
