"""An HTTP server on loopback that can disappear like a crashed one, and come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from .threaded import Threaded, awaited_in_own_thread

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler

PREFIX = "/latest/integration"


class Server(Threaded):
    """Serves HTTP on `host` and `port` (0: any free one) or on `sock`, a bound socket."""

    def __init__(self, host: str, port: int, sock: socket.socket | None) -> None:
        self._host, self._port, self._sock = host, port, sock
        self._handlers: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._site: web.BaseSite | None = None

    async def _start_server(self, routes: Iterable[web.RouteDef]) -> None:
        if self._runner is not None:
            raise RuntimeError("the emulator runs already: build another one")
        app = web.Application(middlewares=[self._track_handler])
        app.router.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await self._listen(runner, self._sock)
        self._runner = runner

    async def _stop_server(self) -> None:
        await self.refuse()
        await self._require_runner().cleanup()
        self._runner = None

    @property
    def base_url(self) -> str:
        """The address for the client's `base_url`. It stays the same while the server refuses."""
        self._require_runner()
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}{PREFIX}"

    @awaited_in_own_thread
    async def refuse(self) -> None:
        """Disappear like a crashed server, until `accept`.

        New connections are refused, open connections aborted, and requests in progress abandoned.
        Stops that were relayed before go on: chargeboxes act and notifications are sent as usual.
        """
        server = self._require_runner().server
        site, self._site = self._site, None
        if site is None or server is None:
            return
        # The loop runs a timer after the accepts of the same round. A connection that is half
        # accepted when its listener closes would never be closed (asyncio's `_attach` fails).
        await asyncio.sleep(0.001)
        await site.stop()
        # A connection that was just accepted, or a request that just arrived, needs a few turns of
        # the loop until the server lists it.
        await _run_loop_turns()
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await _run_loop_turns()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    @awaited_in_own_thread
    async def accept(self) -> None:
        """Come back after `refuse`, on the same port."""
        runner = self._require_runner()
        if self._site is None:
            await self._listen(runner)

    async def _listen(self, runner: web.AppRunner, sock: socket.socket | None = None) -> None:
        tcp_site = web.TCPSite(runner, self._host, self._port)
        site = tcp_site if sock is None else web.SockSite(runner, sock)
        await site.start()
        self._site = site
        self._host, self._port = runner.addresses[0][:2]

    def _require_runner(self) -> web.AppRunner:
        if self._runner is None:
            raise RuntimeError("the emulator is not running: use it inside `async with`, or `with`")
        return self._runner

    @web.middleware
    async def _track_handler(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = request.task
        self._handlers.add(task)
        try:
            return await handler(request)
        except ConnectionError:
            # The client left before its request was complete, so the answer goes nowhere.
            return web.Response()
        finally:
            self._handlers.discard(task)


async def _run_loop_turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
