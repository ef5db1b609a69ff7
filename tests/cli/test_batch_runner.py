"""A batch by itself: when its stops go out, and what a row costs."""

from __future__ import annotations

import itertools
import logging
import tracemalloc
from pathlib import Path

import pytest

from tests import virtual_time
from tests.cli.conftest import HEADER, Run
from tests.conftest import KEY, TAG
from tests.fake_transport import OK, FakeTransport
from thor_async import NotSentError, StopCharge, StopOutcome, ThorClient
from thor_async.cli.batch_runner import BatchOptions, BatchRunner
from thor_async.cli.input.command_file import CommandFile
from thor_async.cli.output.resume import ResumeState
from thor_async.cli.output.sink import Standard
from thor_async.cli.stop_results import Result, StopOptions
from thor_async.emulator import Behaviour, ThorEmulator


def fleet(count: int) -> CommandFile:
    rows = (f"box-{n},1,{TAG},{n + 1}\n" for n in range(count))
    return CommandFile("fleet.csv", f"{HEADER}\n{''.join(rows)}".encode())


def play(count: int, options: BatchOptions) -> list[float]:
    """When each stop of so many came, under virtual time."""

    async def main() -> list[float]:
        rows = fleet(count)
        async with ThorEmulator(api_key=KEY, sock=virtual_time.listener()) as thor:
            thor.fill(rows)
            thor.behaviours[None] = Behaviour(delay=(3.0, 3.0))
            output = Standard(count, is_kept=False)
            batch = BatchRunner(rows, range(count), output, ResumeState(count), options)
            await batch.run(ThorClient(KEY, base_url=thor.base_url))
            assert batch.written == count
            return [request.at for request in thor.ledger.requests]

    return virtual_time.run(main)


def gaps(times: list[float]) -> list[float]:
    return [round(after - before, 2) for before, after in itertools.pairwise(times)]


def test_over_spreads_the_stops_evenly() -> None:
    assert gaps(play(5, BatchOptions(over=600.0))) == [120.0] * 4


def test_over_is_for_the_canary_and_the_rest_together() -> None:
    assert gaps(play(6, BatchOptions(over=600.0, canary=3)))[:2] == [100.0] * 2
    assert gaps(play(6, BatchOptions(over=600.0, canary=3)))[3:] == [100.0] * 2


def test_without_over_nothing_waits() -> None:
    assert gaps(play(5, BatchOptions())) == [0.0] * 4


def test_while_some_are_watched_others_are_sent() -> None:
    assert gaps(play(100, BatchOptions(StopOptions(wait=60.0))))[-1] == 0.0


def peak(run: Run, path: Path, count: int) -> int:
    """Bytes at the worst moment of a batch of so many rows, beside those of its file."""
    site = (f"smartbit-{n:011},{n % 4 + 1},{n:020},{n + 1},site-{n % 50}" for n in range(count))
    path.write_text("\n".join([f"{HEADER},site", *site]))
    transport = FakeTransport(lambda command, now: OK)
    transport.is_forgetful = True
    output = path.with_suffix(f".{count}.jsonl")
    with transport.installed():
        tracemalloc.start()
        said = run("stop-many", path, "--output", output, "--max-in-flight", 4)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert said.status == 0
    return most - path.stat().st_size


def test_a_row_costs_little_from_its_check_to_its_outcome(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)  # pytest keeps each line
    monkeypatch.setenv("THOR_API_KEY", KEY)
    monkeypatch.setenv("THOR_BASE_URL", "http://127.0.0.1:1/x")
    small, large = (peak(run, tmp_path / "fleet.csv", count) for count in (2_000, 10_000))
    assert large - small < 200 * 8_000


@pytest.mark.parametrize(("sent_before", "step"), [(False, "resend"), (True, "check")])
def test_what_may_have_been_sent_before_is_to_be_looked_at(sent_before: bool, step: str) -> None:
    command = StopCharge("A", 1, TAG)
    error = NotSentError("no connection", reason="connect")
    outcome = StopOutcome(command, 0, error.verdict, error, 1, 0.1, maybe_applied=False)
    result = Result(outcome, may_have_been_sent=sent_before)
    assert result.next_step == result.record()["next_step"] == step
    assert result.record()["maybe_applied"] is sent_before
