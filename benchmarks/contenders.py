"""Ways in which users would stop many charges, each with as little code as possible.

`python -m benchmarks.contenders NAME ADDRESS LOOP` runs one of them in a process of its own. For
each number on standard input it stops that many charges, and prints its cost as JSON: `seconds`,
`cpu` seconds, and `peak_kib`, its peak memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .processes import peak_kib
from .report import extra

IN_FLIGHT = 64
LOOPS = ("asyncio", "uvloop")
KEY = "key"
HEADERS = {"Content-Type": "application/json", "X-Api-Key": KEY}

Body = dict[str, Any]
Cost = dict[str, float]
Post = Callable[[Body], Awaitable[int]]
Run = Callable[[int], Awaitable[int]]
"""Stops that number of charges, and returns how many were answered 200."""


def bodies(count: int) -> Iterable[Body]:
    return (
        {"chargebox": f"box-{n}", "connector": 1, "id_tag": "tag", "transaction": n + 1}
        for n in range(count)
    )


async def pool(post: Post, count: int, in_flight: int = IN_FLIGHT) -> int:
    """A pool of workers, as a user would write it."""
    source, done = iter(bodies(count)), 0

    async def work() -> None:
        nonlocal done
        for body in source:
            status = await post(body)
            done += status == 200

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return done


@asynccontextmanager
async def library(url: str) -> AsyncIterator[Run]:
    from thor_async import StopCharge, ThorClient

    async with ThorClient(KEY, base_url=url, max_in_flight=IN_FLIGHT) as thor:

        async def run(count: int) -> int:
            commands = (StopCharge(**body) for body in bodies(count))
            async with thor.stop_stream(commands) as stream:
                done = 0
                async for outcome in stream:
                    done += outcome.verdict == "relayed"
                    if outcome.error is not None:
                        print(repr(outcome.error), file=sys.stderr)
                return done

        yield run


@asynccontextmanager
async def tuned(url: str) -> AsyncIterator[Run]:
    """Bytes, one timeout, no redirects."""
    import aiohttp
    import msgspec

    encode = msgspec.json.Encoder().encode
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    timeout = aiohttp.ClientTimeout(total=30)
    stop = f"{url}/charges/stop"
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=HEADERS
    ) as session:

        async def post(body: Body) -> int:
            async with session.post(stop, data=encode(body), allow_redirects=False) as response:
                await response.read()
                return response.status

        yield lambda count: pool(post, count)


@asynccontextmanager
async def naive(url: str) -> AsyncIterator[Run]:
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def post(body: Body) -> int:
            headers = {"X-Api-Key": KEY}
            async with session.post(f"{url}/charges/stop", json=body, headers=headers) as response:
                await response.read()
                return response.status

        yield lambda count: pool(post, count)


@asynccontextmanager
async def gather(url: str) -> AsyncIterator[Run]:
    """One task for each charge, and a semaphore."""
    import aiohttp

    async with aiohttp.ClientSession(headers=HEADERS) as session:

        async def post(body: Body, semaphore: asyncio.Semaphore) -> int:
            async with semaphore, session.post(f"{url}/charges/stop", json=body) as response:
                await response.read()
                return response.status

        async def run(count: int) -> int:
            semaphore = asyncio.Semaphore(IN_FLIGHT)
            statuses = await asyncio.gather(*(post(body, semaphore) for body in bodies(count)))
            return statuses.count(200)

        yield run


@asynccontextmanager
async def aiohttp_retry(url: str) -> AsyncIterator[Run]:
    """Its own retries cover any 5xx, of a POST too."""
    import aiohttp
    from aiohttp_retry import ExponentialRetry, RetryClient

    async with (
        aiohttp.ClientSession(headers=HEADERS) as session,
        RetryClient(session, retry_options=ExponentialRetry(attempts=3)) as client,
    ):

        async def post(body: Body) -> int:
            async with client.post(f"{url}/charges/stop", json=body) as response:
                await response.read()
                status: int = response.status
                return status

        yield lambda count: pool(post, count)


@asynccontextmanager
async def raising(url: str) -> AsyncIterator[Post]:
    """Yields a post for a decorator that retries: it raises for any status but 2xx and 3xx."""
    import aiohttp

    async with aiohttp.ClientSession(headers=HEADERS) as session:

        async def post(body: Body) -> int:
            async with session.post(f"{url}/charges/stop", json=body) as response:
                response.raise_for_status()
                await response.read()
                return response.status

        yield post


def is_5xx(error: BaseException) -> bool:
    """Returns whether it is aiohttp's error for an answer that is retried."""
    return getattr(error, "status", 0) >= 500


