"""The client of a command: its address and its key."""

from __future__ import annotations

import socket
from pathlib import Path
from unittest import mock

import pytest

from tests.cli.conftest import Fleet, Run, Thor
from tests.conftest import KEY, TAG
from thor_async.cli import client_factory
from thor_async.cli.input.command_file import read_command_file
from thor_async.cli.parser import parse


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8080/x", True),
        ("https://[::1]/x", True),
        ("http://localhost:1", True),
        ("https://localhost.example", False),
        ("https://dev.api.thor.tools/latest/integration", False),
        ("https://10.0.0.1", False),
    ],
)
def test_which_addresses_are_this_machine(address: str, expected: bool) -> None:
    assert client_factory.is_loopback(address) is expected


def test_a_proxy_is_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there, so nothing reaches Thor."""
    monkeypatch.setenv("THOR_API_KEY", KEY)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://user:secret@127.0.0.1:{unused.getsockname()[1]}"
        result = run(*("stop", "A", 1, TAG, "--base-url", "https://thor.example", "--proxy", proxy))
    assert result.status == 1
    assert "could not connect" in result.out
    assert "secret" not in result.out + result.err


@pytest.mark.parametrize(
    ("address", "proxy", "says"),
    [
        ("https://thor.example", "secret:3128", "--proxy must be an address like"),
        ("http://127.0.0.1:8080", "http://proxy.example:3128", "in the clear"),
    ],
)
def test_a_proxy_that_cannot_be_used(
    run: Run, monkeypatch: pytest.MonkeyPatch, address: str, proxy: str, says: str
) -> None:
    monkeypatch.setenv("THOR_API_KEY", KEY)
    result = run("stop", "A", 1, TAG, "--base-url", address, "--proxy", proxy)
    assert (result.status, result.out) == (2, "")
    assert says in result.err
    assert "secret" not in result.err


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_key_from_a_file(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("THOR_API_KEY", "another")
    key = tmp_path / "key"
    key.write_bytes(f"{KEY}{end}".encode())
    path = fleet(1)
    thor.emulator.fill(read_command_file(str(path)))
    assert run("stop-many", path, "--api-key-file", key).status == 0


@pytest.mark.parametrize("content", [b"", b"\n", f"{KEY}\nmore".encode(), b"\xff\xfe", b"a b"])
def test_a_file_that_holds_no_key(
    thor: Thor, run: Run, fleet: Fleet, tmp_path: Path, content: bytes
) -> None:
    key = tmp_path / "key"
    key.write_bytes(content)
    result = run("stop-many", fleet(1), "--api-key-file", key)
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("command", ["stop A 1 T", "stop-many fleet.csv", "check", "running"])
@pytest.mark.parametrize("key", [None, "", f"{KEY} "])
def test_a_missing_or_bad_key(
    thor: Thor,
    run: Run,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    key: str | None,
) -> None:
    monkeypatch.chdir(fleet(3).parent)
    monkeypatch.delenv("THOR_API_KEY")
    if key is not None:
        monkeypatch.setenv("THOR_API_KEY", key)
    result = run(*command.split())
    cure = "copied with it" if key else "set THOR_API_KEY, or give --api-key-file"
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    assert result.err.endswith(f"{cure}\n")
    assert result.err.count("\n") == 1


def test_a_bad_address_is_reported_before_a_missing_key(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THOR_API_KEY", raising=False)
    result = run("stop", "A", 1, TAG, "--base-url", "http://thor.example")
    assert result.status == 2
    assert "use https" in result.err


def test_a_command_with_two_clients_asks_for_the_key_once(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append(KEY)
        return KEY

    monkeypatch.delenv("THOR_API_KEY")
    monkeypatch.setattr(client_factory, "ask_for_key", ask)
    thor.emulator.start_charge("A", 1, TAG, 5)
    assert run("stop-running").status == 0
    assert len(asked) == 1
    assert not thor.emulator.charges


def test_the_arguments_do_not_show_the_typed_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_factory, "ask_for_key", lambda: KEY)
    monkeypatch.delenv("THOR_API_KEY", raising=False)
    args = parse(["check", "--base-url", "http://127.0.0.1:1/x"])
    client_factory.make_client(args)
    assert KEY not in repr(args)


@pytest.mark.parametrize(
    ("arguments", "is_sent_again", "max_rate"),
    [
        (["stop", "A", "1", TAG, "--rate", "20"], True, 20.0),
        (["stop-many", "x", "--rate", "0.5", "--attempts", "5"], True, 0.5),
        (["stop-running"], True, None),
        (["worker", "--nats", "x", "--max-rate", "7"], True, 7.0),
        (["check"], False, None),
        (["running"], False, None),
    ],
)
def test_the_commands_that_stop_send_a_429_again(
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    is_sent_again: bool,
    max_rate: float | None,
) -> None:
    monkeypatch.setenv("THOR_API_KEY", KEY)
    made = mock.Mock()
    monkeypatch.setattr(client_factory, "ThorClient", made)
    client_factory.make_client(parse([*arguments, "--base-url", "http://127.0.0.1:1/x"]))
    settings = made.call_args.kwargs
    assert settings["retry"].retry_throttled is is_sent_again
    assert settings["retry"].max_attempts == (5 if "--attempts" in arguments else 3)
    assert settings.get("max_rate") == max_rate
