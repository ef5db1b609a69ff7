"""The workers of the README do what the README says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import nats
import pytest

from tests.conftest import KEY, TAG, wait_until
from tests.documents import DOCUMENTS, code, perform
from tests.worker.test_settlement import outcome
from thor_async import NotSentError, StopCharge, ThorClient
from thor_async.emulator import ThorEmulator
from thor_async.worker import decide
from thor_async.worker.settlement import MAX_DELIVERIES


@pytest.mark.broker
async def test_the_worker_in_five_lines(
    nats_url: str, emulator: ThorEmulator, tmp_path: Path
) -> None:
    example = code("add_worker(broker").replace("nats://127.0.0.1:4222", nats_url)
    assert nats_url in example
    emulator.start_charge("A", 1, TAG)
    keys = {"THOR_API_KEY": KEY, "THOR_BASE_URL": emulator.base_url}
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", example, env=os.environ | keys, stderr=file
        )
    try:
        # FastStream fails if SIGTERM comes while it starts its subscribers one by one.
        await wait_until(lambda: "app started" in log.read_text())
        async with await nats.connect(nats_url, connect_timeout=60) as client:
            body = msgspec.json.encode(StopCharge("A", 1, TAG))
            await client.jetstream(timeout=60).publish("thor.stop", body)
        await wait_until(lambda: not emulator.charges)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 120) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_the_example_of_a_queue(emulator: ThorEmulator) -> None:
    names = await perform("async def serve(queue", asyncio=asyncio)
    names["decide"] = lambda *args: decide(*args, random=lambda low, high: 0.0)
    now = datetime.now(UTC)
    good = StopCharge("A", 1, TAG, ref=1)
    unknown = StopCharge("B", 1, TAG, ref=2)
    charge = emulator.start_charge("A", 1, TAG)
    began = charge.date_started - 60_000
    emulator.charges["A", 1] = msgspec.structs.replace(charge, date_started=began)
    emulator.script(429, chargebox="A")
    queue: asyncio.Queue[tuple[bytes, datetime, int]] = asyncio.Queue()
    for command, created in [(good, now), (unknown, now), (good, now - timedelta(hours=1))]:
        queue.put_nowait((msgspec.json.encode(command), created, 1))
    queue.put_nowait((b"{}", now, 1))
    outcomes: list[object] = []
    dead: list[tuple[bytes, str, bool]] = []
    async with ThorClient(KEY, base_url=emulator.base_url) as thor:
        serving = asyncio.create_task(names["serve"](queue, thor, outcomes, dead))
        async with asyncio.timeout(60):
            await queue.join()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert len(outcomes) == 1
    assert emulator.charges == {}
    reasons = sorted(reason for _, reason, _ in dead)
    assert reasons[0] == "Thor answered 404: ChargeboxNotFound"
    assert reasons[1].startswith("expired: 3600 s old")
    assert reasons[2].startswith("not a StopCharge: ")


def test_the_readme_has_the_figures_of_the_decisions() -> None:
    assert "at most 30 times, and about 15 times within" in " ".join(
        DOCUMENTS["thor_async/worker/README.md"].split()
    )
    assert MAX_DELIVERIES == 30
    again = outcome(NotSentError("no"))
    delays = [decide(again, n, random=lambda *ends: sum(ends) / 2).delay for n in range(1, 30)]
    assert sum(delays[:14]) < 600 < sum(delays[:18])