def retry_by_tenacity(is_retried: Callable[[BaseException], bool]) -> Callable[[Post], Post]:
    import tenacity

    return tenacity.retry(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
        retry=tenacity.retry_if_exception(is_retried),
        reraise=True,
    )


@asynccontextmanager
async def aiohttp_tenacity(url: str) -> AsyncIterator[Run]:
    async with raising(url) as post:
        retried = retry_by_tenacity(is_5xx)(post)
        yield lambda count: pool(retried, count)


@asynccontextmanager
async def aiohttp_stamina(url: str) -> AsyncIterator[Run]:
    import stamina

    async with raising(url) as post:
        retried: Post = stamina.retry(on=is_5xx, attempts=3)(post)
        yield lambda count: pool(retried, count)


@asynccontextmanager
async def httpx_tenacity(url: str) -> AsyncIterator[Run]:
    import httpx

    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(headers=HEADERS, limits=limits) as client:

        async def post(body: Body) -> int:
            response = await client.post(f"{url}/charges/stop", json=body)
            response.raise_for_status()
            status: int = response.status_code
            return status

        def is_retried(error: BaseException) -> bool:
            return isinstance(error, httpx.HTTPStatusError) and error.response.is_server_error

        retried = retry_by_tenacity(is_retried)(post)
        yield lambda count: pool(retried, count)


@asynccontextmanager
async def niquests(url: str) -> AsyncIterator[Run]:
    """Without retries."""
    import niquests

    async with niquests.AsyncSession(pool_maxsize=IN_FLIGHT, headers=HEADERS) as session:

        async def post(body: Body) -> int:
            response = await session.post(f"{url}/charges/stop", json=body)
            return response.status_code or 0

        yield lambda count: pool(post, count)


@asynccontextmanager
async def pyreqwest(url: str) -> AsyncIterator[Run]:
    """Without retries; its HTTP is written in Rust, and does not hold Python's lock."""
    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder().default_headers(HEADERS)
    if authority_file := os.environ.get("SSL_CERT_FILE"):
        builder = builder.add_root_certificate_pem(Path(authority_file).read_bytes())
    async with builder.build() as client:

        async def post(body: Body) -> int:
            response = await client.post(f"{url}/charges/stop").body_json(body).build().send()
            await response.bytes()
            status: int = response.status
            return status

        yield lambda count: pool(post, count)


CONTENDERS = {
    contender.__name__: contender
    for contender in (
        library,
        tuned,
        naive,
        gather,
        aiohttp_retry,
        aiohttp_tenacity,
        aiohttp_stamina,
        httpx_tenacity,
        niquests,
        pyreqwest,
    )
}


async def contend(name: str, url: str) -> None:
    loop = asyncio.get_running_loop()
    with extra():
        async with CONTENDERS[name](url) as run:
            print(json.dumps(name), flush=True)
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                print(json.dumps(await timed(run, int(line))), flush=True)


async def timed(run: Run, count: int) -> Cost:
    started, cpu = time.perf_counter(), time.process_time()
    done = await run(count)
    cost = {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "peak_kib": peak_kib(),
    }
    if done != count:
        raise SystemExit(f"{count - done} of {count} were not answered 200")
    return cost


def runner_of(loop: str) -> Callable[..., Any]:
    """Returns the function that runs a coroutine on a loop, one of `LOOPS`."""
    if loop == "asyncio":
        return asyncio.run
    with extra():
        import uvloop
    run: Callable[..., Any] = uvloop.run
    return run


def main() -> None:
    name, url, loop = sys.argv[1:]
    runner_of(loop)(contend(name, url))


if __name__ == "__main__":
    main()
