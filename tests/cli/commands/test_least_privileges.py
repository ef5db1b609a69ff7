"""What a user of NATS must be allowed for `publish` and `dead`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.cli.conftest import Fleet, Run
from tests.worker.conftest import run_server

pytestmark = pytest.mark.broker

PASSWORD = "s3cr3t-of-the-broker"
ALLOWED = ["$JS.API.STREAM.INFO.THOR", "$JS.API.STREAM.MSG.GET.THOR", "thor.stop"]


def make_config(allowed: list[str]) -> str:
    publish = msgspec.json.encode(allowed).decode()
    permissions = f'publish: {publish}, subscribe: [ "_INBOX.>" ]'
    users = (
        f"{{ user: admin, password: {PASSWORD} }}, "
        f"{{ user: desk, password: {PASSWORD}, permissions: {{ {permissions} }} }}"
    )
    return f"authorization {{ users: [ {users} ] }}\n"


def test_a_user_for_publish_and_dead(
    run: Run, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_PASSWORD", PASSWORD)
    with run_server(tmp_path, make_config(ALLOWED)) as server:
        nats = f"--nats={server.url}"
        monkeypatch.setenv("NATS_USER", "admin")
        assert run("worker", "--init", nats).status == 0
        buries = ("--subject=thor.stop.dead", "--dead-letter=elsewhere")
        assert run("publish", fleet(3), nats, *buries).status == 0
        monkeypatch.setenv("NATS_USER", "desk")
        assert run("publish", fleet(3), nats).out == "published 3 commands to thor.stop\n"
        assert run("dead", "list", nats).err == "thor-async: 3 dead letters\n"
        assert run("dead", "show", "2", nats).status == 0
        assert run("dead", "send", "2", nats).out == "sent 1 dead letters to thor.stop\n"
