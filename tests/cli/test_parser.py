"""Bad usage and help: one line with the cure, never a traceback."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from tests.cli.conftest import Run, Thor
from tests.conftest import KEY, TAG
from thor_async import Verdict, __version__
from thor_async._confirm.tracker import State
from thor_async._models import NextStep
from thor_async.cli.completion import SHELLS
from thor_async.cli.options import COMMANDS


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ([], "required: COMMAND"),
        (["halt"], "no such command: choose from check, dead, demo, "),
        ([TAG], "no such command: choose from check, dead, demo, "),
        (["stop-mny"], "no command stop-mny: did you mean stop-many?"),
        (["stop_many"], "no command stop_many: did you mean stop-many?"),
        (["--verison"], "no option --verison: did you mean --version?"),
        (["stop", "A", "1"], "required: ID_TAG"),
        (["stop", "A", TAG, "1"], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "1_0", TAG], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "9" * 19, TAG], "argument CONNECTOR: must be a whole number"),
        (["stop", "A", "0", TAG], "connector must be at least 1, not 0: connectors count from 1"),
        (["stop", "", "1", TAG], "chargebox must not be empty"),
        (["stop", "A", "1", TAG + "\n"], "id_tag must not hold control characters"),
        (["stop", "A", "1", TAG, "--transaction", TAG], "--transaction: must be a whole number"),
        (["stop", "A", "1", TAG, "--transaction", "0"], "leave it out when it is not known"),
        (["stop", "A", "1", "04", TAG], "too many arguments (1): quote arguments with blanks"),
        (["stop", "A", "1", TAG, "--api-key", KEY], "--api-key: did you mean --api-key-file?"),
        (["stop", "A", "1", TAG, "--xyzzy", KEY], "no such option, or too many arguments (2)"),
        (["stop", "A", "1", TAG, "--trans", "5"], "--trans: did you mean --transaction?"),
        (["stop", "A", "1", f"--{TAG}"], "required: ID_TAG"),
        (["stop-many", "x", "--resum"], "--resume? (see thor-async stop-many --help)"),
        (["stop-many", "--resum"], "no option --resum: did you mean --resume?"),
        (["stop-many", "x", "--Over=5"], "no option --Over: did you mean --over?"),
        (["stop-many", "x", "-quiet"], "an option has two dashes: did you mean --quiet?"),
        (["dead", "send", "--raeson", "x"], "no option --raeson: did you mean --reason?"),
        (["worker", "--nat", "x"], "no option --nat: did you mean --nats?"),
        (["stop", "A", "1", TAG, "--base-url", "x"], "--base-url must be an address like https://"),
        (["stop", "A", "1", TAG, "--read-url", "x"], "--read-url must be an address like https://"),
        (["stop", "A", "1", TAG, "--base-url", "https://x.y", "--proxy", "x"], "--proxy must be"),
        (["stop", "A", "1", TAG, "--base-url", "http://x.example"], "use https"),
        (["stop-many", "no-such-file"], "cannot read no-such-file (No such file or directory)"),
        (["stop-many", "."], "cannot read . (Is a directory)"),
        (["stop-many", "x", "--yes"], "--yes needs --at-most COUNT: the highest"),
        (["stop-many", "x", "--output", "-"], "--no-journal to write to standard output only"),
        (["stop-many", "x", "--output", "y", "--no-journal"], "contradict each other"),
        (["stop-many", "x", "--json"], "--json needs --dry-run"),
        (["stop-many", "x", "--over", "10", "--within", "5"], "--over is longer than --within"),
        (["stop-many", "x", "--spread", "random"], "--spread needs --over"),
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
        (["stop-running", "--yes"], "--yes needs --at-most COUNT: the highest"),
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
        (["publish", "x", "--nats", "x", "--yes"], "--yes needs --at-most COUNT: the highest"),
        (
            ["publish", "x", "--nats", "x", "--as-of", "noon"],
            "must be a time with its offset: 2026",
        ),
        (["publish", "x", "--nats", "x", "--as-of", "2026-01-31T18:00:00"], "with its offset"),
        (["publish", "no-such-file", "--nats", "x"], "cannot read no-such-file"),
        (["dead", "send", "--nats", "x"], "one of the arguments --reason NUMBER is required"),
        (["dead", "send", "7", "--reason", "x", "--nats", "x"], "not allowed with argument"),
        (["dead", "send", "--reason", "x", "--yes", "--nats", "x"], "--yes needs --at-most COUNT"),
        (["dead", "show", "x", "--nats", "x"], "argument NUMBER: must be a whole number"),
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
        (["running", "--file", "x", "--site", "y"], "leave the filters out"),
        (["demo", "--charges", "0"], "--charges: must be at least 1"),
        (["demo", "--charges", "5", "--fleet", "x"], "not allowed with argument --charges"),
        (["demo", "--fleet", "no-such-file"], "cannot read no-such-file"),
        (["demo", "--faults", "1.5"], "--faults: must be a probability: a number from 0 to 1"),
        (["demo", "--faults", "often"], "--faults: must be a probability: a number from 0 to 1"),
        (["demo", "--seed", "x"], "--seed: must be a whole number"),
        (["emulate", "--port", "x"], "--port: must be a whole number"),
        (["emulate", "--latency", "2-1"], "must be seconds like 0.2, or a range like 0.1-2"),
        (["emulate", "--latency", "fast"], "must be seconds like 0.2, or a range like 0.1-2"),
        (["emulate", "--latency", "0.1-inf"], "must be seconds like 0.2, or a range like 0.1-2"),
        (["emulate", "--refuse", "0.1"], "--refuse needs --fleet"),
        (["emulate", "--offline", "0.1"], "--offline needs --fleet"),
        (["emulate", "--alias", "site"], "--alias needs --fleet"),
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


@pytest.mark.parametrize("command", [None, "stop", "stop-many", "stop-running", "status"])
def test_help_defines_what_a_result_says(run: Run, command: str | None) -> None:
    lines = run(*[command] if command else [], "--help").out.splitlines()
    defined = {line.split()[0] for line in lines if line.startswith("  ") and line.split()}
    assert defined >= {verdict.value for verdict in Verdict}
    assert defined >= {*get_args(NextStep), *get_args(State)}


def test_no_metavar_is_a_single_letter(run: Run) -> None:
    for command in COMMANDS:
        assert not re.search(r"--[a-z-]+ [A-Z]\b", run(command, "--help").out)


@pytest.mark.parametrize(
    "text",
    [
        '{"chargebox": 5, "connector": 1, "id_tag": "x"}',
        '{"chargebox": "A", "connector": "1", "id_tag": "x"}',
        '{"chargebox": "A", "connector": true, "id_tag": "x"}',
        '{"chargebox": "A", "connector": null, "id_tag": "x"}',
        '{"chargebox": "A", "connector": 1, "id_tag": 5}',
        '{"chargebox": "A", "connector": 1, "id_tag": "x", "transaction": 1.5}',
        '{"chargebox": "A", "connector": 1, "id_tag": "x", "not_after": "2026-01-31T18:00:00"}',
    ],
)
def test_a_bad_row_is_named_without_a_word_of_python(
    thor: Thor, run: Run, write: Callable[..., Path], text: str
) -> None:
    result = run("stop-many", write(text))
    assert (result.status, thor.requests) == (2, 0)
    assert not re.search(r"\b(int|str|bool|None|True|NoneType|datetime|tzinfo)\b", result.err)
    assert " must be " in result.err


def test_an_address_without_encryption_is_refused_without_a_word_of_python(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THOR_BASE_URL", "http://x.example")
    assert run("check").err == (
        "thor-async: http://x.example would send the API key in the clear: use https\n"
    )
    monkeypatch.setenv("THOR_BASE_URL", "x")
    assert run("check").err.startswith("thor-async: THOR_BASE_URL must be an address like ")
    through = run("check", "--base-url", thor.base_url, "--proxy", "http://127.0.0.1:1")
    assert "would send the API key in the clear to the proxy" in through.err


def test_the_version(run: Run) -> None:
    assert run("--version") == (0, f"thor-async {__version__}\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_of_a_shell(run: Run, shell: str) -> None:
    result = run("--print-completion", shell)
    assert (result.status, result.err) == (0, "")
    for word in ("stop-many", "--no-journal", "--story", "outage"):
        assert word in result.out
    assert "_shtab_compgen_files" in result.out or "_files" in result.out


def test_a_completion_without_shtab(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    result = run("--print-completion", "bash")
    assert (result.status, result.out) == (2, "")
    assert "run pip install 'thor_async[cli]'" in result.err


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
