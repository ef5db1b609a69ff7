"""`ThorClient`: its lifetime, and the calls that users make."""

from __future__ import annotations

import asyncio
import contextlib
import ssl as tls
from functools import partial
from types import TracebackType
from typing import NoReturn, Self, TypeVar
from weakref import WeakSet

import aiohttp

from . import _config
from ._confirm.tracker import Confirmation, is_watched
from ._dispatch.dispatcher import Dispatcher
from ._dispatch.limiter import PriorityLimiter
from ._errors import BatchGaveUp, ThorError
from ._inputs import Commands, check_batch, read_all
from ._models import StopCharge, StopOutcome, check_text
from ._protocol.lists import Chargebox, RunningCharge
from ._protocol.notifications import StartNotification, StopNotification, parse_notification
from ._retry import RetryBudget, RetryPolicy
from ._runtime import ClientConfig, ClientRuntime
from ._stream import OutcomeStream
from ._telemetry.emitter import EventEmitter, OnEvent
from ._transport.http import Transport

T = TypeVar("T")
StopStream = OutcomeStream[StopCharge, StopOutcome]
ConfirmationStream = OutcomeStream[StopCharge, Confirmation]

_WATCHED_AT_ONCE = 32
"""Commands of a batch that may be waiting for their proof, for each that may be in flight."""


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
      off, no cookies or proxies from elsewhere, no second queue in the pool, the protection
      against unsolicited answers on idle connections (aiohttp issue 13656: a false `relayed`), and
      the quicker writing and reading.
    - `on_event`: a function that is given each `Event`, at once and in the task of its stop, so it
      must be quick. What it raises is logged once and goes no further.

    Raises ValueError, which never shows the key, for anything that could not work.
    """

    def __init__(
        self,
        api_key: _config.ApiKey = None,
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
        on_event: OnEvent = None,
    ) -> None:
        if session is not None and (ssl is not None or proxy is not None):
            raise ValueError("ssl and proxy are the session's: set them where you build it")
        stop_at, read_at = _config.resolve_addresses(base_url, read_url, allow_http=allow_http)
        if not isinstance(retry, RetryPolicy):
            raise ValueError(f"retry must be a RetryPolicy, not {retry!r}")  # noqa: TRY004
        self._plan = ClientConfig(
            key=_config.resolve_key(api_key),
            base_url=stop_at,
            read_url=read_at,
            policy=retry,
            timeout=_config.check_seconds("timeout", timeout),
            attempt_timeout=_config.check_seconds("attempt_timeout", attempt_timeout),
            teller=EventEmitter(on_event),
        )
        self._max_in_flight = _config.check_max_in_flight(max_in_flight)
        self._given_session = session
        self._ssl = _config.check_ssl(ssl)
        self._proxy = _config.check_proxy(proxy)
        self._permits = PriorityLimiter(self._max_in_flight)
        self._lanes: WeakSet[Dispatcher] = WeakSet()
        self._open: ClientRuntime | None = None
        self._is_closing = False

    def __repr__(self) -> str:
        return f"ThorClient(base_url={self._plan.base_url!r}, in_flight={self._permits.in_flight})"

    def __getstate__(self) -> NoReturn:
        raise TypeError("a ThorClient cannot be copied or pickled: build one in each process")

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise RuntimeError("a ThorClient is entered once: build a new one")
        transport = Transport(self._given_session, self._ssl, self._proxy)
        self._open = ClientRuntime(self._plan, transport, self._new_lane(Dispatcher(self._permits)))
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
            async with asyncio.timeout(self._plan.attempt_timeout):
                await self._permits.idle()
        except TimeoutError:
            pass  # cut below
        finally:
            for lane in self._lanes:
                lane.cut()
            await self._open.transport.close()

    async def stop_charge(
        self, command: StopCharge, *, timeout: float | None = None, pin: bool = False
    ) -> StopOutcome:
        """Stops one charge; returns once Thor has relayed the stop to the chargebox.

        Within `timeout` seconds, the client's when None. With `pin`, the transaction that runs
        there by Thor's list is filled in first, so that no repeat can stop a later charge; if none
        runs, or the list cannot be trusted, it is `not_sent` (`not_running`, `pin`). Raises a
        `ThorError` for everything but a relay: `RejectedError`, `NotSentError`, or
        `IndeterminateError`, when it may have worked.
        """
        opened = self._check_open()
        seconds = self._timeout_or(timeout)
        if pin:
            outcome = await opened.confirming(opened.budget).stop_pinned(
                opened.lane, 0, command, seconds
            )
        else:
            outcome = await opened.stops(opened.budget).run(opened.lane, 0, command, seconds)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def stop_many(
        self,
        commands: Commands,
        *,
        within: float | None = None,
        give_up_after: float | None = 60.0,
        pin: bool = False,
    ) -> list[StopOutcome]:
        """Stops many charges; returns one outcome for each, in the order of the input.

        Reads its whole input before the first request: if that raises, nothing is sent. `within`
        seconds from now all has ended: what is in flight is `indeterminate`, what is left
        `not_sent` (`timeout`). An account error ends it at once, and an outage after
        `give_up_after` seconds of it (None: never); the rest is then `not_sent` (`gave_up`). `pin`
        is as for `stop_charge`, with one look for many commands.
        """
        opened = self._check_open()
        check_batch(commands, within, give_up_after)
        lane = self._batch_lane(give_up_after)
        if within is not None:
            lane.end_in(within)
        outcomes: dict[int, StopOutcome] = {}
        try:
            listed = await read_all(commands)
            # That the batch gave up is told by the outcomes of the rest.
            async with self._stream(opened, listed, lane, None, pin) as stream:
                with contextlib.suppress(BatchGaveUp):
                    async for outcome in stream:
                        outcomes[outcome.index] = outcome
        finally:
            lane.close()
        leave_out = opened.stops(opened.budget).leave_out
        return [
            outcomes.get(index) or leave_out(command, index, lane.refusal())
            for index, command in enumerate(listed)
        ]

    def stop_stream(
        self,
        commands: Commands,
        *,
        within: float | None = None,
        give_up_after: float | None = 60.0,
        pin: bool = False,
    ) -> StopStream:
        """Stops charges as their commands come; use with `async with`, then `async for`.

        Pulls lazily, and nothing while outcomes are unread: the memory is that of a few hundred
        commands, however many there are. Yields one outcome for each command, as it completes.
        Raises, after the outcomes of all that it pulled, whatever the input raised, or
        `BatchGaveUp`: for an account error, an outage of `give_up_after` seconds (None: never), or
        the end of `within` seconds before the end of the input. `pin` is as for `stop_charge`, with
        one look for many commands.
        """
        opened = self._check_open()
        check_batch(commands, within, give_up_after)
        return self._stream(opened, commands, self._batch_lane(give_up_after), within, pin)

    async def stop_and_confirm(
        self, command: StopCharge, *, within: float = 60.0, pin: bool = False
    ) -> Confirmation:
        """Stops one charge, and watches for so many seconds what becomes of it.

        One stop is made, tried as `retry` says, and never another because the charge still runs.

        `stopped` is proven: by a stop notification, or because the charge was in the running list
        and then in two complete ones in a row no more. All who wait share one look at the list,
        every 2 to 10 s. `pin` is as for `stop_charge`. Raises `NotSentError` and `RejectedError` as
        `stop_charge` does, but for `NotInTransaction` and `WrongTransaction`: these are watched
        too, and so is a stop that may have been relayed.
        """
        opened = self._check_open()
        _config.check_seconds("within", within)
        confirmation = await opened.confirming(opened.budget).confirm(
            opened.lane, 0, command, self._plan.timeout, within, pin
        )
        outcome = confirmation.outcome
        if outcome.error is not None and not is_watched(outcome):
            raise outcome.error
        return confirmation

    def stop_and_confirm_stream(
        self,
        commands: Commands,
        *,
        within: float = 60.0,
        give_up_after: float | None = 60.0,
        pin: bool = False,
    ) -> ConfirmationStream:
        """`stop_and_confirm` for many; used as `stop_stream`, with a `Confirmation` for each.

        `within` is the time of each command, from its pull. One that was not sent, or that Thor
        refused, is `unconfirmed`; its `outcome` says why. While some wait for their proof others
        are sent: up to 32 for each that may be in flight, in bounded memory.
        """
        opened = self._check_open()
        check_batch(commands, within, give_up_after)
        run = partial(
            opened.confirming(RetryBudget()).confirm,
            timeout=self._plan.timeout,
            within=within,
            pin=pin,
        )
        lane = self._batch_lane(give_up_after)
        return OutcomeStream(
            commands, run, lane, self._max_in_flight, None, window=_WATCHED_AT_ONCE
        )

    async def running_charges(self, chargebox: str | None = None) -> list[RunningCharge]:
        """The charges that run now, of all chargeboxes or of one, from `read_url`.

        Raises a `ThorError` without a command when there is no complete list, within `timeout`; a
        5xx is retried by the same policy as a stop's.
        """
        opened = self._check_open()
        if chargebox is not None:
            check_text("chargebox", chargebox, shown=True)
        return _unless_error(await opened.running_charges(chargebox))

    async def chargeboxes(self) -> list[Chargebox]:
        """The chargeboxes of the account, from `read_url`; raises as `running_charges` does."""
        return _unless_error(await self._check_open().chargeboxes())

    def notify(self, body: bytes | str) -> StartNotification | StopNotification:
        """Tells whoever confirms a stop what Thor has told your web app; returns it parsed.

        `body` is that of Thor's request. A late or doubled one is harmless. Raises ValueError for
        what is no notification of Thor's.
        """
        opened = self._check_open()
        notification = parse_notification(body)
        if isinstance(notification, StopNotification):
            opened.lookout.told(notification)
        return notification

    def _stream(
        self,
        opened: ClientRuntime,
        commands: Commands,
        lane: Dispatcher,
        within: float | None,
        pin: bool,
    ) -> StopStream:
        budget = RetryBudget()
        stop = opened.confirming(budget).stop_pinned if pin else opened.stops(budget).run
        run = partial(stop, timeout=self._plan.timeout)
        return OutcomeStream(commands, run, lane, self._max_in_flight, within)

    def _timeout_or(self, timeout: float | None) -> float:
        if timeout is None:
            return self._plan.timeout
        return _config.check_seconds("timeout", timeout)

    def _batch_lane(self, give_up_after: float | None) -> Dispatcher:
        lane = Dispatcher(
            self._permits,
            is_batch=True,
            give_up_after=give_up_after,
            tell=self._plan.teller.tell,
        )
        return self._new_lane(lane)

    def _new_lane(self, lane: Dispatcher) -> Dispatcher:
        self._lanes.add(lane)
        return lane

    def _check_open(self) -> ClientRuntime:
        if self._open is None:
            raise RuntimeError("this ThorClient is not open: use `async with ThorClient() as thor`")
        self._open.check_home()
        if self._is_closing:
            raise RuntimeError("this ThorClient is closed: build a new one")
        if self._open.transport.is_closed:
            raise RuntimeError("the session given to this ThorClient is closed: keep it open")
        return self._open


def _unless_error(found: list[T] | ThorError) -> list[T]:
    if isinstance(found, ThorError):
        raise found
    return found
