"""`ThorClient`: its lifetime, and the calls that users make."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl as tls
from collections.abc import AsyncIterable, Awaitable, Iterable
from types import TracebackType
from typing import NoReturn, Self
from weakref import WeakSet

import aiohttp
import msgspec

from . import settings
from .call import StopCall, not_sent
from .errors import BatchGaveUp
from .fanout import OutcomeStream
from .lane import Lane
from .models import StopCharge, StopOutcome
from .permits import Permits
from .retry import RetryBudget, RetryPolicy
from .transport import Transport

Commands = Iterable[StopCharge] | AsyncIterable[StopCharge]
StopStream = OutcomeStream[StopCharge, StopOutcome]


class ThorClient:
    """Stops charges through Thor's API, and says what happened to each one.

    Build it anywhere, also outside a loop; use it within `async with`, for any number of calls at
    once, on one loop and in one process. All durations are seconds.

    - `api_key`: a str, or a callable that returns the current one; None reads `THOR_API_KEY`.
    - `base_url`: where stops go; None reads `THOR_BASE_URL`, else Thor's documented address.
      `read_url`: where lists come from; a given `base_url` alone serves both.
    - `retry`: see `RetryPolicy`. `timeout` bounds a call with its waits and retries,
      `attempt_timeout` each try; `max_in_flight` the requests on the wire, over all calls.
    - `ssl`: a verifying `ssl.SSLContext`. `proxy`: an HTTP proxy; the environment's is ignored.
      `allow_http`: send the key in the clear to hosts other than loopback.
    - `session`: a session of yours, used, never closed or changed. Redirects, timeout, status
      checks, middlewares and decompression are overridden for each request; its proxy, cookies,
      TLS, pool and keep-alive stay yours. Given up with it: verification that cannot be switched
      off, no cookies or proxies from elsewhere, no second queue in the pool, and the protection
      against unsolicited answers on idle connections (aiohttp issue 13656: a false `relayed`).

    Raises ValueError, which never shows the key, for anything that could not work.
    """

    def __init__(
        self,
        api_key: settings.ApiKey = None,
        *,
        base_url: str | None = None,
        read_url: str | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeout: float = 30.0,
        attempt_timeout: float = 10.0,
        max_in_flight: int = 32,
        session: aiohttp.ClientSession | None = None,
        ssl: tls.SSLContext | None = None,
        proxy: str | None = None,
        allow_http: bool = False,
    ) -> None:
        if session is not None and (ssl is not None or proxy is not None):
            raise ValueError("ssl and proxy are the session's: set them where you build it")
        self._key = settings.resolve_key(api_key)
        self._base_url, self._read_url = settings.resolve_addresses(
            base_url, read_url, allow_http=allow_http
        )
        if not isinstance(retry, RetryPolicy):
            raise ValueError(f"retry must be a RetryPolicy, not {retry!r}")  # noqa: TRY004
        self._policy = retry
        self._timeout = settings.check_seconds("timeout", timeout)
        self._attempt_timeout = settings.check_seconds("attempt_timeout", attempt_timeout)
        self._max_in_flight = settings.check_max_in_flight(max_in_flight)
        self._given_session = session
        self._ssl = settings.check_ssl(ssl)
        self._proxy = settings.check_proxy(proxy)
        self._permits = Permits(self._max_in_flight)
        self._lanes: WeakSet[Lane] = WeakSet()
        self._open: _Open | None = None
        self._is_closing = False

    def __repr__(self) -> str:
        return f"ThorClient(base_url={self._base_url!r}, in_flight={self._permits.in_flight})"

    def __getstate__(self) -> NoReturn:
        raise TypeError("a ThorClient cannot be copied or pickled: build one in each process")

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise RuntimeError("a ThorClient is entered once: build a new one")
        self._open = _Open(
            loop=asyncio.get_running_loop(),
            process=os.getpid(),
            transport=Transport(self._given_session, self._ssl, self._proxy),
            lane=self._new_lane(Lane(self._permits)),
            budget=RetryBudget(),
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> NoReturn:
        raise TypeError("use `async with ThorClient() as thor`, not `with`")

    def __exit__(self, *exc_info: object) -> None: ...

    async def aclose(self) -> None:
        """Sends nothing more, lets what is on the wire finish (at most `attempt_timeout`), closes.

        Calls that wait end as `not_sent` (`closed`), or with the error of their last try. When it
        is cancelled, it cuts what is on the wire at once. Can be called again.
        """
        if self._open is None:
            return
        self._open.check_home()
        self._is_closing = True
        for lane in self._lanes:
            lane.halt("closed")
        try:
            async with asyncio.timeout(self._attempt_timeout):
                await self._permits.idle()
        except TimeoutError:
            pass  # cut below
        finally:
            for lane in self._lanes:
                lane.cut()
            await self._open.transport.close()

    async def stop_charge(
        self, command: StopCharge, *, timeout: float | None = None
    ) -> StopOutcome:
        """Stops one charge; returns once Thor has relayed the stop to the chargebox.

        Within `timeout` seconds, the client's when None. Raises a `ThorError` for everything but a
        relay: `RejectedError`, `NotSentError`, or `IndeterminateError`, when it may have worked.
        """
        opened = self._check_open()
        seconds = self._timeout if timeout is None else settings.check_seconds("timeout", timeout)
        call = self._stop_call(opened, opened.budget)
        outcome = await call.run(opened.lane, 0, _check_command(command, 0), seconds)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def stop_many(
        self,
        commands: Commands,
        *,
        within: float | None = None,
        give_up_after: float | None = 60.0,
    ) -> list[StopOutcome]:
        """Stops many charges; returns one outcome for each, in the order of the input.

        Reads its whole input before the first request: if that raises, nothing is sent. `within`
        seconds from now all has ended: what is in flight is `indeterminate`, what is left
        `not_sent` (`timeout`). An account error ends it at once, and an outage after
        `give_up_after` seconds of it (None: never); the rest is then `not_sent` (`gave_up`).
        """
        opened = self._check_open()
        _check_batch(commands, within, give_up_after)
        lane = self._batch_lane(give_up_after)
        if within is not None:
            lane.end_in(within)
        outcomes: dict[int, StopOutcome] = {}
        try:
            listed = await _read_all(commands)
            # That the batch gave up is told by the outcomes of the rest.
            async with self._stream(opened, listed, lane) as stream:
                with contextlib.suppress(BatchGaveUp):
                    async for outcome in stream:
                        outcomes[outcome.index] = outcome
        finally:
            lane.close()
        return [
            outcomes.get(index) or not_sent(command, index, lane.refusal())
            for index, command in enumerate(listed)
        ]

    def stop_stream(
        self,
        commands: Commands,
        *,
        within: float | None = None,
        give_up_after: float | None = 60.0,
    ) -> StopStream:
        """Stops charges as their commands come; use with `async with`, then `async for`.

        Pulls lazily, and nothing while outcomes are unread: the memory is that of a few hundred
        commands, however many there are. Yields one outcome for each command, as it completes.
        Raises, after the outcomes of all that it pulled, whatever the input raised, or
        `BatchGaveUp`: for an account error, an outage of `give_up_after` seconds (None: never), or
        the end of `within` seconds before the end of the input.
        """
        opened = self._check_open()
        _check_batch(commands, within, give_up_after)
        return self._stream(opened, commands, self._batch_lane(give_up_after), within)

    def _stream(
        self, opened: _Open, commands: Commands, lane: Lane, within: float | None = None
    ) -> StopStream:
        call = self._stop_call(opened, RetryBudget())

        def run(lane: Lane, index: int, command: StopCharge) -> Awaitable[StopOutcome]:
            return call.run(lane, index, _check_command(command, index), self._timeout)

        return OutcomeStream(commands, run, lane, self._max_in_flight, within)

    def _stop_call(self, opened: _Open, budget: RetryBudget) -> StopCall:
        return StopCall(
            transport=opened.transport,
            base_url=self._base_url,
            key=self._key,
            policy=self._policy,
            budget=budget,
            attempt_timeout=self._attempt_timeout,
        )

    def _batch_lane(self, give_up_after: float | None) -> Lane:
        return self._new_lane(Lane(self._permits, is_batch=True, give_up_after=give_up_after))

    def _new_lane(self, lane: Lane) -> Lane:
        self._lanes.add(lane)
        return lane

    def _check_open(self) -> _Open:
        if self._open is None:
            raise RuntimeError("this ThorClient is not open: use `async with ThorClient() as thor`")
        self._open.check_home()
        if self._is_closing:
            raise RuntimeError("this ThorClient is closed: build a new one")
        if self._open.transport.is_closed:
            raise RuntimeError("the session given to this ThorClient is closed: keep it open")
        return self._open


class _Open(msgspec.Struct, frozen=True):
    """What a client has only while it is open."""

    loop: asyncio.AbstractEventLoop
    process: int
    transport: Transport
    lane: Lane
    budget: RetryBudget

    def check_home(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if self.process != os.getpid() or loop is not self.loop:
            raise RuntimeError(
                "this ThorClient was entered on another event loop or in another process: "
                "build and enter one in each"
            )


def _check_command(command: object, index: int) -> StopCharge:
    if not isinstance(command, StopCharge):
        raise TypeError(
            f"command {index} must be a StopCharge, not a {type(command).__name__}: "
            "build it with StopCharge(chargebox=..., connector=..., id_tag=...)"
        )
    return command


def _check_batch(commands: object, within: object, give_up_after: object) -> None:
    if isinstance(commands, StopCharge) or not isinstance(commands, Iterable | AsyncIterable):
        raise TypeError(
            f"commands must be an iterable of StopCharge, not a {type(commands).__name__}: "
            "put a single one into a list, or use stop_charge"
        )
    if within is not None:
        settings.check_seconds("within", within)
    if give_up_after is not None and give_up_after != 0:
        settings.check_seconds("give_up_after", give_up_after)


async def _read_all(commands: Commands) -> list[StopCharge]:
    if isinstance(commands, AsyncIterable):
        listed = [command async for command in commands]
    else:
        listed = list(commands)
    return [_check_command(command, index) for index, command in enumerate(listed)]
