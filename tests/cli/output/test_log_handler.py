"""`THOR_LOG` on the command line."""

from __future__ import annotations

import logging

import msgspec
import pytest

from tests.conftest import KEY, TAG
from thor_async.cli import main
from thor_async.cli.output.log_handler import log_to_stderr

STOP = ["stop", "box-1", "2", TAG]


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", "http://127.0.0.1:1")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert TAG not in out + err
    assert KEY not in out + err
    return [line for line in err.splitlines() if "chargebox='box-1'" in line]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["DEBUG attempt:", "WARNING failed:"]),
        ("WARNING", ["WARNING failed:"]),
        ("error", []),
        ("", []),
    ],
)
def test_the_log_is_shown_from_its_level_on(
    level: str,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("THOR_LOG", level)
    log = logging.getLogger("thor_async")
    before = (log.level, list(log.handlers))
    assert main(STOP) == 1
    logged = lines(capsys)
    assert [word in line for word, line in zip(expected, logged, strict=True)] == [True] * len(
        expected
    )
    assert (log.level, log.handlers) == before


def test_an_unknown_level_is_one_line_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THOR_LOG", "loud")
    assert main(STOP) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("THOR_LOG must be one of debug, info, warning, error, not 'loud'\n")
    assert err.count("\n") == 1


def test_a_line_of_json_has_what_it_is_about_as_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("thor_async.worker")
    about = {"chargebox": "A\u202e", "verdict": "rejected", "code": None, "ref": {"row": 7}}
    with log_to_stderr("info", as_json=True):
        log.warning("message %d is a dead letter", 7, extra=about)
        log.info("serving")
    first, second = map(msgspec.json.decode, capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "warning",
        "logger": "thor_async.worker",
        "message": "message 7 is a dead letter",
        "chargebox": "A\u202e",
        "verdict": "rejected",
        "ref": {"row": 7},
    }
    assert second["message"] == "serving"


def test_a_failed_stop_has_its_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_to_stderr("warning", as_json=True):
        main(STOP)
    lines = capsys.readouterr().err.splitlines()
    row = next(msgspec.json.decode(line) for line in lines if line.startswith("{"))
    assert (row["event"], row["chargebox"], row["connector"]) == ("failed", "box-1", 2)
    assert (row["verdict"], row["error"], row["attempt"]) == ("not_sent", "NotSentError", 1)
    assert TAG not in str(lines)
