"""`with ThorEmulator()`: the emulator in a thread of its own, for synchronous code."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from tests.documents import code
from thor_async import StopCharge, StopOutcome, ThorClient
from thor_async.emulator import (
    Behaviour,
    Faults,
    Lists,
    Notifications,
    RateLimits,
    ScriptedAnswer,
    ThorEmulator,
)
from thor_async.emulator.threaded import LoopThread

COMMAND = StopCharge("A", 1, "T")


@pytest.fixture(autouse=True)
def _ends_its_threads() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def stop(emulator: ThorEmulator, *commands: StopCharge) -> list[StopOutcome]:
    async def send() -> list[StopOutcome]:
        async with ThorClient(emulator.api_key, base_url=emulator.base_url) as thor:
            return await thor.stop_many(commands or [COMMAND])

    return asyncio.run(send())


def get(emulator: ThorEmulator, path: str) -> bytes:
    host, port = emulator.base_url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"GET /latest/integration/{path} HTTP/1.0\r\nX-Api-Key: {emulator.api_key}\r\n\r\n"
        connection.sendall(head.encode())
        return connection.makefile("rb").read()


def test_synchronous_code_stops_a_charge() -> None:
    with ThorEmulator() as emulator:
        emulator.start_charge("A", 1, "T")
        [outcome] = stop(emulator)
        assert outcome.verdict == "relayed"
        assert emulator.charges == {}
        assert [r.status for r in emulator.ledger.requests] == [200]
        assert emulator.ledger.overclaims([outcome]) == []


def test_the_example_runs() -> None:
    def stop_fleet(commands: list[StopCharge], api_key: str, base_url: str) -> list[StopOutcome]:
        assert (api_key, base_url) == (names["emulator"].api_key, names["emulator"].base_url)
        return stop(names["emulator"], *commands)

    names: dict[str, Any] = {"ThorEmulator": ThorEmulator, "StopCharge": StopCharge}
    names |= {"your_function": stop_fleet, "asyncio": asyncio}
    exec(code("your_function([command]"), names)
    assert names["outcome"].verdict == "relayed"


def test_its_attributes_can_be_set_while_it_runs() -> None:
    with ThorEmulator() as emulator:
        emulator.start_charge("A", 1, "T")
        emulator.enabled = False
        assert stop(emulator)[0].record().code == "RestAPINotEnabled"
        emulator.enabled = True
        emulator.behaviours["A"] = Behaviour(ignores=1)
        emulator.lists = Lists()
        emulator.faults = Faults()
        assert stop(emulator)[0].verdict == "relayed"
        assert ("A", 1) in emulator.charges
        emulator.script(ScriptedAnswer(404))
        assert stop(emulator)[0].record().status == 404
        emulator.always("WrongTransaction")
        assert stop(emulator)[0].record().code == "WrongTransaction"
        emulator.always(None)
        emulator.set_limits(RateLimits(rate=0.001, burst=1))
        assert [outcome.record().status for outcome in (*stop(emulator), *stop(emulator))] == [
            200,
            429,
        ]


def test_its_calls_run_in_its_own_thread() -> None:
    """Notifications and timers belong to its loop; `asyncio.run` is that of its async calls."""
    received: list[tuple[str, int]] = []

    def receive(body: bytes) -> None:
        received.append((msgspec.json.decode(body)["chargebox"], threading.get_ident()))

    with ThorEmulator() as emulator:
        emulator.notifications = Notifications(receive)
        emulator.fill([COMMAND])
        emulator.end_charge("A", 1)
        emulator.go_offline("B")
        emulator.start_charge("B", 1)
        emulator.come_back("B")
        emulator.refuse_start("C", 1, "T")
        emulator.unlock("B", 1)
        emulator.add_chargebox("D")
        emulator.add_account("second")
        asyncio.run(emulator.refuse())
        assert stop(emulator)[0].record().code is None
        asyncio.run(emulator.accept())
        assert stop(emulator)[0].record().code == "NotInTransaction"
    assert [name for name, _ in received] == ["A", "A", "B", "C", "B"]
    assert len({thread for _, thread in received} - {threading.get_ident()}) == 1


def test_a_call_raises_what_it_raises_elsewhere() -> None:
    with ThorEmulator() as emulator:
        emulator.start_charge("A", 1)
        with pytest.raises(ValueError, match="a charge runs at 'A', 1"):
            emulator.start_charge("A", 1)
        with pytest.raises(ValueError, match="no charge runs"):
            emulator.end_charge("B", 1)


def test_many_threads_use_it_at_once() -> None:
    def work(number: int) -> None:
        for connector in range(1, 30):
            emulator.start_charge(f"box-{number}", connector)
            assert b"200 OK" in get(emulator, "charges/running")
            emulator.end_charge(f"box-{number}", connector)

    with ThorEmulator() as emulator, ThreadPoolExecutor(8) as pool:
        for _ in pool.map(work, range(8)):
            pass
        assert emulator.charges == {}
        assert len(emulator.ledger.ended) == 8 * 29
        assert emulator.next_transaction == 1 + 8 * 29


async def test_within_a_running_loop_it_has_a_thread_too() -> None:
    with ThorEmulator() as emulator:
        emulator.start_charge("A", 1, "T")
        async with ThorClient(emulator.api_key, base_url=emulator.base_url) as thor:
            assert (await thor.stop_charge(COMMAND)).verdict == "relayed"
        await emulator.refuse()
        await emulator.accept()


def test_requests_in_progress_do_not_hold_up_its_end() -> None:
    with ThorEmulator(faults=Faults(latency=(3600.0, 3600.0))) as emulator:
        client = threading.Thread(target=stop, args=[emulator], daemon=True)
        client.start()
        limit = time.monotonic() + 60
        while not emulator.ledger.requests:
            assert time.monotonic() < limit
            time.sleep(0.001)
        began = time.monotonic()
    assert time.monotonic() - began < 30
    client.join(60)


def test_a_function_that_blocks_its_thread_is_named() -> None:
    blocked = threading.Event()
    thread = LoopThread("a test", patience=0.05)
    [own] = [running for running in threading.enumerate() if running.name == "a test"]
    try:
        with pytest.raises(RuntimeError, match="function of yours"):
            thread.call(lambda: blocked.wait(60))
        with pytest.raises(RuntimeError, match="function of yours"):
            asyncio.run(thread.wait(asyncio.sleep(0)))
        with pytest.raises(RuntimeError, match="function of yours"):
            thread.end()
    finally:
        blocked.set()
        own.join(60)


def test_it_does_not_hide_what_the_block_raises() -> None:
    with pytest.raises(KeyError, match="mine"), ThorEmulator():
        raise KeyError("mine")


def test_it_leaves_nothing_open() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            with ThorEmulator() as emulator:
                emulator.start_charge("A", 1, "T")
                stop(emulator)
        gc.collect()


def test_it_can_run_again_with_its_state() -> None:
    emulator = ThorEmulator()
    emulator.start_charge("A", 1, "T")
    with emulator:
        assert stop(emulator)[0].verdict == "relayed"
    emulator.start_charge("A", 1, "T")
    with emulator:
        assert stop(emulator)[0].verdict == "relayed"
    with pytest.raises(RuntimeError, match="`with`"):
        assert emulator.base_url


def test_a_start_that_fails_leaves_no_thread() -> None:
    with (
        ThorEmulator() as emulator,
        pytest.raises(OSError, match="address"),
        ThorEmulator(port=int(emulator.base_url.split(":")[2].split("/")[0])),
    ):
        pass


def test_one_emulator_runs_once_at_a_time() -> None:
    with ThorEmulator() as emulator:
        with pytest.raises(RuntimeError, match="runs already"), emulator:
            pass
        assert stop(emulator)[0].record().code == "ChargeboxNotFound"


async def test_one_emulator_runs_once_at_a_time_on_a_loop() -> None:
    async with ThorEmulator() as emulator:
        with pytest.raises(RuntimeError, match="runs already"):
            async with emulator:
                pass
        with pytest.raises(RuntimeError, match="runs already"), emulator:
            pass
        async with ThorClient(emulator.api_key, base_url=emulator.base_url) as thor:
            [outcome] = await thor.stop_many([COMMAND])
        assert outcome.record().code == "ChargeboxNotFound"
