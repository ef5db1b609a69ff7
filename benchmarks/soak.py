"""A soak over real sockets: `python -m benchmarks.soak --minutes 10`.

Sends 200 stops a second to an emulated Thor in another process. This Thor answers 5 % of them with
a 5xx, drops 1 %, stalls sometimes, and is restarted every minute; callers cancel at random. Prints
tasks, open files and memory over time, and fails when one of them grows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import statistics
import sys
from collections import Counter
from pathlib import Path

import msgspec

from thor_async import StopCharge, ThorClient, ThorError
from thor_async.emulator import Faults, ScriptedAnswer, ThorEmulator

KEY = "soak"
CHARGEBOXES = 2000
PER_SECOND = 200
SAMPLES = 30
LIMITS = {"tasks": 20, "files": 20, "memory_kib": 4096}
"""The allowed growth: median of the last third of the soak minus median of the middle third."""


class Sample(msgspec.Struct):
    second: float
    tasks: int
    files: int
    memory_kib: int
    stops: int


async def serve(port: int) -> None:
    """Runs a faulty Thor that restarts every stopped charge."""
    faults = Faults(
        error_before=0.03,
        error_after=0.02,
        drop_before=0.005,
        drop_after=0.005,
        latency=(0.001, 0.03),
    )
    async with ThorEmulator(api_key=KEY, port=port, faults=faults) as thor:
        thor.fill(StopCharge(f"box-{n}", 1, "tag") for n in range(CHARGEBOXES))
        print(thor.base_url, flush=True)
        while True:
            await asyncio.sleep(0.05)
            if random.random() < 0.02:
                thor.script(ScriptedAnswer(503, delay=5.0))
            for request in thor.ledger.effects:
                if request.command:
                    thor.start_charge(request.command.chargebox, 1, "tag")
            thor.ledger.requests.clear()
            thor.ledger.ended.clear()


class Server:
    """The process of the emulated Thor. It keeps its port through all restarts."""

    def __init__(self) -> None:
        self.base_url = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        port = self.base_url.rpartition(":")[2].partition("/")[0] or "0"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.soak",
            "--serve",
            port,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout
        self.base_url = (await self._process.stdout.readline()).decode().strip()

    async def stop(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def restart_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.stop()
            await asyncio.sleep(1)
            await self.start()


async def stop_one(thor: ThorClient, verdicts: Counter[str]) -> None:
    command = StopCharge(f"box-{random.randrange(CHARGEBOXES)}", 1, "tag")
    limit = random.uniform(0, 0.05) if random.random() < 0.02 else None
    try:
        async with asyncio.timeout(limit):
            outcome = await thor.stop_charge(command)
        verdicts[outcome.verdict] += 1
    except ThorError as error:
        verdicts[error.verdict] += 1
    except TimeoutError:
        verdicts["cancelled"] += 1


async def drive(thor: ThorClient, verdicts: Counter[str]) -> None:
    """Sends single stops at an even rate, and a batch of `PER_SECOND` stops every 10 s."""
    async with asyncio.TaskGroup() as group:
        for tick in range(sys.maxsize):
            for _ in range(PER_SECOND // 20):
                group.create_task(stop_one(thor, verdicts))
            if tick % 200 == 0:
                batch = [StopCharge(f"box-{n}", 1, "tag") for n in range(PER_SECOND)]
                group.create_task(thor.stop_many(batch, within=8.0))
            await asyncio.sleep(0.05)


def take_sample(second: float, stops: int) -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        second=round(second, 1),
        tasks=len(asyncio.all_tasks()),
        files=len(os.listdir("/proc/self/fd")),
        memory_kib=pages * os.sysconf("SC_PAGESIZE") // 1024,
        stops=stops,
    )


async def soak(minutes: float) -> list[Sample]:
    server, verdicts, samples = Server(), Counter[str](), list[Sample]()
    await server.start()
    loop = asyncio.get_running_loop()
    started = loop.time()
    print("second  tasks  files  memory KiB   stops")
    async with ThorClient(KEY, base_url=server.base_url, attempt_timeout=3.0) as thor:
        tasks = [
            asyncio.create_task(drive(thor, verdicts)),
            asyncio.create_task(server.restart_every(60)),
        ]
        for _ in range(SAMPLES):
            await asyncio.sleep(minutes * 60 / SAMPLES)
            sample = take_sample(loop.time() - started, verdicts.total())
            samples.append(sample)
            print("{:>6}  {:>5}  {:>5}  {:>10}  {:>6}".format(*msgspec.structs.astuple(sample)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await server.stop()
    print(*(f"{count:,} {verdict}" for verdict, count in verdicts.most_common()), sep=", ")
    return samples


def growth(samples: list[Sample]) -> dict[str, float]:
    """Compares the last third with the middle third. The first third is for warming up."""
    third = len(samples) // 3

    def median(name: str, part: list[Sample]) -> float:
        return float(statistics.median(getattr(sample, name) for sample in part))

    return {
        name: median(name, samples[-third:]) - median(name, samples[third:-third])
        for name in LIMITS
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="write the samples there")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(args.serve))
        return 0
    samples = asyncio.run(soak(args.minutes))
    grown = growth(samples)
    print("growth:", *(f"{name} {value:+.0f}" for name, value in grown.items()))
    if args.json:
        args.json.write_text(json.dumps(msgspec.to_builtins(samples)))
    return 1 if any(value > LIMITS[name] for name, value in grown.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
