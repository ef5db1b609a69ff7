"""`worker`: what it refuses before it connects."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run, Thor


@pytest.mark.parametrize(
    "address",
    [
        "nats://user:s3cr]et@host:4222",
        "nats://user:s3cr[et@host:4222",
        "nats://user:s3cr/et@host:4222",
        "nats://user:s3cr?et@host:4222",
        "nats://user:s3cr#et@host:4222",
        "nats://user:s3cr et@host:4222",
        "nats://user:s3cr\net@host:4222",
        "nats://user:s3cr\u2100et@host:4222",
        "user:s3cr]et@host",
        "http://user:s3cret@host",
        "nats://user:s3cret@",
        "nats://user:s3cret@host:s3cret",
        "nats://user:s3cret@host:99999",
        "nats://host:4222,http://user:s3cret@host:4222",
    ],
)
def test_an_address_that_cannot_be_used_is_not_shown(thor: Thor, run: Run, address: str) -> None:
    result = run("worker", "--nats", address)
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "thor-async: --nats must be an address like nats://host:4222; a user and a password in it "
        "must be without blanks, commas and /?#[]\n"
    )


@pytest.mark.parametrize(
    "address", ["nats://user:s3cret@host", "s3cret@host", "a,nats://u:s3cret@b"]
)
def test_no_secret_is_an_argument(thor: Thor, run: Run, address: str) -> None:
    result = run("worker", "--nats", address)
    assert result.status == 2
    assert "--nats must hold no user and no password" in result.err
    assert "set NATS_USER and NATS_PASSWORD, or give --nats-creds FILE" in result.err
    assert "s3cret" not in result.err


@pytest.mark.parametrize("arguments", [(), ("--nats", ""), ("--nats", ",")])
def test_an_address_is_needed(thor: Thor, run: Run, arguments: tuple[str, ...]) -> None:
    result = run("worker", *arguments)
    assert (result.status, result.out) == (2, "")
    assert "give the address of NATS: --nats nats://host:4222, or NATS_URL" in result.err


@pytest.mark.parametrize("option", ["--base-url", "--read-url"])
@pytest.mark.parametrize("mark", list("][/?#@ \u2100\n"))
def test_no_other_address_is_shown_either(thor: Thor, run: Run, option: str, mark: str) -> None:
    result = run("check", option, f"https://user:s3cr{mark}et@host")
    assert (result.status, result.out) == (2, "")
    assert "must be " in result.err
    assert "s3cr" not in result.err


@pytest.mark.parametrize(
    "address",
    [
        "nats://host",
        "host:4222",
        "tls://[::1]:4222/",
        "nats://a:4222,nats://b:4222",
        "wss://host/path",
        "localhost",
    ],
)
def test_addresses_that_can_be_used(thor: Thor, run: Run, address: str) -> None:
    # The next thing that is looked at.
    result = run("worker", "--nats", address, "--base-url", "x")
    assert "--base-url must be an address" in result.err
