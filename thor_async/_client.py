"""`ThorClient`: its lifetime, and the calls that users make."""

from __future__ import annotations

import asyncio
import os
import ssl as tls
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar

import aiohttp
import msgspec

from . import _calls, _config
from ._calls import ConfirmationStream, StopStream
from ._config import ClientConfig, Commands
from ._confirm.ensure_stopped import is_final_rejection
from ._confirm.tracker import Confirmation, is_worth_watching
from ._errors import ThorError
from ._models import StopCharge, StopOutcome, check_text
from ._protocol.lists import Chargebox, RunningCharge
from ._protocol.notifications import StartNotification, StopNotification, parse_notification
from ._retry import RetryPolicy
from ._runtime import ClientRuntime, SharedResources
from ._telemetry.emitter import EventEmitter, OnEvent
from ._telemetry.logging import LOG
from ._transport.http import Transport

T = TypeVar("T")

_ELSEWHERE = (
    "this ThorClient was entered on another event loop or in another process: "
    "build and enter one in each"
)


class ThorClient:
    """Stops charges through Thor's API, and says what happened to each one.

    Build it anywhere, also outside a loop; use it within `async with`, for any number of calls at
    once, on one loop and in one process. All durations are seconds.

    - `api_key`: a str, or a callable, plain or async, that returns the current one; None reads
      `THOR_API_KEY`. A callable is asked before each try, so it should keep the key for a while. An
      async one is awaited in the time of the call, and holds up no other stop.
    - `base_url`: the address for stops; None reads `THOR_BASE_URL`, else Thor's documented one is
      used. `read_url`: the address for lists; a given `base_url` alone serves both.
    - `retry`: see `RetryPolicy`. `timeout` bounds a call with its waits and retries,
      `attempt_timeout` each try; `max_in_flight` the requests in flight, over all calls.
    - `max_rate`: requests that may begin in a second, for those who know the limit of their
      account. Without it the client learns the limit from the first answers 429.
    - `ssl`: a verifying `ssl.SSLContext`. `proxy`: an HTTP proxy; that of the environment is
      ignored. `allow_http`: send the key in the clear to hosts other than loopback, or through a
      proxy.
    - `session`: your own session, which is used, never closed or changed. Redirects, timeout,
      status checks, middlewares and decompression are overridden for each request; its proxy,
      cookies, TLS, pool and keep-alive remain yours. It disables what a client's own session has:
      verification that cannot be switched off, no cookies or proxies from elsewhere, no second
      queue in the pool, the guard against unsolicited answers on new and idle connections (aiohttp
      issue 13656: a false `relayed`), and the quicker writing and reading. Give its connector no
      `limit` and `limit_per_host`, or at least `max_in_flight`: stops that wait in the queue of a
      small pool starve until their time to connect is over. A log line warns of that.
    - `on_event`: a plain function, or a sequence of them, called with each `Event` at once and in
      the task of its stop, so it must be quick. The first exception of each is logged, and none is
      raised. The first KeyboardInterrupt or SystemExit ends the program, and costs no outcome.

    Raises ValueError, which never shows the key, for settings that cannot work.
    """

    def __init__(
        self,
        api_key: _config.GivenKey = None,
        *,
        base_url: str | None = None,
        read_url: str | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeout: float = 30.0,
        attempt_timeout: float = 10.0,
        max_in_flight: int = 32,
        max_rate: float | None = None,
        session: aiohttp.ClientSession | None = None,
        ssl: tls.SSLContext | None = None,
        proxy: str | None = None,
        allow_http: bool = False,
        on_event: OnEvent = None,
    ) -> None:
        try:
            key = _config.resolve_key(api_key)
        finally:
            # A traceback with local variables would show it.
            del api_key
        _check_session(session)
        if session is not None and (ssl is not None or proxy is not None):
            raise ValueError("ssl and proxy are the session's: set them where you build it")
        stop_at, read_at = _config.resolve_addresses(
            base_url, read_url, allow_http=allow_http, has_proxy=proxy is not None
        )
        settings = ClientConfig(
            key=key,
            base_url=stop_at,
            read_url=read_at,
            policy=_config.check_retry(retry),
            timeout=_config.check_seconds("timeout", timeout),
            attempt_timeout=_config.check_seconds("attempt_timeout", attempt_timeout),
            max_rate=_config.check_max_rate(max_rate),
            emitter=EventEmitter(on_event),
        )
        max_in_flight = _config.check_max_in_flight(max_in_flight)
        make_transport = partial(
            _make_transport,
            session,
            _config.check_ssl(ssl),
            _config.check_proxy(proxy),
            max_in_flight,
        )
        shared = SharedResources(make_transport, max_in_flight)
        self._set_up(settings, shared, is_first=True)

    def _set_up(self, settings: ClientConfig, shared: SharedResources, *, is_first: bool) -> None:
        self._settings = settings
        self._shared = shared
        self._is_first = is_first
        self._runtime: ClientRuntime | None = None
        self._is_closing = False

    def __repr__(self) -> str:
        settings = getattr(self, "_settings", None)  # none while it is being built
        shared = getattr(self, "_shared", None)
        if settings is None or shared is None:
            return "ThorClient()"
        return f"ThorClient(base_url={settings.base_url!r}, in_flight={shared.limiter.in_flight})"

    def __getstate__(self) -> NoReturn:
        raise TypeError("a ThorClient cannot be copied or pickled: build one in each process")

    def with_options(
        self,
        *,
        api_key: _config.GivenKey = None,
        timeout: float | None = None,
        attempt_timeout: float | None = None,
        retry: RetryPolicy | None = None,
        max_rate: float | None = None,
        on_event: OnEvent = None,
    ) -> ThorClient:
        """Returns a client for another account, or with other settings, on the same connections.

        What is None stays as it is here. `max_in_flight` and the connections are shared; pace,
        breaker, retry budget and list are its own, so that the wrong key, the limit or the outage
        of one account slows no other one.

        It works while this client is open, and needs no `async with`; one of its own ends only its
        own calls. Raises ValueError as `ThorClient` does.
        """
        settings = self._settings
        given: dict[str, object] = {}
        try:
            if api_key is not None:
                given["key"] = _config.resolve_key(api_key)
        finally:
            # A traceback with local variables would show it.
            del api_key
        if timeout is not None:
            given["timeout"] = _config.check_seconds("timeout", timeout)
        if attempt_timeout is not None:
            seconds = _config.check_seconds("attempt_timeout", attempt_timeout)
            given["attempt_timeout"] = seconds
        if retry is not None:
            given["policy"] = _config.check_retry(retry)
        if max_rate is not None:
            given["max_rate"] = _config.check_max_rate(max_rate)
        if on_event is not None:
            given["emitter"] = EventEmitter(on_event)
        other = object.__new__(ThorClient)
        ThorClient._set_up(
            other, msgspec.structs.replace(settings, **given), self._shared, is_first=False
        )
        return other

    async def __aenter__(self) -> Self:
        shared = self._shared
        if not self._is_first:
            self._check_open()
            return self
        if shared.transport is not None:
            raise RuntimeError("a ThorClient is entered once: build a new one")
        shared.open()
        self._check_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    if not TYPE_CHECKING:  # to a type checker, `with` is an error

        def __enter__(self) -> NoReturn:
            raise TypeError("use `async with ThorClient() as thor`, not `with`")

        def __exit__(self, *exc_info: object) -> None: ...

    async def aclose(self) -> None:
        """Sends nothing more, lets what is in flight finish (at most `attempt_timeout`), closes.

        Calls that wait end as `not_sent` (`closed`), or with the error of their last try. When it
        is cancelled, it ends what is in flight at once. Can be called again. The clients that
        `with_options` made of this one are closed with it.
        """
        shared, transport = self._shared, self._shared.transport
        if transport is None:
            return
        if shared.loop is not asyncio.get_running_loop() or shared.process != os.getpid():
            raise RuntimeError(_ELSEWHERE)
        self._is_closing = True
        if self._is_first:
            shared.is_closing = True
        elif self._runtime is None:
            return
        own = self._runtime.dispatchers if self._runtime is not None else ()
        dispatchers = list(shared.dispatchers if self._is_first else own)
        for dispatcher in dispatchers:
            dispatcher.stop("closed")
        try:
            async with asyncio.timeout(self._settings.attempt_timeout):
                for dispatcher in dispatchers:
                    await dispatcher.wait_idle()
        except TimeoutError:
            pass  # aborted below
        finally:
            for dispatcher in dispatchers:
                dispatcher.abort()
            if self._is_first:
                try:
                    for poller in list(shared.pollers):
                        await poller.wait_closed()
                finally:
                    await transport.close()

    async def stop_charge(
        self, command: StopCharge, *, timeout: float | None = None, pin: bool = False
    ) -> StopOutcome:
        """Stops one charge; returns when Thor has relayed the stop to the chargebox.

        `timeout` is that of the client when None. With `pin`, the transaction that runs there
        according to Thor's list is filled in first, so that no repeat can stop a later charge; if
        none runs, or the list cannot be trusted, it is `not_sent` (`not_running`, `pin`). Raises a
        `ThorError` unless the stop is relayed: `RejectedError`, `NotSentError`, or
        `IndeterminateError`, when it may have worked.
        """
        outcome = await _calls.stop(self._check_open(), command, timeout=timeout, pin=pin)
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

        Reads its whole input before the first request: if that raises, nothing is sent. Everything
        ends `within` seconds from now: what is in flight is then `indeterminate`, what is left
        `not_sent` (`timeout`). If the input has not ended by then, nothing is sent, and what it had
        given is returned as `not_sent`; `NotSentError` is raised if that is nothing. An account
        error ends it at once, and an outage after `give_up_after` seconds (None: never);
        the rest is then `not_sent` (`gave_up`). `pin` is as for `stop_charge`, with one look for
        many commands. Commands that are equal in chargebox, connector, id_tag and transaction are
        sent once, and each gets that outcome.
        """
        return await _calls.stop_many(
            self._check_open(), commands, within=within, give_up_after=give_up_after, pin=pin
        )

    def stop_stream(
        self,
        commands: Commands,
        *,
        within: float | None = None,
        give_up_after: float | None = 60.0,
        pin: bool = False,
    ) -> AbstractAsyncContextManager[StopStream, None]:
        """Stops charges as their commands come; use with `async with`, then `async for`.

        Pulls lazily, and nothing while outcomes are unread: it holds a few hundred commands in
        memory, however many there are. Yields one outcome for each command, as it completes. Then
        raises what the input raised, or `BatchGaveUp`: after an account error, an outage of
        `give_up_after` seconds (None: never), or when `within` seconds end before the input does.
        The outcomes of all commands that it pulled come first. `pin` is as for `stop_charge`, with
        one look for many commands.
        """
        return _calls.stop_stream(
            self._check_open(), commands, within=within, give_up_after=give_up_after, pin=pin
        )

    async def stop_and_confirm(
        self, command: StopCharge, *, within: float = 60.0, pin: bool = False
    ) -> Confirmation:
        """Sends one stop, then watches the charge for up to `within` seconds.

        The stop is retried as `retry` says, and never sent again because the charge still runs.

        `stopped` is proven: by a stop notification, or because the charge was in the running list
        and then absent from two complete ones in a row. All that wait share one look at the list,
        every 2 to 10 s. `pin` is as for `stop_charge`. Raises `NotSentError` and `RejectedError` as
        `stop_charge` does, except `NotInTransaction` and `WrongTransaction`: after these the charge
        is watched too, and so it is after a stop that may have been relayed.
        """
        confirmation = await _calls.confirm(self._check_open(), command, within, pin=pin)
        outcome = confirmation.outcome
        if outcome.error is not None and not is_worth_watching(outcome):
            raise outcome.error
        return confirmation

    def stop_and_confirm_stream(
        self,
        commands: Commands,
        *,
        within: float = 60.0,
        give_up_after: float | None = 60.0,
        pin: bool = False,
    ) -> AbstractAsyncContextManager[ConfirmationStream, None]:
        """`stop_and_confirm` for many; used as `stop_stream`, with a `Confirmation` for each.

        `within` is the time of each command, from its pull. A command that was not sent, or that
        Thor rejected, is `unconfirmed`; its `outcome` says why. While some are watched others are
        sent: up to 32 for each that may be in flight, in bounded memory.
        """
        return _calls.confirm_stream(
            self._check_open(), commands, within=within, give_up_after=give_up_after, pin=pin
        )

    async def ensure_stopped(self, command: StopCharge, *, within: float = 300.0) -> Confirmation:
        """Stops one charge, again if it must be, until it is proven to have stopped.

        Pins the command to the transaction that runs there, sends a stop, watches, and sends it
        again to the same transaction while a complete list shows it: after 10, 20, 40 ... 60 s, or
        after the chargebox refused. Returns when it is `stopped`, or after `within` seconds what is
        known then; `stops_sent` counts the stops. No stop is sent while the last complete list does
        not show the transaction. Raises `RejectedError` if Thor rejects the first stop for good:
        after an account error, or for an unknown chargebox.
        """
        confirmation = await _calls.ensure(self._check_open(), command, within)
        outcome = confirmation.outcome
        if (
            outcome.error is not None
            and confirmation.stops_sent <= 1
            and is_final_rejection(outcome)
        ):
            raise outcome.error
        return confirmation

    def ensure_stopped_stream(
        self, commands: Commands, *, within: float = 300.0, give_up_after: float | None = 60.0
    ) -> AbstractAsyncContextManager[ConfirmationStream, None]:
        """`ensure_stopped` for many; used as `stop_stream`, with a `Confirmation` for each.

        `within` is the time of each command, from its pull. All share one look at the list, and
        are held in bounded memory, as in `stop_and_confirm_stream`.
        """
        return _calls.ensure_stream(
            self._check_open(), commands, within=within, give_up_after=give_up_after
        )

    async def running_charges(self, chargebox: str | None = None) -> list[RunningCharge]:
        """Returns the charges that run now, of all chargeboxes or of one, from `read_url`.

        Raises a `ThorError` without a command when there is no complete list within `timeout`. A
        5xx is retried by the policy of stops, with a budget of its own.
        """
        runtime = self._check_open()
        if chargebox is not None:
            check_text("chargebox", chargebox, shown=True)
        return _list_or_raise(await runtime.lists.running_charges(chargebox))

    async def chargeboxes(self) -> list[Chargebox]:
        """Returns the chargeboxes of the account; raises as `running_charges` does."""
        return _list_or_raise(await self._check_open().lists.chargeboxes())

    def notify(self, body: bytes | str) -> StartNotification | StopNotification:
        """Passes a notification that your web app received from Thor to the stops being watched.

        `body` is that of Thor's request; returns it parsed. A late or repeated one is harmless.
        Raises ValueError for a body that is no notification.
        """
        runtime = self._check_open()
        notification = parse_notification(body)
        if isinstance(notification, StopNotification):
            runtime.poller.notify(notification)
        return notification

    def _pace_status(self) -> tuple[float | None, int]:
        """As of `ClientRuntime`, also before the client is open. For the worker."""
        return (None, 0) if self._runtime is None else self._runtime.pace_status

    def _check_open(self) -> ClientRuntime:
        """Returns the runtime; RuntimeError unless a call can be made now and here."""
        shared = self._shared
        if shared.transport is None:
            raise RuntimeError("this ThorClient is not open: use `async with ThorClient() as thor`")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if shared.loop is not loop or shared.process != os.getpid():
            raise RuntimeError(_ELSEWHERE)
        if self._is_closing or shared.is_closing:
            raise RuntimeError("this ThorClient is closed: build a new one")
        if shared.transport.session.closed:
            raise RuntimeError("the session given to this ThorClient is closed: keep it open")
        if self._runtime is None:
            self._runtime = ClientRuntime(self._settings, shared, shared.transport)
        return self._runtime


def _check_session(session: object) -> None:
    """Raises TypeError for a wrapper of a session, which may send a stop twice."""
    if session is not None and not isinstance(session, aiohttp.ClientSession):
        raise TypeError(
            f"session must be an aiohttp.ClientSession, not a {type(session).__name__}: "
            "give the session itself, and let this client retry"
        )


def _make_transport(
    session: aiohttp.ClientSession | None,
    context: tls.SSLContext | None,
    proxy: str | None,
    max_in_flight: int,
) -> Transport:
    if session is not None:
        _warn_of_small_pool(session, max_in_flight)
    return Transport(session, context, proxy)


def _warn_of_small_pool(session: aiohttp.ClientSession, max_in_flight: int) -> None:
    connector = session.connector
    limits = (connector.limit, connector.limit_per_host) if connector is not None else ()
    limit = min((limit for limit in limits if limit), default=max_in_flight)
    if limit < max_in_flight:
        LOG.warning(
            "the given session has %d connections for max_in_flight=%d: stops will wait in its "
            "queue, and some until their time to connect is over",
            limit,
            max_in_flight,
        )


def _list_or_raise(found: list[T] | ThorError) -> list[T]:
    if isinstance(found, ThorError):
        raise found
    return found
