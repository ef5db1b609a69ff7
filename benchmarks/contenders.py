"""What users would write to stop many charges, each way with as little code as it needs.

`python -m benchmarks.contenders NAME ADDRESS LOOP` is one of them in a process of its own: for each
number on standard input it stops that many charges, and prints what that took.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

IN_FLIGHT = 64
KEY = "key"
HEADERS = {"Content-Type": "application/json", "X-Api-Key": KEY}

Body = dict[str, Any]
Post = Callable[[Body], Awaitable[int]]
Run = Callable[[int], Awaitable[int]]
"""Stops so many charges, and says how many were answered 200."""


def bodies(count: int) -> Iterable[Body]:
    return (
        {"chargebox": f"box-{n}", "connector": 1, "id_tag": "tag", "transaction": n + 1}
        for n in range(count)
    )


async def pool(post: Post, count: int) -> int:
    """The pool of workers that a user would write by hand."""
    source, done = iter(bodies(count)), 0

    async def work() -> None:
        nonlocal done
        for body in source:
            status = await post(body)
            done += status == 200

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return done


@asynccontextmanager
async def library(url: str) -> AsyncIterator[Run]:
    from thor_async import StopCharge, ThorClient

    async with ThorClient(KEY, base_url=url, max_in_flight=IN_FLIGHT) as thor:

        async def run(count: int) -> int:
            commands = (StopCharge(**body) for body in bodies(count))
            async with thor.stop_stream(commands) as stream:
                return sum([outcome.verdict == "relayed" async for outcome in stream])

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
    import aiohttp
    from aiohttp_retry import ExponentialRetry, RetryClient

    options = ExponentialRetry(attempts=3, statuses={500, 502, 503, 504})
    async with (
        aiohttp.ClientSession(headers=HEADERS) as session,
        RetryClient(client_session=session, retry_options=options) as client,
    ):

        async def post(body: Body) -> int:
            async with client.post(f"{url}/charges/stop", json=body) as response:
                await response.read()
                return response.status

        yield lambda count: pool(post, count)


@asynccontextmanager
async def aiohttp_tenacity(url: str) -> AsyncIterator[Run]:
    import aiohttp
    import tenacity

    async with aiohttp.ClientSession(headers=HEADERS) as session:

        @tenacity.retry(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
            retry=tenacity.retry_if_exception_type(aiohttp.ClientError),
        )
        async def post(body: Body) -> int:
            async with session.post(f"{url}/charges/stop", json=body) as response:
                response.raise_for_status()
                await response.read()
                return response.status

        yield lambda count: pool(post, count)


@asynccontextmanager
async def aiohttp_stamina(url: str) -> AsyncIterator[Run]:
    import aiohttp
    import stamina

    async with aiohttp.ClientSession(headers=HEADERS) as session:

        @stamina.retry(on=aiohttp.ClientError, attempts=3)
        async def post(body: Body) -> int:
            async with session.post(f"{url}/charges/stop", json=body) as response:
                response.raise_for_status()
                await response.read()
                return response.status

        yield lambda count: pool(post, count)


@asynccontextmanager
async def httpx_tenacity(url: str) -> AsyncIterator[Run]:
    import httpx
    import tenacity

    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(headers=HEADERS, limits=limits) as client:

        @tenacity.retry(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
            retry=tenacity.retry_if_exception_type(httpx.HTTPError),
        )
        async def post(body: Body) -> int:
            response = await client.post(f"{url}/charges/stop", json=body)
            response.raise_for_status()
            return response.status_code

        yield lambda count: pool(post, count)


@asynccontextmanager
async def niquests(url: str) -> AsyncIterator[Run]:
    import niquests

    async with niquests.AsyncSession(pool_maxsize=IN_FLIGHT) as session:
        session.headers.update(HEADERS.items())

        async def post(body: Body) -> int:
            response = await session.post(f"{url}/charges/stop", json=body)
            return response.status_code or 0

        yield lambda count: pool(post, count)


@asynccontextmanager
async def pyreqwest(url: str) -> AsyncIterator[Run]:
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().default_headers(HEADERS).build() as client:

        async def post(body: Body) -> int:
            response = await client.post(f"{url}/charges/stop").body_json(body).build().send()
            await response.bytes()
            return response.status

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
    async with CONTENDERS[name](url) as run:
        print(json.dumps({}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            count = int(line)
            await run(2 * IN_FLIGHT)  # connections, caches
            started, cpu = time.perf_counter(), time.process_time()
            done = await run(count)
            took = {
                "seconds": time.perf_counter() - started,
                "cpu": time.process_time() - cpu,
                "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
            if done != count:
                raise SystemExit(f"{name}: {count - done} of {count} were not answered 200")
            print(json.dumps(took), flush=True)


def main() -> None:
    name, url, loop = sys.argv[1:]
    if loop == "uvloop":
        import uvloop

        uvloop.run(contend(name, url))
    else:
        asyncio.run(contend(name, url))


if __name__ == "__main__":
    main()
