"""`thor-async stop`: stops one charge."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from contextlib import suppress

from thor_async import BatchGaveUp, StopCharge, ThorClient

from ..client_factory import make_client
from ..errors import UsageError
from ..input.commands import make_command
from ..output.console import describe_result, print_error
from ..output.printable import encode_line
from ..signals import exit_status, on_interrupt
from ..stop_results import StopOptions, StopResult, as_result, open_stream

_PROGRESS_GAP = 10.0


def run(args: argparse.Namespace) -> int:
    """Stops one charge and prints one line about it, also after Ctrl-C."""
    try:
        command = make_command(args.chargebox, args.connector, args.id_tag, args.transaction)
    except ValueError as error:
        raise UsageError(str(error)) from None
    client, options = make_client(args), StopOptions.from_args(args)
    results: list[StopResult] = []
    try:
        stop = _stop_or_cancel(client, command, options, results.append, is_quiet=args.quiet)
        interrupted_by = asyncio.run(stop)
    finally:
        for result in results:
            _print(args, result)
    if interrupted_by is not None:
        print_error("interrupted")
        return exit_status(interrupted_by)
    return 0 if results[0].next_step == "done" else 1


def _print(args: argparse.Namespace, result: StopResult) -> None:
    if args.json:
        print(encode_line(result.record()).decode(), end="")
    elif not args.quiet or result.next_step != "done":
        print(describe_result(result))


async def _stop_or_cancel(
    client: ThorClient,
    command: StopCharge,
    options: StopOptions,
    on_result: Callable[[StopResult], None],
    *,
    is_quiet: bool,
) -> int | None:
    """Returns the number of the signal that ended the stop, or None."""
    interrupted_by: int | None = None

    def cancel(number: int) -> None:
        nonlocal interrupted_by
        interrupted_by = number
        task.cancel()

    task = asyncio.create_task(_stop(client, command, options, on_result, is_quiet=is_quiet))
    with on_interrupt(cancel, task.cancel):
        try:
            await task
        except asyncio.CancelledError:
            if interrupted_by is None:
                raise
    return interrupted_by


async def _stop(
    client: ThorClient,
    command: StopCharge,
    options: StopOptions,
    on_result: Callable[[StopResult], None],
    *,
    is_quiet: bool,
) -> None:
    """Uses a stream, because it has an outcome for a cancelled stop, too."""
    async with client as thor:
        stream = open_stream(thor, [command], options)
        is_told = options.is_watched and not is_quiet
        progress = asyncio.create_task(_report_wait(command)) if is_told else None
        try:
            async with stream:
                with suppress(BatchGaveUp):  # the outcome has its cause
                    async for item in stream:
                        on_result(as_result(item))
        finally:
            if progress is not None:
                progress.cancel()
            for item in stream.unread:
                on_result(as_result(item))


async def _report_wait(command: StopCharge) -> None:
    """Prints regularly that it is not yet known whether the charge stopped."""
    seconds = 0.0
    while True:
        await asyncio.sleep(_PROGRESS_GAP)
        seconds += _PROGRESS_GAP
        print_error(
            f"not yet known to have stopped after {seconds:.0f} s: chargebox "
            f"{command.chargebox!r} connector {command.connector}"
        )
