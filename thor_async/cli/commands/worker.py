"""`thor-async worker`: serves the commands of a NATS subject until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import nats.errors
from faststream.nats import NatsBroker

from thor_async._events import Event
from thor_async.worker.service import StopWorker, add_worker

from ..client_factory import find_key_file, make_client
from ..errors import UsageError
from ..nats_login import find_login
from ..worker_init import run_init

LOG = logging.getLogger("thor_async.worker")

_PING_INTERVAL = 10


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C, then completes the commands in progress."""
    login = find_login(args)
    if args.init:
        return run_init(args)
    key_file = find_key_file(args)
    on_event = [*_make_telemetry(), *([key_file.note_event] if key_file else [])]
    broker = NatsBroker(
        login.servers,
        security=login.make_security(),
        name="thor-async worker",
        # A connection that is dead without a word is found out in half a minute, not in six.
        ping_interval=_PING_INTERVAL,
        logger=None,
        graceful_timeout=args.drain,
        # A broker that has given up serves nothing, and the process would still run.
        max_reconnect_attempts=-1,
        error_cb=_log_nats_error,
    )
    try:
        worker = add_worker(
            broker,
            make_client(args, on_event, key_file=key_file),
            stream=args.stream,
            subject=args.subject,
            dead_letter=args.dead_letter,
            outcomes=args.outcomes,
            max_in_flight=args.max_in_flight,
            max_age=args.max_age,
            confirm=args.confirm,
            tolerant=args.tolerant,
            health_file=args.health_file and Path(args.health_file),
            health_port=args.health_port,
            health_host=args.health_host,
        )
        asyncio.run(_serve(broker, worker))
    except (ValueError, RuntimeError, nats.errors.Error) as error:
        raise UsageError(str(error)) from None
    return 0


async def _serve(broker: NatsBroker, worker: StopWorker) -> None:
    stop_signal = asyncio.Event()
    start = asyncio.timeout(None)  # it waits for NATS without a limit

    def stop() -> None:
        stop_signal.set()
        if not is_started:
            start.reschedule(0.0)

    is_started = False
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with start:
                await stack.enter_async_context(worker.lifespan())
                await broker.start()
        except TimeoutError:
            if not stop_signal.is_set():
                raise
        else:
            is_started = True
            LOG.info("serving")
            await stop_signal.wait()
            LOG.info("draining")
        finally:
            await broker.stop()


async def _log_nats_error(error: Exception) -> None:
    LOG.warning("NATS: %s", type(error).__name__)


def _make_telemetry() -> list[Callable[[Event], None]]:
    """Returns spans and metrics if the extra `otel` is installed; global providers export them."""
    if importlib.util.find_spec("opentelemetry") is None:
        return []
    from thor_async.otel import Telemetry  # noqa: PLC0415 - needs the extra

    return [Telemetry()]
