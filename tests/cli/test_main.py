"""`thor-async` itself: how it finds and starts a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from thor_async.cli import commands, options


def test_help_imports_nothing_slow() -> None:
    code = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('thor_async', run_name='__main__')\n"
        "except SystemExit as end: print('left with', end.code)\n"
        "slow = {'rich', 'thor_async.emulator', 'aiohttp.web', 'faststream'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.startswith("usage: thor-async ")
    assert out.endswith("left with 0\n[]\n")


def test_every_command_has_a_module_of_its_name() -> None:
    folder = Path(commands.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == {name.replace("-", "_") for name in options.COMMANDS}


def test_a_missing_extra_is_one_line_with_the_cure(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "thor_async.cli.commands.worker", raising=False)
    monkeypatch.setitem(sys.modules, "faststream.nats", None)
    result = run("worker", "--nats", "nats://127.0.0.1:4222")
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "thor-async: faststream.nats is not installed: run pip install 'thor_async[worker]'\n"
    )


def test_a_module_that_is_missing_in_another_command_is_a_defect(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "thor_async.cli.commands.check", None)
    with pytest.raises(ModuleNotFoundError):
        run("check")
