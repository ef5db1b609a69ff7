"""Bad usage and help: one line with the cure, never a traceback."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run, Thor
from tests.conftest import KEY, TAG


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ([], "required: COMMAND"),
        (["halt"], "choose from"),
        (["stop", "A", "1"], "required: ID_TAG"),
        (["stop", "A", TAG, "1"], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "1_0", TAG], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "9" * 19, TAG], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "0", TAG], "connector must be an int of at least 1, not 0"),
        (["stop", "", "1", TAG], "chargebox must not be empty"),
        (["stop", "A", "1", TAG + "\n"], "id_tag must not hold control characters"),
        (["stop", "A", "1", TAG, "--transaction", TAG], "--transaction: must be a whole number"),
        (["stop", "A", "1", TAG, "--transaction", "0"], "leave it out when it is not known"),
        (["stop", "A", "1", "04", TAG], "too many arguments (1): quote arguments with blanks"),
        (["stop", "A", "1", TAG, "--api-key", KEY], "too many arguments (2)"),
        (["stop", "A", "1", TAG, "--trans", "5"], "(2): did you mean --transaction?"),
        (["stop-many", "x", "--resum"], "(1): did you mean --resume? (see thor-async stop-many -"),
        (["stop", "A", "1", TAG, "--base-url", "x"], "base_url must be an address like https://"),
        (["stop", "A", "1", TAG, "--base-url", "http://x.example"], "use https"),
        (["stop-many", "no-such-file"], "cannot read no-such-file (No such file or directory)"),
        (["stop-many", "."], "cannot read . (Is a directory)"),
        (["stop-many", "x", "--yes"], "--yes needs --at-most N: the highest"),
        (["stop-many", "x", "--output", "-"], "leave --output out to write to standard output"),
        (["stop-many", "x", "--resume"], "--resume needs --output FILE"),
        (["stop-many", "x", "--resend-unknown"], "--resend-unknown needs --resume"),
        (["stop-many", "x", "--resend", "fix"], "--resend needs --resume"),
        (["stop-many", "x", "--repair"], "--repair needs --resume"),
        (["stop-many", "x", "--resume", "--resend", "all"], "choose from"),
        (["stop-many"], "give FILE: only --resume knows"),
        (["stop-many", "x", "--wait", "5", "--within", "9"], "cannot be used together"),
        (["stop-many", "x", "--ensure", "5", "--within", "9"], "cannot be used together"),
        (["stop-many", "x", "--ensure", "5", "--wait", "9"], "cannot be used together"),
        (["stop", "A", "1", TAG, "--ensure", "5", "--wait", "9"], "cannot be used together"),
        (["stop-running", "--yes"], "--yes needs --at-most N: the highest"),
        (["stop-running", "--older-than", "12x"], "must be like 90s, 30m, 12h or 2d"),
        (["stop-running", "--older-than", "0h"], "must be like 90s, 30m, 12h or 2d"),
        (
            ["stop-many", "x", "--within", "nan"],
            "--within: must be a number of seconds, more than 0",
        ),
        (["stop-many", "x", "--rate", "20/s"], "--rate: '20/s' is no rate: give requests a second"),
        (["stop-many", "x", "--rate", "0"], "--rate: '0' is no rate: give requests a second"),
        (["stop-many", "x", "--rate", "-5"], "--rate: '-5' is no rate: give requests a second"),
        (["stop-running", "--rate", "nan"], "--rate: 'nan' is no rate: give requests a second"),
        (["stop-running", "--rate", "inf"], "--rate: 'inf' is no rate: give requests a second"),
        (["stop", "A", "1", "--rate", TAG], "--rate: that is no rate: give requests a second"),
        (["worker", "--nats", "x", "--max-rate", "0"], "--max-rate: '0' is no rate: give requests"),
        (
            ["worker", "--nats", "x", "--replicas", "3"],
            "--replicas and --stream-max-age need --init",
        ),
        (["worker", "--nats", "x", "--stream-max-age", "7d"], "need --init"),
        (["publish", "x", "--nats", "x", "--yes"], "--yes needs --at-most N: the highest"),
        (
            ["publish", "x", "--nats", "x", "--as-of", "noon"],
            "must be a time with its offset: 2026",
        ),
        (["publish", "x", "--nats", "x", "--as-of", "2026-01-31T18:00:00"], "with its offset"),
        (["publish", "no-such-file", "--nats", "x"], "cannot read no-such-file"),
        (["dead", "send", "--nats", "x"], "one of the arguments --reason N is required"),
        (["dead", "send", "7", "--reason", "x", "--nats", "x"], "not allowed with argument"),
        (["dead", "send", "--reason", "x", "--yes", "--nats", "x"], "--yes needs --at-most N"),
        (["dead", "show", "x", "--nats", "x"], "argument N: must be a whole number"),
        (["dead"], "required: ACTION"),
        (["stop-many", "x", "--over", "soon"], "--over: must be a number of seconds, more than 0"),
        (["stop-many", "x", "--at-most", "0"], "--at-most: must be at least 1"),
        (["stop-many", "x", "--report", "fleet.csv"], "give it a name that ends with .html"),
        (["stop-many", "x", "--report", "/no/folder/a.html"], "cannot write /no/folder/a.html"),
        (
            ["stop", "A", "1", TAG, "--api-key-file", "no-such-file"],
            "give the file with the API key",
        ),
        (["running", "--tags", "no-such-file"], "cannot read no-such-file"),
        (["running", "--chargeboxes", "no-such-file"], "one chargebox on each line"),
        (["demo", "--charges", "0"], "--charges: must be at least 1"),
        (["demo", "--charges", "5", "--fleet", "x"], "not allowed with argument --charges"),
        (["demo", "--fleet", "no-such-file"], "cannot read no-such-file"),
        (["demo", "--faults", "1.5"], "give a number from 0 to 1"),
        (["demo", "--faults", "0.1", "--story", "outage"], "not allowed with argument --faults"),
        (["demo", "--story", "outage", "--charges", "299"], "give at least 300"),
        (["demo", "--story", "rate-limit", "--charges", "99"], "give at least 100"),
        (["demo", "--story", "next-driver", "--charges", "9"], "leave --charges and --fleet out"),
        (["demo", "--story", "next-driver", "--fleet", "x"], "leave --charges and --fleet out"),
        (["emulate", "--fleet", "no-such-file"], "cannot read no-such-file"),
        (["emulate", "--rate", "fast"], "--rate: must be like 20 or 20/5: requests per second"),
        (["emulate", "--rate", "20/"], "--rate: must be like 20 or 20/5"),
        (["emulate", "--rate", "20/1.5"], "--rate: must be like 20 or 20/5"),
        (["emulate", "--rate", "20/-5"], "burst -5 is no number of tokens: give 1"),
        (["emulate", "--rate", "20/5/1"], "--rate: must be like 20 or 20/5"),
        (["emulate", "--rate", ""], "--rate: must be like 20 or 20/5"),
        (["emulate", "--rate", "0"], "rate 0.0 is no rate: give requests per second"),
        (["emulate", "--rate", "-1"], "rate -1.0 is no rate: give requests per second"),
        (["emulate", "--rate", "nan"], "rate nan is no rate: give requests per second"),
        (["emulate", "--rate", "20/0"], "burst 0 is no number of tokens: give 1 to 1000000000"),
        (["emulate", "--rate", "20", "--retry-after", "soon"], "whole seconds, or next-token"),
        (["emulate", "--rate", "20", "--retry-after", "1.5"], "whole seconds, or next-token"),
        (["emulate", "--retry-after", "5"], "--retry-after needs --rate"),
    ],
)
def test_bad_usage_is_one_line_with_the_cure(
    thor: Thor, run: Run, arguments: list[str], cure: str
) -> None:
    result = run(*arguments)
    assert (result.status, result.out, thor.requests) == (2, "", 0)
    assert result.err.startswith("thor-async")
    assert cure in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        "check",
        "dead",
        "demo",
        "emulate",
        "publish",
        "running",
        "status",
        "stop",
        "stop-many",
        "stop-running",
        "worker",
        None,
    ],
)
def test_help_has_an_example(run: Run, command: str | None) -> None:
    result = run(*[command] if command else [], "--help")
    assert (result.status, result.err) == (0, "")
    assert result.out.count(f"example: thor-async {command or 'demo'}") == 1
    assert max(map(len, result.out.splitlines())) <= 100


@pytest.mark.parametrize("command", ["stop", "stop-many", "stop-running", "worker"])
def test_help_says_that_a_429_is_sent_again(run: Run, command: str) -> None:
    text = " ".join(run(command, "--help").out.split())
    assert "A 429 is sent again at the pace that Thor allows" in text
    assert "your rate limit: requests that may begin in a second" in text


def test_help_says_how_the_options_for_a_rate_limit_differ(run: Run) -> None:
    text = " ".join(run("stop-many", "--help").out.split())
    assert "--rate avoids them: at most N requests begin in a second, first attempts and" in text
    assert "--over is for a rate limit too" in text
    assert "evenly over a time that does not depend on their number" in text
