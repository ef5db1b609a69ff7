"""Runs parts of a benchmark in processes of their own, and measures the memory of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self


class Process:
    """A module of this package that prints a line of JSON at its start and for each `ask`.

    Leaving its `with` kills it. `environment` is added to that of this process.
    """

    def __init__(
        self, name: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{name}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, line: object) -> Any:
        self.write(line)
        return self.read()

    def write(self, line: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self._name} has died; see above")
        return json.loads(line)


def peak_kib() -> int:
    """Returns the peak memory of this process. Linux only.

    Not `ru_maxrss`, because a child starts with the value of its parent.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
