"""What the tests of the command line share: running it, an emulator of Thor, and files."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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
from thor_async import OutcomeStream, RetryPolicy, StopOutcome
from thor_async._confirm import ensure_stopped, pinning, poller, tracker
from thor_async.cli import main, terminal
from thor_async.cli.commands import stop_many
from thor_async.emulator import ThorEmulator

HEADER = "chargebox,connector,id_tag,transaction"
NO_OVERCLAIMS = "Checked against the emulator: 0 of {} verdicts claimed more than happened."
# Handles signals as in a foreground shell, also if the tests run in the background or by nohup.
PROCESS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from thor_async.cli import main
sys.exit(main())
"""


class CommandOutput(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.splitlines()[-1]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


Fleet = Callable[[int], Path]
Run = Callable[..., CommandOutput]
Start = Callable[..., subprocess.Popen[str]]


def check_output(status: int, out: str, err: str) -> CommandOutput:
    """Asserts that the output of a command has no secret, traceback or colour."""
    for text in (out, err):
        for forbidden in (KEY, TAG, "the-fleet-card", "tag-1", "Traceback", "\x1b"):
            assert forbidden not in text
    return CommandOutput(status, out, err)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command under test has no terminal, also if the tests are run on one."""
    monkeypatch.setattr(terminal, "TERMINAL", "/no/terminal")


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The journal of standard input is written into the folder of the process."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> CommandOutput:
        status = main([str(argument) for argument in arguments])
        return check_output(status, *capsys.readouterr())

    return run


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the command as a process; it is killed after 60 s, or at the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(
            *arguments: object, code: str = PROCESS, **settings: Any
        ) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", code, *map(str, arguments)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
            # Buffered, as for users: a missing flush shows.
            left_out = {"PYTHONUNBUFFERED"}
            if code is not PROCESS:  # a limit on files would also hit the file of the coverage
                left_out.add("COVERAGE_PROCESS_CONFIG")
            environment = {k: value for k, value in os.environ.items() if k not in left_out}
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


def finish(process: subprocess.Popen[str]) -> CommandOutput:
    out, err = process.communicate()
    return check_output(process.returncode, out or "", err or "")


def interrupt(process: subprocess.Popen[str]) -> CommandOutput:
    process.send_signal(signal.SIGINT)
    return finish(process)


class Thor:
    """An emulator in a thread, because the command under test runs its own event loop."""

    def __init__(self) -> None:
        self.emulator = ThorEmulator(api_key=KEY)
        self.base_url = ""
        self._changed = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Thor:
        self._thread.start()
        assert self._changed.wait(60)
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

    def wait_for_requests(self, requests: int) -> None:
        """Waits until the emulator has seen this number of requests."""
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
def remote_thor(thor: Thor, monkeypatch: pytest.MonkeyPatch) -> Thor:
    """An emulator whose address counts as one of another machine."""
    monkeypatch.setattr(stop_many, "is_loopback", lambda _: False)
    return thor


@pytest.fixture
def fast_poller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls the list every 0.05 s, as one without a lag, and repeats stops after 0.2 s."""
    monkeypatch.setattr(poller, "_SHORTEST", 0.05)
    monkeypatch.setattr(poller, "_LONGEST", 0.05)
    monkeypatch.setattr(poller, "_FRESH", 0.05)
    for module in (pinning, tracker):
        monkeypatch.setattr(module, "LONGEST_LAG", 0.0)
    for name in ("_LONGEST_REPEAT", "_NEXT_LIST"):
        monkeypatch.setattr(ensure_stopped, name, 0.2)
    repeated_stop = functools.partial(ensure_stopped.RepeatedStop, delay=0.2)
    monkeypatch.setattr(ensure_stopped, "RepeatedStop", repeated_stop)


@pytest.fixture
def throttled_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 429 is the end of its row, as else only after the timeout of the stop."""
    monkeypatch.setattr(RetryPolicy, "should_outlast", lambda *_: False)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "fleet.csv"
        path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
        return path

    return write


@pytest.fixture
def fleet(write: Callable[..., Path]) -> Fleet:
    """Writes a file of `count` charges, at chargeboxes box-0, box-1 ..."""

    def fleet(count: int) -> Path:
        return write(HEADER, *(f"box-{n},1,{TAG}-{n},{n + 1}" for n in range(count)))

    return fleet


def drop_first_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every stream lose its first outcome."""
    anext_ = OutcomeStream.__anext__
    dropped: list[StopOutcome] = []

    async def next_outcome(self: Any) -> Any:
        if not dropped:
            dropped.append(await anext_(self))
        return await anext_(self)

    monkeypatch.setattr(OutcomeStream, "__anext__", next_outcome)
