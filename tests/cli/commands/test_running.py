"""`running`: which charges it lists, and what it never shows."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, CommandOutput, Run, Thor
from tests.conftest import KEY, TAG
from thor_async import RunningCharge, ThorClient
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
        list_running().out == "chargebox,connector,id_tag,transaction,alias,date_started,energy\n"
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
