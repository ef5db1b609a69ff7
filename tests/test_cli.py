"""The command line: its exit statuses, what it says where, and what it never says."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.conftest import KEY, TAG
from thor_async import OutcomeStream, StopOutcome
from thor_async.cli import demo, main, show, stories
from thor_async.cli.fleet import read_fleet
from thor_async.cli.problem import BadInput
from thor_async.cli.tally import Tally
from thor_async.emulator import Answer, Faults, Ledger, ThorEmulator
from thor_async.outage import Outage

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


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Said:
        status = main([str(argument) for argument in arguments])
        return checked(status, *capsys.readouterr())

    return run


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the command as a process, which does not outlive its test, nor 20 seconds."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: object, **settings: Any) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", PROCESS, *map(str, arguments)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
            # Buffered, as users have it: what is not flushed does not come.
            environment = {k: value for k, value in os.environ.items() if k != "PYTHONUNBUFFERED"}
            process = subprocess.Popen(command, text=True, env=environment, **pipes)
            stack.enter_context(process)
            stack.callback(process.kill)
            limit = threading.Timer(20, process.kill)
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
        for _ in range(2000):
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


# Stopping one charge


@pytest.fixture
def charge(thor: Thor) -> list[object]:
    """The arguments that stop the one charge that runs."""
    thor.emulator.start_charge("A", 2, TAG, 52)
    return ["stop", "A", 2, TAG, "--transaction", 52]


def test_stop_relayed(thor: Thor, run: Run, charge: list[object]) -> None:
    said = run(*charge)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("relayed: chargebox 'A' connector 2: ")
    assert said.out.endswith("nothing is left to do\n")
    assert said.out.count("\n") == 1
    assert not thor.emulator.charges


def test_stop_without_transaction(thor: Thor, run: Run, charge: list[object]) -> None:
    assert run(*charge[:4]).status == 0
    (request,) = thor.emulator.ledger.requests
    assert request.command is not None
    assert request.command.transaction is None
    assert not thor.emulator.charges


@pytest.mark.parametrize(
    ("answer", "status", "start", "end"),
    [
        ("NotInTransaction", 0, "rejected: ", "nothing is left to do"),
        ("WrongTransaction", 1, "rejected: ", "the same would be refused again"),
        ("APIKeyNotFound", 1, "rejected: ", "the same would be refused again"),
        ("TooManyRequests", 1, "rejected: ", "send it again"),
        (Answer(drop=True), 1, "indeterminate: ", "before you send it again"),
    ],
)
def test_stop_not_relayed(
    thor: Thor, run: Run, charge: list[object], answer: Any, status: int, start: str, end: str
) -> None:
    thor.emulator.script(answer)
    said = run(*charge)
    assert (said.status, said.err) == (status, "")
    assert said.out.startswith(start)
    assert said.out.endswith(f"{end}\n")
    assert said.out.count("\n") == 1


def test_stop_that_finds_nobody(thor: Thor, run: Run, charge: list[object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = run(*charge, "--base-url", f"http://127.0.0.1:{port}")
    assert said.status == 1
    assert said.out.startswith("not_sent: ")
    assert thor.requests == 0


def test_an_answer_that_echoes_the_tag(thor: Thor, run: Run, charge: list[object]) -> None:
    thor.emulator.script(Answer(400, f'{{"message": "no charge of {TAG} or {KEY}"}}'.encode()))
    assert "no charge of *** or ***" in run(*charge).out


def test_a_name_that_the_terminal_cannot_show(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert run("stop", "Gar\xe9", 1, TAG).status == 1
    assert rb"chargebox 'Gar\xe9' connector 1" in written.getvalue()


def test_stop_interrupted(thor: Thor, start: Start, charge: list[object]) -> None:
    thor.emulator.always(Answer(delay=30))
    process = start(*charge)
    thor.saw(requests=1)
    said = interrupt(process)
    assert (said.status, said.err) == (130, "thor-async: interrupted\n")
    assert said.out.startswith("indeterminate: chargebox 'A' connector 2: ")


# What cannot be used


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
        (["stop", "A", "1", "04", TAG], "too many arguments (1): quote what has blanks"),
        (["stop", "A", "1", TAG, "--api-key", KEY], "too many arguments (2)"),
        (["stop", "A", "1", TAG, "--trans", "5"], "too many arguments (2)"),
        (["stop", "A", "1", TAG, "--base-url", "x"], "base_url must be an address like https://"),
        (["stop", "A", "1", TAG, "--base-url", "http://x.example"], "use https"),
        (["stop-many", "no-such-file"], "cannot read no-such-file (No such file or directory)"),
        (["stop-many", "."], "cannot read . (Is a directory)"),
        (["demo", "--charges", "0"], "--charges: must be at least 1"),
        (["demo", "--charges", "5", "--fleet", "x"], "not allowed with argument --charges"),
        (["demo", "--fleet", "no-such-file"], "cannot read no-such-file"),
        (["demo", "--faults", "1.5"], "give a number from 0 to 1"),
        (["demo", "--faults", "0.1", "--story", "outage"], "not allowed with argument --faults"),
        (["demo", "--story", "outage", "--charges", "299"], "give at least 300"),
        (["demo", "--story", "next-driver", "--charges", "9"], "leave --charges and --fleet out"),
        (["demo", "--story", "next-driver", "--fleet", "x"], "leave --charges and --fleet out"),
        (["emulate", "--fleet", "no-such-file"], "cannot read no-such-file"),
    ],
)
def test_bad_usage_is_one_line_with_the_cure(
    thor: Thor, run: Run, arguments: list[str], cure: str
) -> None:
    said = run(*arguments)
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert said.err.startswith("thor-async")
    assert cure in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["stop A 1 T", "stop-many fleet.csv"])
@pytest.mark.parametrize("key", [None, "", f"{KEY} "])
def test_a_missing_or_bad_key(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, key: str | None
) -> None:
    monkeypatch.delenv("THOR_API_KEY")
    if key is not None:
        monkeypatch.setenv("THOR_API_KEY", key)
    said = run(*command.split())
    cure = "copied with it" if key else "set THOR_API_KEY"
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert said.err.endswith(f"{cure}\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("port", [None, "65536"])
def test_a_port_that_cannot_be_had(thor: Thor, start: Start, port: str | None) -> None:
    taken = thor.base_url.split(":")[2].split("/")[0]
    said = finish(start("emulate", "--port", port or taken))
    assert (said.status, said.out) == (2, "")
    assert ("give 0 to 65535" if port else "give another --port") in said.err
    assert said.err.count("\n") == 1


# Fleet files


def test_columns_in_any_order_with_others_between(write: Callable[..., Path]) -> None:
    path = write("id_tag,note,transaction,chargebox,connector", "T,hi,,A,1", "", '"U,",,7,"B""",2')
    assert [(c.chargebox, c.connector, c.id_tag, c.transaction) for c in read_fleet(str(path))] == [
        ("A", 1, "T", None),
        ('B"', 2, "U,", 7),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_with_and_without_its_mark(write: Callable[..., Path], encoding: str) -> None:
    (command,) = read_fleet(str(write(HEADER, "Gar\xe9,1,T,", encoding=encoding)))
    assert command.chargebox == "Gar\xe9"


def test_every_bad_row_is_named_and_nothing_is_sent(
    thor: Thor, run: Run, write: Callable[..., Path]
) -> None:
    path = write(
        HEADER,
        f"A,1,{TAG},5",
        f"B,two,{TAG},5",
        "",
        f"C,1.0,{TAG},5",
        f'"D\nD",1,{TAG},5',
        f"E,1,{TAG},0",
        "F,1,,5",
        f"G,{TAG},1,5",
        f"H,1,{TAG}",
        f"I,1,{TAG},5,{TAG}",
        f"J,1,{TAG},{TAG}",
        f'K,1,"{TAG}"x,5',
        f",1,{TAG},5",
        f'L,1,{TAG},"5',
        f"M,1,{TAG},5",
    )
    said = run("stop-many", path)
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    whole = "must be a whole number of digits only"
    assert said.err.replace(f"thor-async: {path} ", "").splitlines() == [
        f"line 3: connector {whole}",
        f"line 5: connector {whole}",
        r"line 6: chargebox must not hold control characters, not 'D\nD': clean it",
        "line 8: transaction must be an int of at least 1, not 0: "
        "leave it out when it is not known",
        "line 9: id_tag must not be empty or blank",
        f"line 10: connector {whole}",
        "line 11: 3 cells under 4 columns: add or quote what is missing",
        "line 12: 5 cells under 4 columns: add or quote what is missing",
        f"line 13: transaction {whole}",
        "line 14: not CSV (',' expected after '\"'): "
        "look for a quote that is not closed or not doubled",
        "line 15: chargebox must not be empty or blank, not ''",
        "line 16: not CSV (unexpected end of data): "
        "look for a quote that is not closed or not doubled",
        "thor-async: nothing was sent: correct the rows named here (12)",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], f"line 1: no column {', '.join(HEADER.split(','))}: put {HEADER} into the first line"),
        ([f"connector-1,2,{TAG},3"], f"put {HEADER} into the first line"),
        ([f"A;2;{TAG};3"], f"put {HEADER} into the first line"),
        (["chargebox,connector,idTag"], "no column id_tag, transaction: found 'chargebox,conn"),
        (["Chargebox\tConnector"], "separate the columns with commas, not tabs"),
        (["chargebox;connector;note"], "'chargebox;connector;note': separate the columns with com"),
        ([f"{HEADER},connector"], "two columns connector: leave one out"),
        ([f'"{HEADER}'], "line 1: not CSV (unexpected end of data)"),
    ],
)
def test_a_header_that_will_not_do(
    thor: Thor, run: Run, write: Callable[..., Path], lines: list[str], message: str
) -> None:
    said = run("stop-many", write(*lines))
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_file_that_is_not_utf_8(thor: Thor, run: Run, write: Callable[..., Path]) -> None:
    said = run("stop-many", write(HEADER, f"A,1,{TAG},", f"Gar\xe9,1,{TAG},", encoding="latin-1"))
    assert (said.status, said.out, thor.requests) == (2, "", 0)
    assert said.err.endswith("line 3: not UTF-8: save it as CSV in UTF-8\n")


