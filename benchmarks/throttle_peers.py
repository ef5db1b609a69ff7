"""What users write today against 429, beside this library; each with as little code as possible."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .contenders import HEADERS, KEY, Body, Run, bodies, pool, raising

IN_FLIGHT = 32
ATTEMPTS = 5
TOO_HIGH = 1.2

Peer = Callable[[str, float], AbstractAsyncContextManager[Run]]
"""Opens a client for an address. The limit of the account is for those that must be told it."""


@asynccontextmanager
async def library(url: str, rate: float) -> AsyncIterator[Run]:
    from thor_async import RetryPolicy, StopCharge, ThorClient

    policy = RetryPolicy(retry_throttled=True)
    async with ThorClient(KEY, base_url=url, max_in_flight=IN_FLIGHT, retry=policy) as thor:

        async def run(count: int) -> int:
            outcomes = await thor.stop_many(StopCharge(**body) for body in bodies(count))
            return sum(outcome.verdict == "relayed" for outcome in outcomes)

        yield run


@asynccontextmanager
async def aiohttp_retry(url: str, rate: float) -> AsyncIterator[Run]:
    """Its exponential waits, from 0.1 s, without jitter."""
    import aiohttp
    from aiohttp_retry import ExponentialRetry, RetryClient

    options = ExponentialRetry(attempts=ATTEMPTS, statuses={429})
    async with (
        aiohttp.ClientSession(headers=HEADERS) as session,
        RetryClient(session, retry_options=options) as client,
    ):

        async def post(body: Body) -> int:
            async with client.post(f"{url}/charges/stop", json=body) as response:
                await response.read()
                status: int = response.status
                return status

        yield lambda count: pool(post, count, IN_FLIGHT)


@asynccontextmanager
async def aiohttp_tenacity(url: str, rate: float) -> AsyncIterator[Run]:
    """Waits of 0.5 to 8 s at most, with full jitter."""
    import aiohttp
    import tenacity

    async with raising(url) as post:
        retried = tenacity.retry(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
            retry=tenacity.retry_if_exception(lambda error: getattr(error, "status", 0) == 429),
            reraise=True,
        )(post)
        yield lambda count: pool(status_of(retried, aiohttp.ClientResponseError), count, IN_FLIGHT)


def limiter_at(share: float) -> Peer:
    """Returns a peer with an aiolimiter at `share` of the limit, which retries nothing."""

    @asynccontextmanager
    async def limited(url: str, rate: float) -> AsyncIterator[Run]:
        import aiohttp
        from aiolimiter import AsyncLimiter

        limiter = AsyncLimiter(share * rate, 1)
        async with raising(url) as post:

            async def post_in_turn(body: Body) -> int:
                async with limiter:
                    return await post(body)

            yield lambda count: pool(
                status_of(post_in_turn, aiohttp.ClientResponseError), count, IN_FLIGHT
            )

    return limited


def status_of(
    post: Callable[[Body], Awaitable[int]], error_class: type[Exception]
) -> Callable[[Body], Awaitable[int]]:
    """Returns a post that returns the status of aiohttp's error too."""

    async def post_quietly(body: Body) -> int:
        try:
            return await post(body)
        except error_class as error:
            return int(getattr(error, "status", 0))

    return post_quietly


PEERS: dict[str, Peer] = {
    "library": library,
    "aiohttp_retry": aiohttp_retry,
    "aiohttp_tenacity": aiohttp_tenacity,
    "aiolimiter": limiter_at(1.0),
    "aiolimiter_too_high": limiter_at(TOO_HIGH),
}
