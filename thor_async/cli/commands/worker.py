"""`thor-async worker`: serves the commands of a NATS subject until it is told to end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import signal
from pathlib import Path

import nats.errors
from faststream.nats import NatsBroker

from thor_async._telemetry.emitter import OnEvent
from thor_async.worker.service import StopWorker, add_worker

from ..client_factory import make_client
from ..errors import UsageError

LOG = logging.getLogger("thor_async.worker")


def worker(args: argparse.Namespace) -> int:
    """Runs until SIGTERM or Ctrl-C, then ends what is in hand."""
    broker = NatsBroker(
        args.nats,
        logger=None,
        graceful_timeout=args.drain,
        # Once it had given up it would be a worker that does nothing.
        max_reconnect_attempts=-1,
        error_cb=_told_of,
    )
    try:
        made = add_worker(
            broker,
            make_client(args, _telemetry()),
            stream=args.stream,
            subject=args.subject,
            dead_letter=args.dead_letter,
            outcomes=args.outcomes,
            max_in_flight=args.max_in_flight,
            max_age=args.max_age,
            confirm=args.confirm,
            health_file=args.health_file and Path(args.health_file),
        )
        asyncio.run(_run(broker, made))
    except (ValueError, RuntimeError, nats.errors.Error) as error:
        raise UsageError(str(error)) from None
    return 0


async def _run(broker: NatsBroker, made: StopWorker) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with contextlib.AsyncExitStack() as stack:
        opening = asyncio.create_task(_open(stack, broker, made))
        ending = asyncio.create_task(ended.wait())
        await asyncio.wait([opening, ending], return_when=asyncio.FIRST_COMPLETED)
        if ended.is_set():
            # NATS may not be there for a long time yet.
            opening.cancel()
        try:
            await opening
            LOG.info("serving")
            await ended.wait()
            LOG.info("draining")
        except asyncio.CancelledError:
            return
        finally:
            ending.cancel()
            await broker.stop()


async def _open(stack: contextlib.AsyncExitStack, broker: NatsBroker, made: StopWorker) -> None:
    await stack.enter_async_context(made.lifespan())
    await broker.start()


async def _told_of(error: Exception) -> None:
    LOG.warning("NATS: %s", type(error).__name__)


def _telemetry() -> OnEvent:
    """Spans and metrics where the extra `otel` is installed: the global providers decide."""
    if importlib.util.find_spec("opentelemetry") is None:
        return None
    from thor_async.otel import Telemetry  # noqa: PLC0415 - only where it is

    return Telemetry()
