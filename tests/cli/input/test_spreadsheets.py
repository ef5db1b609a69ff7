"""What spreadsheets do to identifiers: it is named, and no text of ours looks like it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cli.conftest import HEADER, Run, Thor
from tests.conftest import TAG
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.input.csv_format import parse_text
from thor_async.cli.input.spreadsheets import LeadingZeros, find_damage, find_marked, mark

DAMAGED = [
    ("1.28474E+10", "is a number that was rounded: format the column as text and enter it again"),
    ("1,28474E+10", "is a number that was rounded"),
    ("1e-05", "is a number that was rounded"),
    ("12847382.0", "is a number with decimals"),
    ('="0012"', "is a formula: keep only what is between its quotes"),
    ("NaN", "is a word for a missing value: enter it"),
    ("null", "is a word for a missing value"),
    ("#N/A", "is a word for a missing value"),
    ("#NAME?", "is a word for a missing value"),
    ("#DIV/0!", "is a word for a missing value"),
    ("N/A", "is a word for a missing value"),
    ("'0012", "begins with an apostrophe: remove it"),
    ("'A-1'", "begins with an apostrophe"),
    ("\u201c0012\u201d", "has typographic quotes: remove them"),
    ("\u201e0012", "has typographic quotes"),
    ("0012\xa0", "has U+00A0, which cannot be seen: remove it"),
    ("00\xa012", "has U+00A0"),
    ("\u200b0012", "has U+200B"),
    ("\ufeff0012", "has U+FEFF"),
    ("Z\ufffdrich", "has U+FFFD in place of a character that was lost: enter it again"),
]
SOUND = [
    "0012",
    "1E10",
    "12E4567",
    "EaJ7cU9NJ3YkTNgy",
    "Z\xfcrich 1",
    "O\u2019Hare-1",
    "a.0",
    "'s-Hof",
    "-1",
    "=A",
]


@pytest.mark.parametrize("column", ["chargebox", "id_tag"])
@pytest.mark.parametrize(("text", "damage"), DAMAGED)
def test_damaged_identifiers_are_named_by_line(
    thor: Thor, run: Run, write: Callable[..., Path], column: str, text: str, damage: str
) -> None:
    cell = '"{}"'.format(text.replace('"', '""'))
    row = f"{cell},1,{TAG}," if column == "chargebox" else f"A,1,{cell},"
    result = run("stop-many", write(HEADER, f"A,1,{TAG},", row))
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    assert f"line 3: {column} {damage}" in result.err
    assert text not in result.err


@pytest.mark.parametrize("text", SOUND)
def test_sound_identifiers_are_read(write: Callable[..., Path], text: str) -> None:
    assert find_damage(text) is None
    (command,) = read_command_file(str(write(HEADER, f"{text},1,{text},")))
    assert (command.chargebox, command.id_tag) == (text, text)


@pytest.mark.parametrize("begin", list("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
def test_no_cell_of_ours_is_a_formula(begin: str) -> None:
    assert mark(f"{begin}1+1").removesuffix("'") == f"'{begin}1+1"


@pytest.mark.parametrize("text", ["", "A", "'s-Hof", "A'", "''s-Hof", "a = b"])
def test_most_texts_need_no_mark(text: str) -> None:
    assert mark(text) == text


texts = st.text(st.sampled_from("'=+-@ \t\r\n\xa0\u201c0.E9aN\"")) | st.text()


@given(texts)
@example("'=a'")
@example("''0'")
@example("''0")
@example("' '")
@example("'")
@example("''=a ")
@example("=a '")
def test_a_marked_text_is_read_as_it_is(text: str) -> None:
    cell = mark(text)
    assert parse_text(cell) == parse_text(f" {cell}\t") == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert find_marked(cell) == (None if cell == text else text)
    assert cell != text or find_damage(cell) is None


@pytest.mark.parametrize(
    ("numbers", "short"),
    [
        (["0012847382", "12847382", "T", "0012847383", "8473820000"], [2]),
        (["12847382", "0012847382", "7"], [1, 3]),
        (["12847382", "7", "0"], []),
        (["007", "00123456789012345678", "008", "123", "12"], [5]),
        (["007", "1" * 300], []),
    ],
)
def test_numbers_without_their_zeros(numbers: list[str], short: list[int]) -> None:
    zeros = LeadingZeros()
    for line, number in enumerate(numbers, 1):
        zeros.add(number, line)
    assert zeros.find_short() == short
