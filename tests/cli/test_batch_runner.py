"""A batch: when its stops are sent, its canary, and the memory a row needs."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from tests import virtual_time
from tests.cli.conftest import HEADER, Fleet, Run, Thor
from tests.conftest import KEY, TAG
from tests.fake_transport import OK, FakeTransport
from thor_async import ThorClient
from thor_async._dispatch.breaker import CircuitBreaker
from thor_async.cli import batch_runner
from thor_async.cli.batch_runner import BatchOptions, BatchRunner
from thor_async.cli.input.command_file import CommandFile, read_command_file
from thor_async.cli.output.resume import ResumeState
from thor_async.cli.output.sink import StandardOutput
from thor_async.cli.spread import Spread
from thor_async.cli.stop_results import StopOptions
from thor_async.emulator import Behaviour, Lists, ScriptedAnswer, ThorEmulator


def make_file(count: int) -> CommandFile:
    rows = (f"box-{n},1,{TAG},{n + 1}\n" for n in range(count))
    return CommandFile("fleet.csv", f"{HEADER}\n{''.join(rows)}".encode())


def play(count: int, options: BatchOptions) -> list[float]:
    """Stops `count` charges under virtual time, and returns the time of each request."""

    async def main() -> list[float]:
        command_file = make_file(count)
        async with ThorEmulator(api_key=KEY, sock=virtual_time.listener()) as thor:
            thor.fill(command_file)
            thor.behaviours[None] = Behaviour(delay=(3.0, 3.0))
            output = StandardOutput(count, keep_copy=False)
            batch = BatchRunner(command_file, range(count), output, ResumeState(count), options)
            await batch.run(ThorClient(KEY, base_url=thor.base_url))
            assert batch.written == count
            return [request.at for request in thor.ledger.requests]

    return virtual_time.run(main)


def gaps(times: list[float]) -> list[float]:
    return [round(after - before, 2) for before, after in itertools.pairwise(times)]


def test_over_spreads_the_stops_evenly() -> None:
    assert gaps(play(5, BatchOptions(spread=Spread(600.0)))) == [120.0] * 4


def test_over_is_for_the_canary_and_the_rest_together() -> None:
    assert gaps(play(6, BatchOptions(spread=Spread(600.0), canary=3)))[:2] == [100.0] * 2
    assert gaps(play(6, BatchOptions(spread=Spread(600.0), canary=3)))[3:] == [100.0] * 2


def test_a_random_spread_keeps_the_order_and_has_no_step() -> None:
    dice = iter([500.0, 20.0, 300.0, 20.5, 100.0])
    spread = Spread(600.0, is_random=True, uniform=lambda low, high: next(dice))
    assert gaps(play(5, BatchOptions(spread=spread))) == [0.5, 79.5, 200.0, 200.0]


def test_a_random_spread_is_over_the_whole_time() -> None:
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return low

    assert list(Spread(600.0, is_random=True, uniform=uniform).plan(2, 6)) == [0.0, 0.0]
    assert bounds == [(0.0, 200.0)] * 2


def test_without_over_nothing_waits() -> None:
    assert gaps(play(5, BatchOptions())) == [0.0] * 4


def test_while_some_are_watched_others_are_sent() -> None:
    assert gaps(play(100, BatchOptions(StopOptions(wait=60.0))))[-1] == 0.0


async def test_after_a_failed_write_results_are_only_counted(thor: Thor) -> None:
    class FailingOutput(StandardOutput):
        def write(self, line: bytes) -> None:
            attempts.append(line)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    attempts: list[bytes] = []
    output = FailingOutput(20, keep_copy=False)
    batch = BatchRunner(make_file(20), range(20), output, ResumeState(20), BatchOptions())
    await batch.run(ThorClient(KEY, base_url=thor.base_url))
    assert batch.failure == "cannot write the output (Input/output error)"
    assert (len(attempts), batch.written) == (1, 0)
    assert 1 < batch.stats.total <= 20


def peak(run: Run, path: Path, count: int) -> int:
    """Returns the peak memory in bytes of a batch of `count` rows, without the file's bytes."""
    site = (f"smartbit-{n:011},{n % 4 + 1},{n:020},{n + 1},site-{n % 50}" for n in range(count))
    path.write_text("\n".join([f"{HEADER},site", *site]))
    transport = FakeTransport(lambda command, now: OK)
    transport.is_forgetful = True
    output = path.with_suffix(f".{count}.jsonl")
    with transport.installed():
        tracemalloc.start()
        result = run("stop-many", path, "--output", output, "--max-in-flight", 4)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert result.status == 0
    return most - path.stat().st_size


