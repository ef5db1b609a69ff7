"""`thor-async stop`: stops one charge."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from contextlib import suppress

from thor_async import BatchGaveUp, StopCharge, ThorClient

from ..client_factory import make_client
from ..errors import UsageError
from ..output.console import describe_result
from ..stop_results import StopOptions, StopResult, as_result, open_stream


def run(args: argparse.Namespace) -> int:
    """Stops one charge and prints one line about it, also after Ctrl-C."""
    try:
        command = StopCharge(args.chargebox, args.connector, args.id_tag, args.transaction)
    except ValueError as error:
        raise UsageError(str(error)) from None
    client, options = make_client(args), StopOptions.from_args(args)
    results: list[StopResult] = []
    try:
        asyncio.run(_stop(client, command, options, results.append))
    finally:
        for result in results:
            print(describe_result(result))
    return 0 if results[0].next_step == "done" else 1


async def _stop(
    client: ThorClient,
    command: StopCharge,
    options: StopOptions,
    on_result: Callable[[StopResult], None],
) -> None:
    """Uses a stream, because it has an outcome for a cancelled stop, too."""
    async with client as thor:
        stream = open_stream(thor, [command], options)
        try:
            async with stream:
                with suppress(BatchGaveUp):  # the outcome has its cause
                    async for item in stream:
                        on_result(as_result(item))
        finally:
            for item in stream.unread:
                on_result(as_result(item))
