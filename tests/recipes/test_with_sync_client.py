import asyncio
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from thor_async.emulator import ThorEmulator

from .fastapi_app import make_app


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThorEmulator]:
    with ThorEmulator() as emulator:  # in a thread of its own
        monkeypatch.setenv("THOR_API_KEY", emulator.api_key)
        monkeypatch.setenv("THOR_BASE_URL", emulator.base_url)
        monkeypatch.setenv("THOR_HOOK", "hook")
        yield emulator


def test_the_app_stops_a_charge(emulator: ThorEmulator) -> None:
    charge = emulator.start_charge("box-1", 1)
    command = {"chargebox": "box-1", "connector": 1, "id_tag": charge.id_tag}
    with TestClient(make_app()) as browser:
        answer = browser.post("/stop", json=command)
    assert (answer.status_code, answer.json()["verdict"]) == (202, "relayed")
    assert emulator.charges == {}


def test_the_app_says_that_thor_is_away(emulator: ThorEmulator) -> None:
    asyncio.run(emulator.refuse())
    command = {"chargebox": "box-1", "connector": 1, "id_tag": "tag"}
    with TestClient(make_app()) as browser:
        answer = browser.post("/stop", json=command)
    assert (answer.status_code, answer.json()["verdict"]) == (503, "not_sent")
