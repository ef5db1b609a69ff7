"""The command line as text: without secrets, and of any argument."""

from __future__ import annotations

import shlex

import pytest

from thor_async.cli.command_line import describe_command


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:s3cret@proxy:3128",
        "http://s3cret@proxy:3128",
        "http://me:s3c/s3cret@x@proxy:3128",
    ],
)
@pytest.mark.parametrize("form", ["--proxy {}", "--proxy={}"])
def test_a_command_has_no_secret(proxy: str, form: str) -> None:
    command = describe_command(["stop-many", "fleet.csv", *form.format(proxy).split()])
    masked = form.format("http://***@proxy:3128").split()
    assert shlex.split(command) == ["thor-async", "stop-many", "fleet.csv", *masked]


def test_a_query_may_be_a_secret() -> None:
    command = describe_command(["stop-many", "f", "--proxy", "http://proxy:1/?token=s3cret"])
    assert shlex.split(command)[-1] == "http://proxy:1/?***"


def test_any_argument_can_be_written() -> None:
    command = describe_command(["stop-many", "caf\udce9 \x1b[2J\u202e.csv"])
    assert command == "thor-async stop-many 'caf\\udce9 \\x1b[2J\\u202e.csv'"
