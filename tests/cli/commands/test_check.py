"""`check`: what it reports, with the cure, without touching a charge."""

from __future__ import annotations

import socket

import pytest

from tests.cli.conftest import Run, Thor
from tests.conftest import TAG
from thor_async.emulator import Lists, ScriptedAnswer


def test_check_passes(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG)
    thor.emulator.start_charge("A", 2, mode="api")
    result = run("check")
    assert (result.status, result.err) == (0, "")
    address, running, stop = result.out.splitlines()
    assert address == f"ok    stops go to {thor.base_url}, lists come from {thor.base_url}"
    assert running == (
        "ok    2 charges run at 1 chargeboxes; the list hides the id_tag of 1, and a stop needs "
        "it: see running --tags"
    )
    assert stop.startswith("ok    a stop at a chargebox that does not exist was answered ")
    assert len(thor.emulator.charges) == 2


def test_check_says_that_an_empty_list_proves_nothing(thor: Thor, run: Run) -> None:
    result = run("check")
    assert result.status == 0
    assert "the list of running charges is empty: this proves nothing; " in result.out


@pytest.mark.parametrize(
    ("answer", "cure"),
    [
        ("APIKeyNotFound", "take the key from Thor's dashboard"),
        ("RestAPINotEnabled", "enable the integration"),
        ("InvalidSourceIPAddr", "enter the address from which this machine reaches Thor"),
        ("TooManyRequests", "wait a minute"),
        ("NotInTransaction", "Thor does not document this"),
        (ScriptedAnswer(503), "check again later"),
        (ScriptedAnswer(200, b"<html>"), "look for a proxy"),
        (ScriptedAnswer(200, b"{}"), "was relayed: the answer is not Thor's"),
        (ScriptedAnswer(drop=True), "Thor does not document this"),
    ],
)
def test_check_of_unexpected_answers_to_stops(
    thor: Thor, run: Run, answer: ScriptedAnswer | str, cure: str
) -> None:
    thor.emulator.always(answer)
    result = run("check")
    assert (result.status, result.err) == (1, "")
    _, running, stop = result.out.splitlines()
    assert running.startswith("ok ")
    assert stop.startswith("FAIL ")
    assert cure in stop


def test_check_of_a_wrong_key(thor: Thor, run: Run) -> None:
    thor.emulator.api_key = "renewed"
    result = run("check")
    assert result.status == 1
    assert result.out.count("FAIL ") == result.out.count("take the key from") == 2


def test_check_of_lists_that_are_cut(thor: Thor, run: Run) -> None:
    thor.emulator.start_charge("A", 1, TAG)
    thor.emulator.lists = Lists(cut=1.0)
    result = run("check")
    assert result.status == 1
    assert "FAIL  no list of running charges: " in result.out


@pytest.mark.parametrize("reason", ["connect", "dns"])
def test_check_without_a_connection(thor: Thor, run: Run, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"http://127.0.0.1:{port}" if reason == "connect" else "https://thor.invalid"
    result = run("check", "--base-url", address)
    assert result.status == 1
    cure = "no connection" if reason == "connect" else "the host was not found"
    assert result.out.count(cure) == 2
    assert result.out.endswith("\nFAIL  nobody was contacted: no request has left this machine\n")
    assert thor.requests == 0


def test_check_explains_the_two_default_hosts(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = "note  these are two hosts, as in Thor's documentation, which does not say why"
    assert two not in run("check").out
    other = thor.base_url.replace("127.0.0.1", "localhost")
    assert two in run("check", "--base-url", thor.base_url, "--read-url", other).out


def test_check_of_a_port_without_encryption(thor: Thor, run: Run) -> None:
    address = thor.base_url.replace("http:", "https:")
    result = run("check", "--base-url", address)
    host = address.split("/")[2]
    assert result.out.count(f"the port of {host} speaks http without encryption, not https") == 2


def test_check_of_a_web_server_that_is_not_thor(thor: Thor, run: Run) -> None:
    result = run("check", "--base-url", thor.base_url.replace("latest", "nowhere"))
    assert result.status == 1
    assert result.out.count("a web server answered that is not Thor: check the host and the p") == 2
    assert "nobody was contacted" not in result.out


def test_check_as_json(thor: Thor, run: Run) -> None:
    result = run("check", "--json")
    (found,) = result.records
    assert (result.status, found["ok"], found["base_url"]) == (0, True, thor.base_url)
    assert [check["check"] for check in found["checks"]] == ["list", "stop"]
    thor.emulator.api_key = "renewed"
    result = run("check", "--json")
    (found,) = result.records
    assert (result.status, found["ok"]) == (1, False)
    assert "take the key from" in found["checks"][1]["text"]


def test_a_quiet_check_prints_only_what_failed(thor: Thor, run: Run) -> None:
    assert run("check", "--quiet") == (0, "", "")
    thor.emulator.always("RestAPINotEnabled")
    result = run("check", "--quiet")
    assert (result.status, result.out.count("\n")) == (1, 1)
    assert result.out.startswith("FAIL  unexpected answer to a stop: ")