def test_the_error_of_a_file_carries_nothing_of_it(write: Callable[..., Path]) -> None:
    path = write(HEADER, f"Gar\xe9,1,{TAG},", encoding="latin-1")
    with pytest.raises(BadInput) as raised:
        read_fleet(str(path))
    assert raised.value.__context__ is None


# Stopping many


def test_stop_many(thor: Thor, run: Run, fleet: Callable[[int], Path]) -> None:
    path = fleet(100)
    thor.emulator.fill(read_fleet(str(path)))
    said = run("stop-many", path)
    assert said.status == 0
    assert sorted(record["index"] for record in said.records) == list(range(100))
    assert {record["verdict"] for record in said.records} == {"relayed"}
    by_index = {record["index"]: record for record in said.records}
    assert by_index[7]["chargebox"] == "box-7"
    assert by_index[7]["transaction"] == 8
    assert said.err.splitlines() == [
        *(f"{count} of 100" for count in (25, 50, 75, 100)),
        "thor-async: 100 of 100 commands: 100 done",
    ]
    assert not thor.emulator.charges


def test_stop_many_from_standard_input(
    thor: Thor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"\ufeff{HEADER}\r\nA,1,{TAG},5\r\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    thor.emulator.start_charge("A", 1, TAG, 5)
    assert run("stop-many", "-").status == 0
    assert not thor.emulator.charges


def test_stop_many_with_something_left_to_do(
    thor: Thor, run: Run, fleet: Callable[[int], Path]
) -> None:
    path = fleet(4)
    thor.emulator.fill(read_fleet(str(path)))
    thor.emulator.script("ConnectorNotValid", chargebox="box-1")
    thor.emulator.script(Answer(drop=True), chargebox="box-2")
    said = run("stop-many", path, "--base-url", thor.base_url)
    steps = {record["chargebox"]: record["next_step"] for record in said.records}
    assert said.status == 1
    assert steps == {"box-0": "done", "box-1": "fix", "box-2": "check", "box-3": "done"}
    assert "4 of 4 commands: 2 done, " in said.err
    assert "fix: correct the data or the account" in said.err
    assert "check: look whether the charge still runs" in said.err


def test_stop_many_of_nothing(thor: Thor, run: Run, fleet: Callable[[int], Path]) -> None:
    said = run("stop-many", fleet(0))
    assert said == (0, "", "thor-async: 0 of 0 commands: nothing to do\n")


def test_stop_many_that_gives_up_says_how_many_are_left(
    thor: Thor, run: Run, fleet: Callable[[int], Path]
) -> None:
    thor.emulator.api_key = "renewed"
    said = run("stop-many", fleet(500))
    left = 500 - len(said.records)
    assert said.status == 1
    assert thor.requests <= 32
    assert left >= 400
    gave_up, summary, advice = said.err.splitlines()
    assert gave_up.endswith(f"APIKeyNotFound: {left} of 500 commands were not sent")
    assert summary.startswith(f"thor-async: {500 - left} of 500 commands: ")
    assert advice.startswith("thor-async: fix: ")


def test_stop_many_interrupted_tells_what_it_knows(
    thor: Thor, start: Start, fleet: Callable[[int], Path]
) -> None:
    path = fleet(100)
    thor.emulator.fill(read_fleet(str(path)))
    for number in range(1, 100):
        thor.emulator.always(Answer(delay=30), chargebox=f"box-{number}")
    process = start("stop-many", path)
    assert process.stdout
    first = process.stdout.readline()  # written at once, not when the buffer is full
    thor.saw(requests=33)
    said = interrupt(process)
    assert msgspec.json.decode(first)["chargebox"] == "box-0"
    assert Counter(record["verdict"] for record in said.records) == {"indeterminate": 32}
    assert said.status == 130
    assert said.err == ("25 of 100\nthor-async: interrupted: 67 of 100 commands were not sent\n")


def test_stop_many_into_a_closed_pipe(
    thor: Thor, start: Start, fleet: Callable[[int], Path]
) -> None:
    path = fleet(300)
    thor.emulator.faults = Faults(latency=(0.05, 0.05))
    reading, writing = os.pipe()
    process = start("stop-many", path, stdout=writing)
    os.close(writing)
    os.close(reading)
    said = finish(process)
    assert said.status == 1
    (line,) = said.err.splitlines()
    rest, lost = (int(word) for word in line.split() if word.isdecimal() and word != "300")
    assert rest + lost == 300
    assert 1 <= thor.requests <= lost <= 128


def test_stop_many_while_nobody_listens_to_its_errors(
    thor: Thor, start: Start, fleet: Callable[[int], Path]
) -> None:
    path = fleet(50)
    thor.emulator.fill(read_fleet(str(path)))
    reading, writing = os.pipe()
    process = start("stop-many", path, stderr=writing)
    os.close(writing)
    os.close(reading)
    said = finish(process)
    assert (said.status, len(said.records)) == (0, 50)


def lose_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    anext_ = OutcomeStream.__anext__
    lost: list[StopOutcome] = []

    async def next_outcome(self: Any) -> Any:
        if not lost:
            lost.append(await anext_(self))
        return await anext_(self)

    monkeypatch.setattr(OutcomeStream, "__anext__", next_outcome)


def test_stop_many_does_not_call_a_missing_outcome_done(
    thor: Thor, run: Run, fleet: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(10)
    thor.emulator.fill(read_fleet(str(path)))
    lose_the_first(monkeypatch)
    said = run("stop-many", path)
    assert (said.status, len(said.records)) == (1, 9)
    assert "9 of 10 commands: 9 done" in said.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_an_output_that_is_full(thor: Thor, start: Start, fleet: Callable[[int], Path]) -> None:
    with Path("/dev/full").open("w") as full:
        said = finish(start("stop-many", fleet(1), stdout=full))
    assert said.status == 1
    assert said.err.splitlines() == [
        "thor-async: the output takes no more: 0 of 1 commands were not sent, "
        "and 1 of the outcomes could not be written",
        "thor-async: cannot write the output (No space left on device): send it somewhere else",
    ]


# The demo


def kinds(said: Said) -> dict[tuple[str, ...], int]:
    """The rows of the table, by everything but their counts."""
    lines = said.out.splitlines()
    (top,) = [number for number, line in enumerate(lines) if line.startswith("verdict ")]
    rows = [line.split() for line in lines[top + 1 : -2]]
    return {tuple(row[:-1]): int(row[-1].replace(",", "")) for row in rows}


def test_demo(run: Run) -> None:
    said = run("demo", "--charges", 40)
    assert (said.status, said.err) == (0, "")
    assert said.last == HONEST.format(40)
    assert kinds(said) == {("relayed", "done"): 40}
    assert said.out.startswith("10 of 40\n20 of 40\n30 of 40\n40 of 40\nverdict ")
    assert "40 requests seen, 0 retries, 0." in said.out


def test_demo_of_a_thousand_by_default(run: Run) -> None:
    said = run("demo")
    assert (said.status, said.last) == (0, HONEST.format("1,000"))
    assert kinds(said) == {("relayed", "done"): 1000}


def test_demo_of_a_fleet(run: Run, fleet: Callable[[int], Path]) -> None:
    said = run("demo", "--fleet", fleet(12))
    assert (said.status, said.last) == (0, HONEST.format(12))


def test_demo_of_a_fleet_that_cannot_be(run: Run, write: Callable[..., Path]) -> None:
    said = run("demo", "--fleet", write(HEADER, f"A,1,{TAG},1", f"A,1,{TAG}2,2"))
    assert (said.status, said.out) == (2, "")
    assert "a charge runs at 'A', 1" in said.err


def test_demo_with_faults_is_a_success_that_shows_them(run: Run) -> None:
    said = run("demo", "--charges", 300, "--faults", 0.3, "--seed", 1)
    found = kinds(said)
    assert (said.status, said.last) == (0, HONEST.format(300))
    assert sum(found.values()) == 300
    assert found["indeterminate", "ConnectionLost", "check"] > 10
    assert found["rejected", "NotInTransaction", "done"] > 3
    assert " 0 retries" not in said.out


def test_demo_talks_to_nobody_else(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        elsewhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name in ("THOR_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere)
        monkeypatch.setenv("THOR_API_KEY", KEY)
        said = run("demo", "--charges", 10)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert kinds(said) == {("relayed", "done"): 10}


def test_demo_needs_no_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THOR_BASE_URL", "not an address")
    monkeypatch.setenv("THOR_API_KEY", "not a key")
    assert run("demo", "--charges", 3).status == 0


def test_demo_catches_a_client_that_lies(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes every answer for a relay."""
    monkeypatch.setattr("thor_async.call.read_stop", lambda *_: None)
    said = run("demo", "--charges", 20, "--story", "wrong-key")
    assert said.status == 1
    assert said.last == HONEST.format(20).replace("0", "20", 1)


def test_demo_asks_the_ledger_about_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[StopOutcome] = []

    def one_lie(_: Ledger, outcomes: list[StopOutcome]) -> list[StopOutcome]:
        asked.extend(outcomes)
        return outcomes[:1]

    monkeypatch.setattr(Ledger, "overclaims", one_lie)
    said = run("demo", "--charges", 20)
    assert (said.status, len(asked)) == (1, 20)
    assert said.last == HONEST.format(20).replace("0", "1", 1)


def repeat_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first outcome comes in place of the second."""
    anext_ = OutcomeStream.__anext__
    seen: list[StopOutcome] = []

    async def next_outcome(self: Any) -> Any:
        seen.append(await anext_(self))
        return seen[0 if len(seen) == 2 else -1]

    monkeypatch.setattr(OutcomeStream, "__anext__", next_outcome)


@pytest.mark.parametrize("spoil", [lose_the_first, repeat_the_first])
def test_demo_misses_an_outcome(
    run: Run, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    spoil(monkeypatch)
    said = run("demo", "--charges", 20)
    assert said.status == 1
    assert "An outcome is missing" in said.out
    assert said.last.startswith("Checked against the emulator: ")


def test_demo_gives_the_emulator_its_dice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def make(**settings: Any) -> ThorEmulator:
        made.append(settings)
        return ThorEmulator(**settings)

    monkeypatch.setattr(demo, "ThorEmulator", make)
    run("demo", "--charges", 1, "--faults", 0.4, "--seed", 7)
    (settings,) = made
    latency = settings["faults"].latency
    assert settings["seed"] == 7
    assert settings["faults"] == msgspec.structs.replace(Faults.spread(0.4), latency=latency)
    assert 0 < latency[0] < latency[1] < 0.1


def test_demo_into_a_closed_pipe(start: Start) -> None:
    reading, writing = os.pipe()
    process = start("demo", "--charges", 300, "--story", "outage", stdout=writing)
    os.close(writing)
    os.close(reading)
    assert finish(process) == (1, "", "")


# The stories


def test_outage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outage, "_FIRST", 0.1)
    monkeypatch.setattr(stories, "AWAY", 0.25)
    said = run("demo", "--story", "outage", "--charges", 400)
    found = kinds(said)
    relayed = found["relayed", "done"]
    refused = found["not_sent", "connect", "resend"]
    cut = found.get(("indeterminate", "ConnectionLost", "check"), 0)
    assert (said.status, said.last) == (0, HONEST.format(400))
    assert relayed + refused + cut == 400
    assert 64 <= refused + cut <= 130
    assert "Thor will refuse every\nconnection for 0.25 seconds" in said.out
    assert f"\n{cut} stops were cut off on their way" in said.out
    assert f"\n{refused} found no Thor at all" in said.out
    assert f"\nanswered: {relayed} relayed. " in said.out
    silence = said.out.split("without any request at Thor was ")[1]
    assert float(silence.split()[0]) >= 0.2


@pytest.mark.parametrize("charges", [20, 1000])
def test_wrong_key(run: Run, charges: int) -> None:
    said = run("demo", "--story", "wrong-key", "--charges", charges)
    ((kind, count),) = kinds(said).items()
    assert (said.status, said.last) == (0, HONEST.format(count))
    assert kind == ("rejected", "APIKeyNotFound", "fix")
    assert count <= 32
    assert f"Thor saw {count} requests: the first APIKeyNotFound stopped the batch" in said.out
    assert (
        f"\n{count} outcomes + {charges - count} never pulled = {charges:,} of {charges:,} c"
        in (said.out)
    )


def test_next_driver(run: Run) -> None:
    said = run("demo", "--story", "next-driver")
    assert (said.status, said.last) == (0, HONEST.format(2))
    assert kinds(said) == {
        ("relayed", "done"): 1,
        ("rejected", "WrongTransaction", "check"): 1,
    }
    _, without, with_, *_ = said.out.split("\n\n")
    assert without.startswith("Without transaction, 2 attempts. relayed: ")
    assert "handed the stop on, and may have done so before;" in without
    assert without.endswith("The next driver's charge was stopped by the retry.")
    assert with_.startswith("With transaction, 2 attempts. rejected: ")
    assert "WrongTransaction (attempts 2, may have been applied)" in with_
    assert with_.endswith("The next driver's charge still runs.")
    assert "4 requests seen, 2 retries" in said.out


# The emulator as a command


def test_emulate_until_interrupted(
    run: Run, start: Start, fleet: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fleet(3)
    process = start("emulate", "--fleet", path)
    assert process.stdout
    address, key = process.stdout.readline().strip(), process.stdout.readline().strip()
    monkeypatch.setenv("THOR_API_KEY", key)
    stopped = run("stop-many", path, "--base-url", address)
    said = interrupt(process)
    assert stopped.status == 0
    assert {record["verdict"] for record in stopped.records} == {"relayed"}
    assert (said.status, said.out) == (0, "")
    assert said.err.count("\n") == 1


# Help, and the terminal


@pytest.mark.parametrize("command", ["demo", "emulate", "stop", "stop-many", None])
def test_help_has_an_example(run: Run, command: str | None) -> None:
    said = run(*[command] if command else [], "--help")
    assert (said.status, said.err) == (0, "")
    assert said.out.count(f"example: thor-async {command or 'demo'} ") == 1
    assert max(map(len, said.out.splitlines())) <= 100


def test_help_of_the_module_brings_nothing_slow() -> None:
    code = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('thor_async.cli', run_name='__main__')\n"
        "except SystemExit as end: print('left with', end.code)\n"
        "print(sorted({'rich', 'thor_async.emulator', 'aiohttp.web'} & set(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.startswith("usage: thor-async ")
    assert out.endswith("left with 0\n[]\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_a_terminal_gets_a_bar(terminal: Terminal) -> None:
    with show.progress(3, Tally(), terminal) as tick:
        tick()
        tick()
    assert "━" in terminal.getvalue()
    assert "2/3" in terminal.getvalue()


@pytest.mark.parametrize("missing", [True, False])
def test_plain_lines_without_rich_or_when_not_live(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with show.progress(5, Tally(), terminal, live=missing) as tick:
        for _ in range(5):
            tick()
    assert terminal.getvalue() == "2 of 5\n3 of 5\n4 of 5\n5 of 5\n"


def test_the_demo_in_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["demo", "--charges", "8"]) == 0
    assert "8/8" in terminal.getvalue()
    assert "┃" in terminal.getvalue()
    assert terminal.getvalue().endswith(f"\n{HONEST.format(8)}\n")


def test_no_colour_into_a_file_even_when_it_is_forced(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run("demo", "--charges", 4).last == HONEST.format(4)
