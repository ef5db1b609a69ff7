"""`emulate`: serves until Ctrl-C."""

from __future__ import annotations

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


@pytest.mark.parametrize("port", [None, "65536"])
def test_a_port_that_cannot_be_used(thor: Thor, start: Start, port: str | None) -> None:
    taken = thor.base_url.split(":")[2].split("/")[0]
    result = finish(start("emulate", "--port", port or taken))
    assert (result.status, result.out) == (2, "")
    assert ("give 0 to 65535" if port else "give another --port") in result.err
    assert result.err.count("\n") == 1
