"""What all tests of the command line share: running it, a Thor beside it, and files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.conftest import KEY, TAG
from thor_async import OutcomeStream, StopOutcome
from thor_async.cli import client_factory, main
from thor_async.emulator import ThorEmulator

HEADER = "chargebox,connector,id_tag,transaction"
HONEST = "Checked against the emulator: 0 of {} verdicts claimed more than happened."
# As a shell in the foreground starts it, even if the tests themselves run in the background.
PROCESS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from thor_async.cli import main
sys.exit(main())
"""


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.splitlines()[-1]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


Run = Callable[..., Said]
Start = Callable[..., subprocess.Popen[str]]


def checked(status: int, out: str, err: str) -> Said:
    """No output of any test may have a secret, a traceback or a colour in it."""
    for text in (out, err):
        for never in (KEY, TAG, "the-fleet-card", "tag-1", "Traceback", "\x1b"):
            assert never not in text
    return Said(status, out, err)


@pytest.fixture(autouse=True)
def _nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has a terminal; the command under test has none."""
    monkeypatch.setattr(client_factory, "TERMINAL", "/no/terminal")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Said:
        status = main([str(argument) for argument in arguments])
        return checked(status, *capsys.readouterr())

    return run


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the command as a process, which does not outlive its test, nor 60 seconds."""
    with contextlib.ExitStack() as stack:

        def start(
            *arguments: object, code: str = PROCESS, **settings: Any
        ) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", code, *map(str, arguments)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
            # Buffered, as users have it: what is not flushed does not come.
            environment = {k: value for k, value in os.environ.items() if k != "PYTHONUNBUFFERED"}
            process = subprocess.Popen(
                command, text=True, env=environment, start_new_session=True, **pipes
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            limit = threading.Timer(60, process.kill)
            stack.callback(limit.cancel)
            limit.start()
            return process

        yield start


def finish(process: subprocess.Popen[str]) -> Said:
    out, err = process.communicate()
    return checked(process.returncode, out or "", err or "")


def interrupt(process: subprocess.Popen[str]) -> Said:
    process.send_signal(signal.SIGINT)
    return finish(process)


class Thor:
    """An emulator on a thread of its own, for commands that run loops of their own."""

    def __init__(self) -> None:
        self.emulator = ThorEmulator(api_key=KEY)
        self.base_url = ""
        self._changed = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Thor:
        self._thread.start()
        assert self._changed.wait(5)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(5)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        async with self.emulator:
            self.base_url = self.emulator.base_url
            self._changed.set()
            await self._end.wait()

    @property
    def requests(self) -> int:
        return len(self.emulator.ledger.requests)

    def saw(self, requests: int) -> None:
        """Waits until so many requests have come."""
        waiting = threading.Event()
        for _ in range(6000):
            if self.requests >= requests:
                return
            waiting.wait(0.005)
        raise AssertionError(f"only {self.requests} requests came")


@pytest.fixture
def thor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Thor]:
    with Thor() as thor:
        monkeypatch.setenv("THOR_API_KEY", KEY)
        monkeypatch.setenv("THOR_BASE_URL", thor.base_url)
        yield thor


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "fleet.csv"
        path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
        return path

    return write


@pytest.fixture
def fleet(write: Callable[..., Path]) -> Callable[[int], Path]:
    """A file of so many charges, at chargeboxes box-0, box-1 ..."""

    def fleet(count: int) -> Path:
        return write(HEADER, *(f"box-{n},1,{TAG}-{n},{n + 1}" for n in range(count)))

    return fleet


def lose_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    anext_ = OutcomeStream.__anext__
    lost: list[StopOutcome] = []

    async def next_outcome(self: Any) -> Any:
        if not lost:
            lost.append(await anext_(self))
        return await anext_(self)

    monkeypatch.setattr(OutcomeStream, "__anext__", next_outcome)
