"""`thor-async worker`: serves the commands of a NATS subject until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import signal
from pathlib import Path
from urllib.parse import urlsplit

import nats.errors
from faststream.nats import NatsBroker

from thor_async._telemetry.emitter import OnEvent
from thor_async.worker.service import StopWorker, add_worker

from ..client_factory import make_client
from ..errors import UsageError
from ..worker_init import run_init

LOG = logging.getLogger("thor_async.worker")


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C, then completes the commands in progress."""
    _check_address(args.nats)
    if args.init:
        return run_init(args)
    broker = NatsBroker(
        args.nats,
        logger=None,
        graceful_timeout=args.drain,
        # A broker that has given up serves nothing, and the process would still run.
        max_reconnect_attempts=-1,
        error_cb=_log_nats_error,
    )
    try:
        worker = add_worker(
            broker,
            make_client(args, _make_telemetry()),
            stream=args.stream,
            subject=args.subject,
            dead_letter=args.dead_letter,
            outcomes=args.outcomes,
            max_in_flight=args.max_in_flight,
            max_age=args.max_age,
            confirm=args.confirm,
            health_file=args.health_file and Path(args.health_file),
            health_port=args.health_port,
            health_host=args.health_host,
        )
        asyncio.run(_serve(broker, worker))
    except (ValueError, RuntimeError, nats.errors.Error) as error:
        raise UsageError(str(error)) from None
    return 0


def _check_address(address: str) -> None:
    """Raises UsageError for an unusable address, and shows nothing of it: it may have a password.

    NATS takes user and password as they are, so no character can be written as `%5D`.
    """
    is_usable = address.isprintable() and " " not in address
    try:
        parts = urlsplit(address if "://" in address else f"nats://{address}")
        is_usable = is_usable and bool(parts.hostname) and parts.port != 0
        is_usable = is_usable and parts.scheme in {"nats", "tls", "ws", "wss"}
        has_path = parts.path not in {"", "/"} and not parts.scheme.startswith("ws")
        is_usable = is_usable and not (has_path or parts.query or parts.fragment)
    except ValueError:
        is_usable = False
    # Raised after the block: the errors of urlsplit quote the address.
    if not is_usable:
        raise UsageError(
            "--nats must be an address like nats://host:4222; a user and a password in it must be "
            "without blanks and /?#[]"
        )


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


def _make_telemetry() -> OnEvent:
    """Returns spans and metrics if the extra `otel` is installed; global providers export them."""
    if importlib.util.find_spec("opentelemetry") is None:
        return None
    from thor_async.otel import Telemetry  # noqa: PLC0415 - needs the extra

    return Telemetry()