def test_a_row_costs_little_from_its_check_to_its_outcome(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)  # pytest keeps every record in memory
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", "http://127.0.0.1:1/x")
    small, large = (peak(run, tmp_path / "fleet.csv", count) for count in (2_000, 10_000))
    assert large - small < 200 * 8_000


@pytest.mark.usefixtures("fast_poller")
def test_a_canary_that_stops_lets_the_rest_go(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(12)
    thor.emulator.fill(read_command_file(str(path)))
    result = run("stop-many", path, "--canary", 4)
    assert result.status == 0
    states = Counter(record.get("state") for record in result.records)
    assert states == {"stopped": 4, None: 8}
    assert [record["index"] < 4 for record in result.records] == [True] * 4 + [False] * 8
    assert not thor.emulator.charges


@pytest.mark.usefixtures("fast_poller")
@pytest.mark.parametrize("problem", ["refuses", "gone", "wrong list"])
def test_a_canary_that_does_not_stop_ends_the_batch(
    thor: Thor,
    run: Run,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    problem: str,
) -> None:
    path = fleet(12)
    thor.emulator.fill(read_command_file(str(path)))
    if problem == "refuses":
        thor.emulator.behaviours["box-2"] = Behaviour(refuses=1.0)
    elif problem == "gone":
        thor.emulator.always("NotInTransaction")
    else:
        thor.emulator.lists = Lists(empty=1.0)
    result = run("stop-many", path, "--canary", 4, "--wait", 1.5)
    assert (result.status, thor.requests, len(result.records)) == (1, 4, 4)
    *_, last, go_on = result.err.splitlines()
    assert go_on.endswith(" --resume --wait 1.5 --canary 4")
    seen = 3 if problem == "refuses" else 0
    assert last == (
        f"thor-async: only {seen} of the first 4 charges were seen to stop: "
        "8 of 12 commands were not sent"
    )


@pytest.mark.usefixtures("fast_poller")
def test_a_canary_passes_if_one_charge_was_over_before(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(6)
    thor.emulator.fill(list(read_command_file(str(path)))[1:])
    thor.emulator.add_chargebox("box-0")
    assert run("stop-many", path, "--canary", 3, "--wait", 1.5).status == 0
    assert thor.requests == 6


@pytest.mark.usefixtures("fast_poller")
def test_with_a_wrong_key_only_the_canary_is_sent(thor: Thor, run: Run, fleet: Fleet) -> None:
    thor.emulator.api_key = "renewed"
    result = run("stop-many", fleet(100), "--canary", 5)
    assert result.status == 3
    assert thor.requests <= 5
    assert "APIKeyNotFound" in result.err


@pytest.mark.usefixtures("fast_poller")
def test_a_canary_is_announced_and_its_end_too(thor: Thor, run: Run, fleet: Fleet) -> None:
    path = fleet(12)
    thor.emulator.fill(read_command_file(str(path)))
    lines = run("stop-many", path, "--canary", 4).err.splitlines()
    begin = (
        "thor-async: canary: the first 4 charges are watched for up to 60 s, and the others wait"
    )
    end = "thor-async: the canary was seen to stop: the other 8 charges are sent now"
    assert begin in lines
    between = lines[lines.index(begin) + 1 : lines.index(end)]
    assert any("canary: " in line for line in between)
    assert not any("canary: " in line for line in lines[lines.index(end) :])


def test_an_outage_is_told_while_it_lasts(
    thor: Thor, run: Run, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CircuitBreaker, "LIMIT", 4)
    monkeypatch.setattr(batch_runner, "_TICK", 0.01)
    path = fleet(20)
    thor.emulator.fill(read_command_file(str(path)))
    thor.emulator.script(*[ScriptedAnswer(503)] * 4)
    result = run("stop-many", path, "--attempts", 1, "--max-in-flight", 1)
    down = [line for line in result.err.splitlines() if "Thor has not answered since" in line]
    assert down
    assert all(", next probe in 1 s, gives up in 60 s; " in line for line in down)
    assert sum("Thor answers again" in line for line in result.err.splitlines()) == 1
    assert thor.requests == 20


def test_without_progress_an_outage_is_not_told(
    thor: Thor, run: Run, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CircuitBreaker, "LIMIT", 4)
    thor.emulator.script(*[ScriptedAnswer(503)] * 4)
    result = run("stop-many", fleet(9), "--attempts", 1, "--max-in-flight", 1, "--quiet")
    assert "Thor has not answered" not in result.err
