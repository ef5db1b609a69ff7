"""The pages for an orchestrator: no restart while NATS or Thor is away."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from faststream.nats import NatsBroker

from tests.conftest import KEY, TAG, wait_until
from tests.worker.conftest import Place, connect, run_server, serving
from thor_async import StopCharge, ThorClient
from thor_async.emulator import Faults, ThorEmulator
from thor_async.worker.health_server import serve_health
from thor_async.worker.service import StopWorker, add_worker
from thor_async.worker.stats import WorkerStats


async def get(url: str | None, page: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/{page}") as response:
        return response.status, await response.text()


async def both(url: str | None) -> tuple[int, int, str, str | None]:
    """Returns the statuses of `/healthz` and `/readyz`, the state and the reason."""
    (alive, _), (ready, text) = await get(url, "healthz"), await get(url, "readyz")
    row = msgspec.json.decode(text)
    return alive, ready, row["state"], row["reason"]


@contextlib.asynccontextmanager
async def pages(stats: WorkerStats) -> AsyncIterator[str]:
    async with serve_health(lambda: stats, "127.0.0.1", 0) as url:
        yield url


@pytest.mark.parametrize(
    ("stats", "alive", "ready"),
    [
        (WorkerStats("running"), 200, 200),
        (WorkerStats("paused"), 200, 503),
        (WorkerStats("disconnected"), 200, 503),
        (WorkerStats("not_serving", "no consumer answers"), 200, 503),
        (WorkerStats("draining"), 200, 503),
        (WorkerStats("running", failure="KeyError in x.py, line 3"), 503, 503),
    ],
)
async def test_what_each_state_means(stats: WorkerStats, alive: int, ready: int) -> None:
    async with pages(stats) as url:
        reason = stats.failure or stats.reason
        assert await both(url) == (alive, ready, stats.state, reason)


async def test_metrics_need_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "thor_async.worker.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with pages(WorkerStats()) as url:
        status, text = await get(url, "metrics")
        assert (status, text) == (
            501,
            "prometheus_client is not installed: pip install 'thor_async[metrics]'\n",
        )
        assert (await get(url, "healthz"))[0] == 200


async def test_an_address_that_is_taken_is_named() -> None:
    async with pages(WorkerStats()) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(RuntimeError, match=rf"cannot listen on 127.0.0.1 port {port} \("):
            async with serve_health(WorkerStats, "127.0.0.1", port):
                pass


@pytest.mark.broker
async def test_a_worker_is_ready_when_a_pull_was_answered(
    place: Place, emulator: ThorEmulator
) -> None:
    broker = NatsBroker(place.url, logger=None, max_reconnect_attempts=-1)
    worker = add_worker(broker, ThorClient(KEY, base_url=emulator.base_url), health_port=0)
    async with worker.lifespan():
        assert await both(worker.health_url) == (200, 503, "not_serving", "not pulled yet")
        await broker.start()
        await wait_until(lambda: worker.state == "running")
        assert await both(worker.health_url) == (200, 200, "running", None)
        await broker.stop()


@pytest.mark.broker
async def test_a_worker_serves_its_figures(place: Place, emulator: ThorEmulator) -> None:
    emulator.start_charge("A", 1, TAG)
    async with serving(place, emulator, health_port=0) as worker:
        await wait_until(lambda: worker.state == "running")
        assert await both(worker.health_url) == (200, 200, "running", None)
        await place.send(StopCharge("A", 1, TAG), StopCharge("B", 1, TAG), b"{}")
        await place.emptied()
        status, text = await get(worker.health_url, "metrics")
    assert status == 200
    lines = text.splitlines()
    assert 'thor_worker_outcomes_total{code="",verdict="relayed"} 1.0' in lines
    assert 'thor_worker_outcomes_total{code="ChargeboxNotFound",verdict="rejected"} 1.0' in lines
    assert "thor_worker_dead_letters_total 2.0" in lines
    assert "thor_worker_pending 0.0" in lines
    assert TAG not in text
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(worker.health_url, "healthz")


@pytest.mark.broker
async def test_thor_away_is_no_reason_to_restart(place: Place, emulator: ThorEmulator) -> None:
    async with serving(place, emulator, key="rotated-away", health_port=0) as worker:
        await place.send(StopCharge("A", 1, TAG))
        await wait_until(lambda: worker.state == "paused")
        assert await both(worker.health_url) == (200, 503, "paused", None)
        _, text = await get(worker.health_url, "metrics")
        assert "thor_worker_paused 1.0" in text.splitlines()


@pytest.mark.broker
async def test_nats_away_is_no_reason_to_restart(emulator: ThorEmulator, tmp_path: Path) -> None:
    """Neither before the first connection nor after it."""
    emulator.start_charge("A", 1, TAG)
    with run_server(tmp_path) as server:
        async with connect(server.url) as place:
            server.stop()
            async with asyncio.TaskGroup() as group:
                ended = asyncio.Event()
                worker = make_worker(server.url, place, emulator)
                running = group.create_task(run(worker, ended))
                await wait_until(lambda: worker.health_url)
                assert await both(worker.health_url) == (200, 503, "disconnected", None)
                server.start()
                await wait_until(lambda: worker.state == "running")
                assert (await both(worker.health_url))[:2] == (200, 200)
                server.stop()
                await wait_until(lambda: worker.state == "disconnected")
                assert (await both(worker.health_url))[:3] == (200, 503, "disconnected")
                server.start()
                await wait_until(lambda: worker.state == "running")
                await place.send(StopCharge("A", 1, TAG))
                await place.emptied()
                ended.set()
                await running
    assert emulator.charges == {}


def make_worker(url: str, place: Place, emulator: ThorEmulator) -> StopWorker:
    async def ignore_error(error: Exception) -> None:
        pass

    broker = NatsBroker(
        url, logger=None, max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=ignore_error
    )
    thor = ThorClient(KEY, base_url=emulator.base_url)
    return add_worker(broker, thor, health_port=0, **place.names)


async def run(worker: StopWorker, ended: asyncio.Event) -> None:
    async with worker.lifespan():
        await worker._broker.start()
        await ended.wait()
        await worker._broker.stop()


@pytest.mark.broker
async def test_the_age_of_the_oldest_command(place: Place, emulator: ThorEmulator) -> None:
    emulator.start_charge("A", 1, TAG)
    emulator.faults = Faults(latency=(1.0, 1.0))
    async with serving(place, emulator, health_port=0) as worker:
        await place.send(StopCharge("A", 1, TAG))
        await wait_until(lambda: emulator.ledger.requests)
        stats = worker.stats
        assert stats.in_hand == 1
        assert stats.oldest > 0
        await place.emptied()
        assert worker.stats.oldest == 0
