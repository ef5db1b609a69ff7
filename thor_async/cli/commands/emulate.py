"""`thor-async emulate`: runs the emulator as a server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path

from thor_async.emulator import ThorEmulator

from ..emulator_factory import add_aliases, make_emulator
from ..emulator_ledger import write_ledger
from ..errors import UsageError
from ..input.command_file import read_command_file
from ..output.console import print_error
from ..signals import on_interrupt


def run(args: argparse.Namespace) -> int:
    """Runs the emulator until Ctrl-C, and then writes the ledger."""
    commands = [] if args.fleet is None else list(read_command_file(args.fleet))
    emulator = make_emulator(
        commands,
        port=args.port,
        faults=args.faults,
        latency=args.latency,
        rate=args.rate,
        retry_after=args.retry_after,
        refuse=args.refuse,
        offline=args.offline,
    )
    if args.alias is not None:
        add_aliases(emulator, commands, args.alias)
    if args.ledger is not None:
        _check_ledger(args.ledger)
    asyncio.run(_serve(emulator, args.ledger))
    return 0


def _check_ledger(path: str) -> None:
    """Raises UsageError if the ledger cannot be written at the end."""
    try:
        Path(path).touch()
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): give --ledger a file in a writable folder"
        ) from None


async def _serve(emulator: ThorEmulator, ledger: str | None) -> None:
    end = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(emulator)
        except OSError as error:
            raise UsageError(f"cannot listen ({error.strerror}): give another --port") from None
        stack.enter_context(on_interrupt(lambda number: end.set(), end.set))
        print(emulator.base_url, emulator.api_key, sep="\n", flush=True)
        print_error("set THOR_BASE_URL to line 1 and THOR_API_KEY to line 2; Ctrl-C ends it")
        await end.wait()
        if ledger is not None:
            write_ledger(ledger, emulator)
            print_error(f"the ledger is in {ledger}")
