"""`emulate`: serves until Ctrl-C."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.cli.conftest import (
    HEADER,
    Fleet,
    Run,
    Start,
    Thor,
    finish,
    interrupt,
)
from tests.conftest import TAG


def test_emulate_until_interrupted(
    run: Run, start: Start, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(3)
    process = start("emulate", "--fleet", path)
    assert process.stdout
    address, key = process.stdout.readline().strip(), process.stdout.readline().strip()
    monkeypatch.setenv("THOR_API_KEY", key)
    stopped = run("stop-many", path, "--base-url", address)
    result = interrupt(process)
    assert stopped.status == 0
    assert {record["verdict"] for record in stopped.records} == {"relayed"}
    assert (result.status, result.out) == (0, "")
    assert result.err.count("\n") == 1


def get_lists(process: subprocess.Popen[str], count: int) -> list[tuple[int, str | None]]:
    """Returns the status and the Retry-After of this number of GETs."""
    assert process.stdout
    address, key = process.stdout.readline().strip(), process.stdout.readline().strip()
    url = urlsplit(address)
    answers = []
    for _ in range(count):
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
        connection.request("GET", f"{url.path}/chargeboxes", headers={"X-Api-Key": key})
        response = connection.getresponse()
        answers.append((response.status, response.headers["Retry-After"]))
        connection.close()
    return answers


@pytest.mark.parametrize(("options", "header"), [([], None), (["--retry-after", "7"], "7")])
def test_a_rate_is_kept(start: Start, options: list[str], header: str | None) -> None:
    process = start("emulate", "--rate", "0.000001/2", *options)
    assert get_lists(process, 3) == [(200, None), (200, None), (429, header)]
    assert interrupt(process).status == 0


def test_the_true_retry_after(start: Start) -> None:
    options = ["--rate", "0.000001/1", "--retry-after", "next-token"]
    process = start("emulate", *options)
    _, (status, header) = get_lists(process, 2)
    # Less than the 60 s after which the process is killed have passed.
    assert (status, 999_940 < int(header or 0) <= 1_000_000) == (429, True)
    assert interrupt(process).status == 0


def test_the_burst_of_a_rate_is_its_second(start: Start) -> None:
    process = start("emulate", "--rate", "0.000001")
    assert get_lists(process, 2) == [(200, None), (429, None)]
    assert interrupt(process).status == 0


@pytest.mark.parametrize("port", [None, "65536"])
def test_a_port_that_cannot_be_used(thor: Thor, start: Start, port: str | None) -> None:
    taken = thor.base_url.split(":")[2].split("/")[0]
    result = finish(start("emulate", "--port", port or taken))
    assert (result.status, result.out) == (2, "")
    assert ("give 0 to 65535" if port else "give another --port") in result.err
    assert result.err.count("\n") == 1


def read_address(process: subprocess.Popen[str]) -> tuple[str, str]:
    assert process.stdout
    return process.stdout.readline().strip(), process.stdout.readline().strip()


def test_a_bad_night_is_rehearsed_and_its_ledger_tells_the_truth(
    run: Run,
    start: Start,
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = (f"box-{n},1,{TAG}-{n},{n + 1},Harbour {n}" for n in range(60))
    path, ledger = write(f"{HEADER},name", *rows), tmp_path / "ledger.jsonl"
    night = ["--latency", "0-0.01", "--faults", "0.3", "--refuse", "0.3", "--offline", "0.2"]
    process = start("emulate", "--fleet", path, "--alias", "name", *night, "--ledger", ledger)
    address, key = read_address(process)
    monkeypatch.setenv("THOR_API_KEY", key)
    stopped = run("stop-many", path, "--base-url", address, "--attempts", 5)
    result = interrupt(process)
    assert (result.status, result.out) == (0, "")
    lines = [msgspec.json.decode(line) for line in ledger.read_bytes().splitlines()]
    requests = [line for line in lines if "status" in line]
    charges = {line["charge"]: line for line in lines if "charge" in line}
    assert len(charges) == 60
    assert len(requests) == sum(record["attempts"] for record in stopped.records)
    relayed = {line["relayed"] for line in requests} - {None}
    done = {r["transaction"] for r in stopped.records if r["verdict"] == "relayed"}
    assert done <= relayed
    ended = {number for number, line in charges.items() if line["ended"]}
    refused = {number for number, line in charges.items() if line["refused"]}
    assert ended
    assert refused
    assert ended | refused < relayed  # the others are offline
    assert not {number for number in ended if charges[number]["runs_for_thor"]}
    assert TAG not in ledger.read_text()


def test_the_aliases_are_those_of_a_column(
    run: Run, start: Start, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(f"{HEADER},name", f"A,1,{TAG},1,Harbour 1", f"B,1,{TAG},2,")
    process = start("emulate", "--fleet", path, "--alias", "name")
    address, key = read_address(process)
    monkeypatch.setenv("THOR_API_KEY", key)
    result = run("running", "--base-url", address, "--site", "Harbor")
    assert result.err.endswith("the nearest names are 'Harbour', 'Chargebox B'\n")
    assert interrupt(process).status == 0


@pytest.mark.parametrize(
    ("rows", "options", "problem"),
    [
        (
            ["A,1,T,1,x"],
            ["--alias", "site"],
            "--alias 'site' is no column of --fleet with an alias: its other columns are 'name'",
        ),
        (["A,1,T,1,x", "A,1,U,2,y"], [], "two charges at chargebox 'A' connector 1"),
        (["A,1,T,1,x"], ["--ledger", "/no/folder/l"], "give --ledger a file in a writable folder"),
    ],
)
def test_what_cannot_be_emulated(
    run: Run, write: Callable[..., Path], rows: list[str], options: list[str], problem: str
) -> None:
    result = run("emulate", "--fleet", write(f"{HEADER},name", *rows), *options)
    assert (result.status, result.out) == (2, "")
    assert problem in result.err
    assert result.err.count("\n") == 1
