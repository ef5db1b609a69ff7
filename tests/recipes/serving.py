"""Each framework's own server, on a free port of loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import uvicorn
from aiohttp import web
from fastapi import FastAPI
from litestar import Litestar

from tests.conftest import wait_until
from thor_async import ThorClient

from . import aiohttp_app, fastapi_app, litestar_app


class Served(NamedTuple):
    """An app while it is served; `browsers` counts those that are connected."""

    url: str
    listener: socket.socket
    thor: ThorClient
    browsers: Callable[[], int]
    shut_down: Callable[[], asyncio.Task[None]]


Serve = Callable[..., AbstractAsyncContextManager[Served]]


def connected(server: web.Server) -> int:
    """Counts the open connections: a lost one is listed until its handler has ended."""
    return sum(connection.transport is not None for connection in server.connections)


def _listener() -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def by_uvicorn(app: FastAPI | Litestar, **settings: Any) -> AsyncIterator[Served]:
    config = uvicorn.Config(app, log_config=None, access_log=False, **settings)
    server = uvicorn.Server(config)
    listener, url = _listener()
    serving = asyncio.create_task(server.serve([listener]))
    await wait_until(lambda: server.started)

    def shut_down() -> asyncio.Task[None]:
        server.should_exit = True
        return serving

    browsers = server.server_state.connections
    try:
        yield Served(url, listener, app.state.thor, lambda: len(browsers), shut_down)
    finally:
        await shut_down()


@asynccontextmanager
async def by_aiohttp(app: web.Application, **settings: Any) -> AsyncIterator[Served]:
    runner = web.AppRunner(app, access_log=None, **settings)
    await runner.setup()
    listener, url = _listener()
    await web.SockSite(runner, listener).start()
    server = runner.server
    assert server is not None
    endings: list[asyncio.Task[None]] = []

    def shut_down() -> asyncio.Task[None]:
        if not endings:
            endings.append(asyncio.create_task(runner.cleanup()))
        return endings[0]

    thor = app[aiohttp_app.THOR]
    try:
        yield Served(url, listener, thor, lambda: connected(server), shut_down)
    finally:
        await shut_down()


def fastapi(**settings: Any) -> AbstractAsyncContextManager[Served]:
    return by_uvicorn(fastapi_app.make_app(), **settings)


def litestar(**settings: Any) -> AbstractAsyncContextManager[Served]:
    return by_uvicorn(litestar_app.make_app(), **settings)


def aiohttp(**settings: Any) -> AbstractAsyncContextManager[Served]:
    return by_aiohttp(aiohttp_app.make_app(), **settings)
