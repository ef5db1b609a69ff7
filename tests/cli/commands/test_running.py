"""`running`: which charges it lists, and what it never shows."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, CommandOutput, Run, Thor
from tests.conftest import KEY, TAG
from thor_async import Chargebox, RunningCharge, ServerError, ThorClient
from thor_async.cli import main
from thor_async.emulator import Lists


@pytest.fixture
def site(thor: Thor) -> Thor:
    """Two charges with their id_tag in the list, and two without."""
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.start_charge("A", 2, TAG + "-2", 6, mode="api")
    thor.emulator.start_charge("B", 1, TAG + "-3", 7)
    thor.emulator.start_charge("C", 1, TAG + "-4", 8, mode="remote")
    return thor


@pytest.fixture
def list_running(capsys: pytest.CaptureFixture[str]) -> Callable[..., CommandOutput]:
    """Like `run`, but id_tags may be on standard output, because `running` lists them."""

    def list_running(*arguments: object) -> CommandOutput:
        status = main(["running", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert TAG not in err
        assert KEY not in out + err
        return CommandOutput(status, out, err)

    return list_running


def rows(result: CommandOutput) -> list[tuple[str, str, str]]:
    found = csv.DictReader(io.StringIO(result.out))
    return [(row["chargebox"], row["connector"], row["id_tag"]) for row in found]


def test_running_names_what_it_leaves_out(
    site: Thor, list_running: Callable[..., CommandOutput]
) -> None:
    result = list_running()
    assert result.status == 1
    assert rows(result) == [("A", "1", TAG), ("B", "1", f"{TAG}-3")]
    assert result.err.splitlines() == [
        "thor-async: chargebox 'A' connector 2 transaction 6: no id_tag, left out: give it by "
        "--tags",
        "thor-async: chargebox 'C' connector 1 transaction 8: no id_tag, left out: give it by "
        "--tags",
    ]


def test_running_with_tags_of_a_file(
    site: Thor, list_running: Callable[..., CommandOutput], write: Callable[..., Path]
) -> None:
    tags = write(HEADER, f"A,2,{TAG}-2,6", "A,2,of-a-later-one,9", f"C,1,{TAG}-4,", "B,1,no,7")
    result = list_running("--tags", tags)
    assert (result.status, result.err) == (0, "")
    assert {row[:2]: row[2] for row in rows(result)} == {
        ("A", "1"): TAG,
        ("A", "2"): f"{TAG}-2",
        ("B", "1"): f"{TAG}-3",
        ("C", "1"): f"{TAG}-4",
    }


def test_a_tag_of_another_transaction_is_not_taken(
    site: Thor, list_running: Callable[..., CommandOutput], write: Callable[..., Path]
) -> None:
    result = list_running("--tags", write(HEADER, "A,2,of-a-later-one,9"))
    assert ("A", "2") not in [row[:2] for row in rows(result)]


def test_running_at_some_chargeboxes(
    site: Thor, list_running: Callable[..., CommandOutput], tmp_path: Path
) -> None:
    names = tmp_path / "names"
    names.write_text("\ufeffB\r\n\n nobody \n", encoding="utf-8")
    result = list_running("--chargeboxes", names)
    assert (result.status, rows(result)) == (0, [("B", "1", f"{TAG}-3")])


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_a_file_of_chargeboxes_in_other_encodings(
    thor: Thor, list_running: Callable[..., CommandOutput], tmp_path: Path, encoding: str
) -> None:
    names = tmp_path / "names"
    names.write_bytes("=Z\xfcrich\r\n'=B\r\n".encode(encoding))
    for chargebox in ("=Z\xfcrich", "=B", "C"):
        thor.emulator.start_charge(chargebox, 1, TAG)
    result = list_running("--chargeboxes", names)
    assert [row[0] for row in rows(result)] == ["'=Z\xfcrich", "'=B"]


@pytest.mark.parametrize("glob", ["Chargebox A", "chargeBOX a*", "*[Aa]"])
def test_running_by_alias(
    site: Thor, list_running: Callable[..., CommandOutput], glob: str
) -> None:
    result = list_running("--alias", glob, "--jsonl")
    (record,) = result.records
    assert record["alias"] == "Chargebox A"
    assert record["transaction"] == 5
    assert result.err.count("left out") == 1


@pytest.mark.parametrize("form", ["--csv", "--jsonl"])
def test_stop_many_reads_the_output(
    site: Thor,
    list_running: Callable[..., CommandOutput],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    listed = list_running(form, "--alias", "*").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    result = run("stop-many", "-")
    assert result.status == 0
    assert {record["ref"]["alias"] for record in result.records} == {"Chargebox A", "Chargebox B"}
    assert {place[0] for place in site.emulator.charges} == {"A", "C"}


def test_on_a_terminal_the_tags_are_masked(
    site: Thor, list_running: Callable[..., CommandOutput], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    result = list_running()
    assert {row[2] for row in rows(result)} == {"***"}
    assert "id_tags are masked on a terminal" in result.err


def test_running_without_a_list(thor: Thor, list_running: Callable[..., CommandOutput]) -> None:
    thor.emulator.lists = Lists(broken=1.0)
    thor.emulator.start_charge("A", 1, TAG)
    result = list_running()
    assert (result.status, result.out) == (2, "")
    assert result.err.endswith(": run thor-async check to find the cause\n")
    assert result.err.count("\n") == 1


def test_nothing_runs(thor: Thor, list_running: Callable[..., CommandOutput]) -> None:
    assert list_running("--jsonl") == (0, "", "")
    assert (
        list_running().out
        == "chargebox,connector,id_tag,transaction,alias,date_started,energy_wh,type\n"
    )


def test_a_charge_without_a_valid_transaction(
    thor: Thor, list_running: Callable[..., CommandOutput], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_list(self: ThorClient, chargebox: str | None = None) -> list[RunningCharge]:
        return [
            RunningCharge(chargebox="A", connector=1, transaction=None, id_tag=TAG),
            RunningCharge(chargebox="B", connector=1, transaction=None),
        ]

    monkeypatch.setattr(ThorClient, "running_charges", read_list)
    result = list_running("--jsonl")
    (record,) = result.records
    assert (record["chargebox"], record["transaction"]) == ("A", None)
    assert "chargebox 'B' connector 1 transaction unknown: no id_tag, left out" in result.err


@pytest.fixture
def aliased(thor: Thor) -> Thor:
    """Two chargeboxes of a site and one of another, with charges of different ages."""
    now = datetime.now(UTC)
    aliases = {"A": "Harbour 1", "B": "Harbour-2b", "C": "Station 1"}
    thor.emulator.aliases.update(aliases)
    for number, chargebox in enumerate(aliases):
        began = now - timedelta(hours=number * 10, seconds=5)
        thor.emulator.start_charge(chargebox, 1, TAG, number + 1, date_started=began)
    return thor


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "ABC"),
        (["--site", "harbour"], "AB"),
        (["--site", "Station", "--chargebox", "C"], "C"),
        (["--older-than", "9h"], "BC"),
        (["--older-than", "9h", "--site", "Harbour"], "B"),
        (["--min-energy", "0"], "ABC"),
        (["--type", "local"], "ABC"),
    ],
)
def test_running_by_filters(
    aliased: Thor,
    list_running: Callable[..., CommandOutput],
    options: list[str],
    expected: str,
) -> None:
    result = list_running("--json", *options)
    assert (result.status, result.err) == (0, "")
    (listed,) = result.records
    assert "".join(row["chargebox"] for row in listed) == expected  # type: ignore[index]
    assert all(row["alias"] for row in listed)  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (
            ["--site", "Harbor"],
            "--site 'Harbor' matches no running charge: the nearest names are 'H",
        ),
        (["--site", "Harbour 1"], "the nearest names are 'Harbour'"),
        (["--alias", "Statoin*"], "the nearest names are 'Station 1'"),
        (["--chargebox", "X"], "the nearest names are 'A', 'B', 'C'"),
        (["--older-than", "2d"], "runs longer than 48.0 h (the oldest: 20.0 h)"),
        (["--min-energy", "90000"], "has taken 90000 Wh (the most: "),
    ],
)
def test_a_filter_that_matches_nothing_says_what_is_near(
    aliased: Thor, list_running: Callable[..., CommandOutput], options: list[str], hint: str
) -> None:
    result = list_running(*options)
    assert (result.status, result.out) == (2, "")
    assert hint in result.err
    assert result.err.count("\n") == 1


def test_a_charge_of_which_the_list_does_not_tell_the_energy(
    thor: Thor, list_running: Callable[..., CommandOutput], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_list(self: ThorClient, chargebox: str | None = None) -> list[RunningCharge]:
        start = datetime.now(UTC) - timedelta(hours=1)
        told = RunningCharge(chargebox="A", connector=1, transaction=5, id_tag=TAG, energy=9000)
        untold = RunningCharge(
            chargebox="B", connector=1, transaction=6, id_tag=TAG, date_started=start
        )
        return [told, untold]

    monkeypatch.setattr(ThorClient, "running_charges", read_list)
    result = list_running("--jsonl", "--min-energy", "5000")
    assert result.status == 1
    assert [record["energy_wh"] for record in result.records] == [9000]
    assert "chargebox 'B' connector 1: no energy in the list, left out" in result.err


def test_which_rows_of_a_file_run_now(
    aliased: Thor, list_running: Callable[..., CommandOutput], write: Callable[..., Path]
) -> None:
    path = write(
        f"{HEADER},note", f"A,1,{TAG},1,x", f"B,1,{TAG},,y", f"C,1,{TAG},9,", f"D,2,{TAG},,"
    )
    result = list_running("--file", path)
    assert result.status == 1
    found = list(csv.DictReader(io.StringIO(result.out)))
    assert [row["running"] for row in found] == ["yes", "yes", "other", "no"]
    assert found[0] == {
        "chargebox": "A",
        "connector": "1",
        "id_tag": TAG,
        "transaction": "1",
        "note": "x",
        "alias": "Harbour 1",
        "running": "yes",
    }
    assert result.err == (
        "thor-async: of 4 rows, 2 run now, 1 are not in the list, and at 1 another charge runs\n"
    )


def test_without_the_list_of_chargeboxes_the_aliases_are_left_out(
    aliased: Thor, list_running: Callable[..., CommandOutput], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: ThorClient) -> list[Chargebox]:
        raise ServerError("down", status=503)

    monkeypatch.setattr(ThorClient, "chargeboxes", fail)
    result = list_running()
    assert result.status == 0
    assert "no aliases, because of the list of chargeboxes: down" in result.err
    assert list_running("--site", "Harbour").status == 2
