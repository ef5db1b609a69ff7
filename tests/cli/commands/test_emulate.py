"""`emulate`: serves until Ctrl-C."""

from __future__ import annotations

import http.client
import subprocess
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import (
    Fleet,
    Run,
    Start,
    Thor,
    finish,
    interrupt,
)


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
