"""The pages of a worker for an orchestrator: `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import msgspec
from aiohttp import web

from .stats import WorkerStats

LOG = logging.getLogger("thor_async.worker")

_SHUTDOWN_TIMEOUT = 1.0
_NO_METRICS = "prometheus_client is not installed: pip install 'thor_async[metrics]'\n"


class HealthPages:
    """Answers from the figures of a worker, whenever it is asked.

    `/healthz` is 200 while the loop turns and no task of the worker has failed, also while NATS or
    Thor is away: a restart would cure neither. `/readyz` is 200 only while commands are served.
    """

    def __init__(self, find_stats: Callable[[], WorkerStats]) -> None:
        self._find_stats = find_stats

    def make_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._answer_health)
        app.router.add_get("/readyz", self._answer_readiness)
        app.router.add_get("/metrics", self._answer_metrics)
        return app

    async def _answer_health(self, request: web.Request) -> web.Response:
        stats = self._find_stats()
        return _make_response(stats, is_ok=stats.failure is None)

    async def _answer_readiness(self, request: web.Request) -> web.Response:
        stats = self._find_stats()
        return _make_response(stats, is_ok=stats.failure is None and stats.state == "running")

    async def _answer_metrics(self, request: web.Request) -> web.Response:
        try:
            from .metrics import CONTENT_TYPE, format_metrics  # noqa: PLC0415 - needs an extra
        except ModuleNotFoundError:
            return web.Response(status=501, text=_NO_METRICS)
        body = format_metrics(self._find_stats())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


@contextlib.asynccontextmanager
async def serve_health(
    find_stats: Callable[[], WorkerStats], host: str, port: int
) -> AsyncIterator[str]:
    """Serves the pages; yields their address. Port 0 takes a free one.

    Raises RuntimeError if the address cannot be used.
    """
    app = HealthPages(find_stats).make_app()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise RuntimeError(
                f"cannot listen on {host} port {port} ({error.strerror}): give another health_port"
            ) from None
        address = f"http://{host}:{runner.addresses[0][1]}"
        LOG.info("health pages on %s", address)
        yield address
    finally:
        await runner.cleanup()


def _make_response(stats: WorkerStats, *, is_ok: bool) -> web.Response:
    body = {"state": stats.state, "reason": stats.failure or stats.reason}
    return web.Response(
        status=200 if is_ok else 503,
        body=msgspec.json.encode(body) + b"\n",
        content_type="application/json",
    )
