"""How a command gets into NATS: what is taken, and what is refused before it connects."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from thor_async.cli.errors import UsageError
from thor_async.cli.nats_login import find_login, show_servers
from thor_async.cli.parser import parse

SECRET = "s3cret"
NAMES = ("NATS_URL", "NATS_USER", "NATS_PASSWORD")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def make_args(*arguments: str) -> argparse.Namespace:
    return parse(["worker", *arguments])


@pytest.mark.parametrize(
    ("arguments", "url", "expected"),
    [
        (["--nats", "a"], "nats://other", ["a"]),
        (["--nats", "a,b", "--nats", "c:1"], None, ["a", "b", "c:1"]),
        ([], "nats://a,nats://u:s3cret@b", ["nats://a", "nats://u:s3cret@b"]),
    ],
)
def test_the_addresses_are_those_of_the_option_or_of_the_environment(
    arguments: list[str], url: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if url is not None:
        monkeypatch.setenv("NATS_URL", url)
    args = make_args(*arguments)
    assert find_login(args).servers == expected
    assert SECRET not in show_servers(args)


def test_the_password_is_that_of_the_environment_or_of_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    monkeypatch.setenv("NATS_USER", "u")
    login = find_login(make_args("--nats", "a", "--nats-password-file", str(file)))
    assert login.make_options() == {"servers": ["a"], "user": "u", "password": SECRET}
    monkeypatch.setenv("NATS_PASSWORD", SECRET)
    assert find_login(make_args("--nats", "a")) == login
    assert SECRET not in repr(login)
    assert SECRET not in repr(login.make_options())


@pytest.mark.parametrize(
    ("arguments", "environment", "fault"),
    [
        ([], {"NATS_USER": "u"}, "NATS needs user and password"),
        ([], {"NATS_PASSWORD": SECRET}, "NATS needs user and password"),
        (["--nats-creds", "{file}", "--nats-nkey", "{file}"], {}, "give one way to log in"),
        (
            ["--nats-creds", "{file}"],
            {"NATS_USER": "u", "NATS_PASSWORD": SECRET},
            "give one way to log in",
        ),
        (["--nats-creds", "missing"], {}, "cannot read missing (No such file"),
        (["--nats-nkey", "missing"], {}, "cannot read missing (No such file"),
        (["--nats-password-file", "missing"], {"NATS_USER": "u"}, "cannot read missing (No such"),
        (["--nats-password-file", "{bytes}"], {"NATS_USER": "u"}, "it is not text"),
        (["--nats-key", "{file}"], {}, "--nats-key needs --nats-cert"),
        (["--nats-ca", "missing"], {}, "cannot use --nats-ca, --nats-cert or --nats-key: No such"),
        (["--nats-ca", "{file}"], {}, "cannot use --nats-ca"),
        (["--nats-cert", "{file}"], {}, "cannot use --nats-ca"),
        ([], {"NATS_URL": f"http://u:{SECRET}@h"}, "NATS_URL must be an address"),
    ],
)
def test_what_cannot_be_used_is_refused(
    arguments: list[str],
    environment: dict[str, str],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file, broken = tmp_path / "file", tmp_path / "bytes"
    file.write_text(SECRET)
    broken.write_bytes(b"\xff" + SECRET.encode())
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    nats = [] if "NATS_URL" in environment else ["--nats", "a"]
    args = make_args(*nats, *[a.format(file=file, bytes=broken) for a in arguments])
    with pytest.raises(UsageError) as raised:
        find_login(args)
    assert fault in str(raised.value)
    assert SECRET not in str(raised.value)
