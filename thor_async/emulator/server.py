"""A server on loopback that can go away as a crashed one does, and come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler

PREFIX = "/latest/integration"


class Server:
    """Serves HTTP on `host` and `port` (0: any free one) or on `sock`, a bound socket."""

    def __init__(self, host: str, port: int, sock: socket.socket | None) -> None:
        self._host, self._port, self._sock = host, port, sock
        self._handlers: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._site: web.BaseSite | None = None

    async def _open(self, routes: Iterable[web.RouteDef]) -> None:
        app = web.Application(middlewares=[self._track])
        app.router.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await self._listen(runner, self._sock)
        self._runner = runner

    async def _close(self) -> None:
        await self.refuse()
        await self._started().cleanup()
        self._runner = None

    @property
    def base_url(self) -> str:
        """The address to give to the client as its `base_url`; also while it refuses."""
        self._started()
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}{PREFIX}"

    async def refuse(self) -> None:
        """Go away as a crashed server does, until `accept`.

        New connections are refused, open ones aborted, requests in work abandoned where they are.
        What was handed to a chargebox is out of its hands: that acts, and is told of, as ever.
        """
        server = self._started().server
        site, self._site = self._site, None
        if site is None or server is None:
            return
        # A timer's turn comes after the accepts of its round. A connection half accepted when its
        # listener closes would stay open with nobody to close it (asyncio's `_attach` fails).
        await asyncio.sleep(0.001)
        await site.stop()
        # What was accepted, or has just arrived, takes a few turns of the loop to be seen.
        await _turns()
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await _turns()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def accept(self) -> None:
        """Come back after `refuse`, on the same port."""
        runner = self._started()
        if self._site is None:
            await self._listen(runner)

    async def _listen(self, runner: web.AppRunner, sock: socket.socket | None = None) -> None:
        by_name = web.TCPSite(runner, self._host, self._port)
        site = by_name if sock is None else web.SockSite(runner, sock)
        await site.start()
        self._site = site
        self._host, self._port = runner.addresses[0][:2]

    def _started(self) -> web.AppRunner:
        if self._runner is None:
            raise RuntimeError("the emulator is not running: use it inside `async with`")
        return self._runner

    @web.middleware
    async def _track(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = request.task
        self._handlers.add(task)
        try:
            return await handler(request)
        except ConnectionError:
            # The client left before its request was whole: nobody is there to answer.
            return web.Response()
        finally:
            self._handlers.discard(task)


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
