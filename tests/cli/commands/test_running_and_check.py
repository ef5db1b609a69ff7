"""`check` and `running`: what they find out without touching a charge."""

from __future__ import annotations

import csv
import io
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import HEADER, Run, Said, Thor
from tests.conftest import KEY, TAG
from thor_async.emulator import Lists, ScriptedAnswer

# check


def test_check_finds_all_as_it_should_be(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG)
    thor.emulator.start_charge("A", 2, mode="api")
    said = run("check")
    assert (said.status, said.err) == (0, "")
    address, running, stop = said.out.splitlines()
    assert address == f"ok    stops go to {thor.base_url}, lists come from {thor.base_url}"
    assert running == (
        "ok    2 charges run at 1 chargeboxes; of 1 the list hides the id_tag, which a stop needs: "
        "see running --tags"
    )
    assert stop.startswith("ok    a stop at a chargebox that does not exist was answered ")
    assert len(thor.emulator.charges) == 2


def test_check_of_an_empty_list_says_what_that_proves(thor: Thor, run: Run) -> None:
    said = run("check")
    assert said.status == 0
    assert "the list of running charges is empty: if some do run, " in said.out


@pytest.mark.parametrize(
    ("answer", "cure"),
    [
        ("APIKeyNotFound", "take the key from Thor's dashboard"),
        ("RestAPINotEnabled", "enable the integration"),
        ("InvalidSourceIPAddr", "enter the address from which this machine reaches Thor"),
        ("TooManyRequests", "wait a minute"),
        ("NotInTransaction", "not what Thor documents"),
        (ScriptedAnswer(503), "check again later"),
        (ScriptedAnswer(200, b"<html>"), "for a proxy"),
        (ScriptedAnswer(200, b"{}"), "was relayed: what answers there is not Thor"),
        (ScriptedAnswer(drop=True), "not what Thor documents"),
    ],
)
def test_check_of_stops_that_are_not_answered_as_they_should_be(
    thor: Thor, run: Run, answer: ScriptedAnswer | str, cure: str
) -> None:
    thor.emulator.always(answer)
    said = run("check")
    assert (said.status, said.err) == (1, "")
    _, running, stop = said.out.splitlines()
    assert running.startswith("ok ")
    assert stop.startswith("FAIL ")
    assert cure in stop


def test_check_of_a_wrong_key(thor: Thor, run: Run) -> None:
    thor.emulator.api_key = "renewed"
    said = run("check")
    assert said.status == 1
    assert said.out.count("FAIL ") == said.out.count("take the key from") == 2


def test_check_of_lists_that_are_cut(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG)
    thor.emulator.lists = Lists(cut=1.0)
    said = run("check")
    assert said.status == 1
    assert "FAIL  no list of running charges: " in said.out


@pytest.mark.parametrize("reason", ["connect", "dns"])
def test_check_that_finds_nobody(thor: Thor, run: Run, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"http://127.0.0.1:{port}" if reason == "connect" else "https://thor.invalid"
    said = run("check", "--base-url", address)
    assert said.status == 1
    cure = "nobody answers there" if reason == "connect" else "no such host"
    assert said.out.count(cure) == 2
    assert thor.requests == 0


# running


@pytest.fixture
def site(thor: Thor) -> Thor:
    """Two charges that show their tag, and two that do not."""
    thor.emulator.start_charge("A", 1, TAG, 5)
    thor.emulator.start_charge("A", 2, TAG + "-2", 6, mode="api")
    thor.emulator.start_charge("B", 1, TAG + "-3", 7)
    thor.emulator.start_charge("C", 1, TAG + "-4", 8, mode="remote")
    return thor


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """As `run`, but tags are what it is for; they may be on standard output only."""
    from thor_async.cli import main  # noqa: PLC0415 - beside what else it needs

    def ask(*arguments: object) -> Said:
        status = main(["running", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert TAG not in err
        assert KEY not in out + err
        return Said(status, out, err)

    return ask


def rows(said: Said) -> list[tuple[str, str, str]]:
    found = csv.DictReader(io.StringIO(said.out))
    return [(row["chargebox"], row["connector"], row["id_tag"]) for row in found]


def test_running_names_what_it_leaves_out(site: Thor, ask: Callable[..., Said]) -> None:
    said = ask()
    assert said.status == 1
    assert rows(said) == [("A", "1", TAG), ("B", "1", f"{TAG}-3")]
    assert said.err.splitlines() == [
        "thor-async: chargebox 'A' connector 2 transaction 6: no id_tag, left out: give it by "
        "--tags",
        "thor-async: chargebox 'C' connector 1 transaction 8: no id_tag, left out: give it by "
        "--tags",
    ]


def test_running_with_tags_of_a_file(
    site: Thor, ask: Callable[..., Said], write: Callable[..., Path]
) -> None:
    tags = write(HEADER, f"A,2,{TAG}-2,6", "A,2,of-a-later-one,9", f"C,1,{TAG}-4,", "B,1,no,7")
    said = ask("--tags", tags)
    assert (said.status, said.err) == (0, "")
    assert {row[:2]: row[2] for row in rows(said)} == {
        ("A", "1"): TAG,
        ("A", "2"): f"{TAG}-2",
        ("B", "1"): f"{TAG}-3",
        ("C", "1"): f"{TAG}-4",
    }


def test_a_tag_of_another_transaction_is_not_taken(
    site: Thor, ask: Callable[..., Said], write: Callable[..., Path]
) -> None:
    said = ask("--tags", write(HEADER, "A,2,of-a-later-one,9"))
    assert ("A", "2") not in [row[:2] for row in rows(said)]


def test_running_at_some_chargeboxes(site: Thor, ask: Callable[..., Said], tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text("\ufeffB\r\n\n nobody \n", encoding="utf-8")
    said = ask("--chargeboxes", names)
    assert (said.status, rows(said)) == (0, [("B", "1", f"{TAG}-3")])


@pytest.mark.parametrize("glob", ["Chargebox A", "chargeBOX a*", "*[Aa]"])
def test_running_by_the_name_that_people_know(
    site: Thor, ask: Callable[..., Said], glob: str
) -> None:
    said = ask("--alias", glob, "--jsonl")
    (record,) = said.records
    assert record["alias"] == "Chargebox A"
    assert record["transaction"] == 5
    assert said.err.count("left out") == 1


@pytest.mark.parametrize("form", ["--csv", "--jsonl"])
def test_stop_many_takes_it_as_it_is(
    site: Thor, ask: Callable[..., Said], run: Run, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    listed = ask(form, "--alias", "*").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    said = run("stop-many", "-")
    assert said.status == 0
    assert {record["ref"]["alias"] for record in said.records} == {"Chargebox A", "Chargebox B"}
    assert {place[0] for place in site.emulator.charges} == {"A", "C"}


def test_on_a_terminal_the_tags_are_masked(
    site: Thor, ask: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    said = ask()
    assert {row[2] for row in rows(said)} == {"***"}
    assert "id_tags are masked on a terminal" in said.err


def test_running_without_a_list(thor: Thor, ask: Callable[..., Said]) -> None:
    thor.emulator.lists = Lists(broken=1.0)
    thor.emulator.start_charge("A", 1, TAG)
    said = ask()
    assert (said.status, said.out) == (2, "")
    assert said.err.endswith(": thor-async check says more\n")
    assert said.err.count("\n") == 1


def test_nothing_runs(thor: Thor, ask: Callable[..., Said]) -> None:
    assert ask("--jsonl") == (0, "", "")
    assert ask().out == "chargebox,connector,id_tag,transaction,alias,date_started,energy\n"
