"""`thor-async emulate`: runs the emulator as a server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from thor_async.emulator import ThorEmulator

from ..emulator_factory import make_emulator
from ..errors import UsageError
from ..input.command_file import read_command_file
from ..output.console import print_error


def run(args: argparse.Namespace) -> int:
    """Runs the emulator until Ctrl-C."""
    commands = [] if args.fleet is None else list(read_command_file(args.fleet))
    emulator = make_emulator(commands, port=args.port, rate=args.rate, retry_after=args.retry_after)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(emulator))
    return 0


async def _serve(emulator: ThorEmulator) -> None:
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(emulator)
        except OSError as error:
            raise UsageError(f"cannot listen ({error.strerror}): give another --port") from None
        print(emulator.base_url, emulator.api_key, sep="\n", flush=True)
        print_error("set THOR_BASE_URL to line 1 and THOR_API_KEY to line 2; Ctrl-C ends it")
        await asyncio.Event().wait()
