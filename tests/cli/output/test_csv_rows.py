"""CSV of ours: every text comes back as it was, and no cell is a formula."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_async import StopCharge
from thor_async.cli.input.command_file import CommandFile
from thor_async.cli.output.csv_rows import find_columns, format_csv, make_row

names = st.text(
    st.sampled_from("'=+-@ \xa0\u201c0.E9aN\",;") | st.characters(exclude_categories=["Cc", "Cs"]),
    min_size=1,
).filter(lambda name: name.strip() and not {"\u2028", "\u2029"} & set(name))


def write(*commands: StopCharge) -> str:
    return "".join(format_csv(find_columns(commands), map(make_row, commands)))


def read(text: str) -> list[StopCharge]:
    command_file = CommandFile("rows", text.encode())
    assert not command_file.bad_rows.count, command_file.bad_rows.lines
    return list(command_file)


@given(names, names, st.text())
def test_a_command_comes_back_as_it_was(chargebox: str, id_tag: str, note: str) -> None:
    command = StopCharge(chargebox, 1, id_tag, 5, ref={"note": note})
    assert read(write(command)) == [command]


@pytest.mark.parametrize("note", ["a\r", "\r", "a\rb", "a\nb", "a\r\nb", "\x1b[2J", "a\x00"])
def test_no_line_end_tears_a_row(note: str) -> None:
    commands = [StopCharge("A", 1, "T", 5, ref={"note": note}), StopCharge("B", 1, "T", 6)]
    text = write(*commands)
    assert len(list(csv.reader(io.StringIO(text, newline="")))) == 3
    assert [(command.chargebox, command.ref) for command in read(text)] == [
        ("A", {"note": note}),
        ("B", {"note": ""}),
    ]


@pytest.mark.parametrize("name", ["=1+1", "Chargebox", "id tag", "a,b", "x\r", "@x"])
def test_a_column_comes_back_as_it_was(name: str) -> None:
    text = write(StopCharge("A", 1, "T", 5, ref={name: "x"}))
    assert not any(cell.startswith(("=", "@")) for cell in next(csv.reader(io.StringIO(text))))
    ((column, value),) = read(text)[0].ref.items()
    assert value == "x"
    assert column in {name, f"ref {name}"}


def test_numbers_stay_numbers() -> None:
    ref = {"a": -5, "b": 1.5, "c": True, "d": None, "e": [1]}
    text = write(StopCharge("A", 1, "T", 5, ref=ref))
    assert text.splitlines()[1] == "A,1,T,5,-5,1.5,true,,[1]"
