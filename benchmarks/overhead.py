"""Microseconds that each layer adds to a command: `python -m benchmarks.overhead`, with pyperf.

Without a socket: a transport answers at once. Each layer is measured with those above it, which are
then subtracted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import thor_async._client
from thor_async import RetryPolicy, StopCharge, StopOutcome, ThorClient, Verdict
from thor_async._config import check_key
from thor_async._dispatch.dispatcher import Dispatcher
from thor_async._dispatch.limiter import PriorityLimiter
from thor_async._protocol.http_messages import Answer, Request
from thor_async._protocol.stop import build_stop_request, parse_stop_answer
from thor_async._retry import RetryBudget
from thor_async._stop import RequestContext, RetryingRequest
from thor_async._transport.deadlines import Deadlines

from .report import Figure, arguments, extra, print_figures, print_table, write_json

URL = "http://127.0.0.1:1"
COMMAND = StopCharge("EaJ7cU9NJ3YkTNgy", 2, "0012847382", 52)
OK = Answer(200, b"{}", "application/json")
SECRETS = ("key", COMMAND.id_tag)

Call = Callable[[], Awaitable[Any]]
Opened = Callable[[], AbstractAsyncContextManager[Call]]


class InstantTransport:
    """Replaces the transport of the library, to measure everything except HTTP."""

    session = SimpleNamespace(closed=False)

    async def close(self) -> None: ...

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer:
        with deadlines.limit(seconds):
            return OK


def encode() -> Request:
    return build_stop_request(URL, COMMAND)


def read_outcome() -> StopOutcome:
    error = parse_stop_answer(OK, SECRETS, 0.0)
    return StopOutcome(COMMAND, 0, Verdict.RELAYED, error, 1, 0.0, False)


class Attempt(RetryingRequest):
    """A request whose only try succeeds at once, without a dispatcher."""

    async def attempt(self) -> bool:
        self.attempts += 1
        return self._record(None)


async def succeed() -> None: ...


@asynccontextmanager
async def bare() -> AsyncIterator[Call]:
    yield succeed


@asynccontextmanager
async def policy() -> AsyncIterator[Call]:
    nothing: Any = None
    context = RequestContext(nothing, check_key("key"), RetryPolicy(), RetryBudget(), 10.0)

    async def call() -> None:
        request = Attempt(context, nothing, nothing, nothing, 0.0)
        await request.attempt()
        if request.error is not None:
            await request.retry()

    yield call


@asynccontextmanager
async def permit() -> AsyncIterator[Call]:
    dispatcher = Dispatcher(PriorityLimiter(32), is_batch=True, give_up_after=60.0)
    until = asyncio.get_running_loop().time() + 3600

    async def call() -> None:
        if dispatcher.try_acquire(until):
            with dispatcher.deadlines.limit(10.0):
                await succeed()
            dispatcher.release(None, 0)

    yield call
    dispatcher.close()


@asynccontextmanager
async def client() -> AsyncIterator[ThorClient]:
    with mock.patch.object(thor_async._client, "Transport", return_value=InstantTransport()):
        async with ThorClient("key", base_url=URL) as thor:
            yield thor


@asynccontextmanager
async def single() -> AsyncIterator[Call]:
    async with client() as thor:
        yield lambda: thor.stop_charge(COMMAND)


def time_calls(opened: Opened, loops: int) -> float:
    """Returns the seconds of `count` calls, one after the other."""

    async def main() -> float:
        async with opened() as call:
            started = time.perf_counter()
            for _ in range(loops):
                await call()
            return time.perf_counter() - started

    return asyncio.run(main())


def time_stream(loops: int) -> float:
    """Returns the seconds of a batch of `count` commands."""

    async def main() -> float:
        async with client() as thor:
            started = time.perf_counter()
            async with thor.stop_stream(COMMAND for _ in range(loops)) as stream:
                async for _ in stream:
                    pass
            return time.perf_counter() - started

    return asyncio.run(main())


def layers(us: dict[str, float]) -> dict[str, float]:
    """Returns the cost that each layer adds, from the measured times."""
    return {
        "encode": us["encode"],
        "policy on success": us["policy"] - us["bare"],
        "permit and dispatcher": us["permit"] - us["bare"],
        "outcome": us["outcome"],
        "a whole single call": us["single"],
        "fan-out, a command": us["stream"] - us["single"],
        "a whole command of a stream": us["stream"],
    }


def measure(runner: Any) -> dict[str, Any]:
    """Runs a pyperf benchmark for each layer; a worker process runs only its own."""
    benches = {"encode": runner.bench_func("encode", encode)}
    for opened in (bare, policy, permit, single):
        name = opened.__name__
        benches[name] = runner.bench_time_func(name, lambda n, opened=opened: time_calls(opened, n))
    benches["outcome"] = runner.bench_func("outcome", read_outcome)
    benches["stream"] = runner.bench_time_func("stream", time_stream)
    return benches


def main() -> None:
    with extra():
        import pyperf
    # pyperf has an argument parser of its own, which its workers share.
    runner = pyperf.Runner(
        processes=8,
        values=3,
        program_args=("-m", "benchmarks.overhead"),
        _argparser=arguments(__doc__),
    )
    benches = measure(runner)
    if runner.args.worker:
        return
    us = {name: bench.median() * 1e6 for name, bench in benches.items()}
    added = layers(us)
    print()
    print_table(["", "us"], [[name, f"{cost:.2f}"] for name, cost in added.items()])
    figures = [
        Figure("policy cost of a call that succeeds", 3.0, added["policy on success"], " us")
    ]
    print_figures(figures)
    write_json(runner.args.json, {"figures": figures, "us": us, "layers_us": added})


if __name__ == "__main__":
    main()
