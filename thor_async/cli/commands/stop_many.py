"""`thor-async stop` and `thor-async stop-many`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from thor_async import BatchGaveUp, StopCharge, ThorClient

from ..batch_runner import BatchOptions, BatchRunner
from ..client_factory import agree, find_addresses, make_client
from ..errors import UsageError
from ..input.command_file import CommandFile, read_command_file
from ..output.console import ADVICE, print_error, progress, sentence, table
from ..output.sink import Output, Standard
from ..report.page import ReportHeader, check_report, write_report
from ..report.rows import ReportRows
from ..stop_results import Result, StopOptions, as_result, open_stream

_IN_FLIGHT = 32
# Pulled and without an outcome, for each that may be on the wire.
_WINDOW, _WATCHED = 4, 32


def stop(args: argparse.Namespace) -> int:
    """Stops one charge and prints one line about it."""
    try:
        command = StopCharge(args.chargebox, args.connector, args.id_tag, args.transaction)
    except ValueError as error:
        raise UsageError(str(error)) from None
    results: list[Result] = []
    try:
        asyncio.run(_stop_one(make_client(args), command, _manner(args), results.append))
    finally:
        for result in results:
            print(sentence(result))
    return 0 if results[0].next_step == "done" else 1


async def _stop_one(
    client: ThorClient, command: StopCharge, manner: StopOptions, tell: Callable[[Result], None]
) -> None:
    async with client as thor:
        stream = open_stream(thor, [command], manner)
        try:
            async with stream:
                with suppress(BatchGaveUp):  # its outcome says why
                    async for item in stream:
                        tell(as_result(item))
        finally:
            for item in stream.unread:
                tell(as_result(item))


def _manner(args: argparse.Namespace) -> StopOptions:
    return StopOptions(args.wait, args.pin, getattr(args, "within", None))


def stop_many(args: argparse.Namespace) -> int:
    """Stops the charges of a file and writes one line of JSON for each."""
    address = find_addresses(args)[0]
    if args.report is not None:
        check_report(args.report)
    fleet = read_command_file(args.file, skip_bad=args.skip_bad)
    _say_what_is_left_out(fleet)
    with _open_output(args, fleet) as output:
        past = output.open(resume=args.resume)
        rows = past.pending(resend_unknown=args.resend_unknown)
        if args.dry_run:
            return _describe(fleet, rows, address)
        client = make_client(args)
        agree(address, len(rows), lambda: _count_chargeboxes(fleet, rows), args)
        output.begin(address)
        options = BatchOptions(_manner(args), args.over, args.canary)
        batch = BatchRunner(fleet, rows, output, past, options)
        # Two writers on one terminal would spoil each other's lines.
        is_live = args.output is not None or not sys.stdout.isatty()
        with progress(len(rows), batch.tally, sys.stderr, live=is_live) as batch.tick:
            asyncio.run(batch.run(client))
        output.end()
        status = _sum_up(batch, fleet, len(rows))
        if args.report is not None:
            status = _report(args, batch, fleet, output) or status
    return status


def _report(
    args: argparse.Namespace, batch: BatchRunner, fleet: CommandFile, output: Output
) -> int:
    """Writes the report; 1 when it could not be written."""
    name = "standard input" if args.file == "-" else args.file
    trouble = batch.trouble or ("interrupted" if batch.is_interrupted else None)
    asked = ReportHeader(
        name, fleet.digest, find_addresses(args)[0], len(fleet), len(fleet.bad), trouble
    )
    try:
        with output.read() as file:
            write_report(args.report, asked, ReportRows(file, fleet))
    except OSError as error:
        print_error(
            f"cannot write {args.report} ({error.strerror}): make room and use --resume again"
        )
        return 1
    print_error(f"the report is in {args.report}")
    return 0


@contextmanager
def _open_output(args: argparse.Namespace, fleet: CommandFile) -> Iterator[Output]:
    if args.output is None or (args.dry_run and not args.resume):
        output: Output = Standard(len(fleet), is_kept=args.report is not None)
    else:
        try:
            from ..output.journal import Journal  # noqa: PLC0415 - its locks are not on every system
        except ImportError:
            raise UsageError("no journal on this system: leave --output out") from None
        each = _WINDOW if args.wait is None and not args.canary else _WATCHED
        output = Journal(args.output, fleet, each * (args.max_in_flight or _IN_FLIGHT))
    try:
        yield output
    finally:
        output.close()


def _describe(fleet: CommandFile, rows: Sequence[int], address: str) -> int:
    """What a run would do."""
    count = _count_chargeboxes(fleet, rows)
    print(f"would stop {len(rows):,} charges at {count:,} chargeboxes through {address}")
    if len(rows) < len(fleet):
        print(f"{len(fleet) - len(rows):,} others are settled by the runs before")
    return 0


def _count_chargeboxes(fleet: CommandFile, rows: Sequence[int]) -> int:
    return len({fleet[row].chargebox for row in rows})


def _say_what_is_left_out(fleet: CommandFile) -> None:
    print_error(*fleet.bad)
    if fleet.bad:
        print_error(f"bad rows, left out: {len(fleet.bad):,}")
    if fleet.repeated:
        lines = ", ".join(map(str, fleet.repeated[:10]))
        more = ", ..." if len(fleet.repeated) > 10 else ""
        print_error(f"exact duplicates, sent once: {len(fleet.repeated):,} (line {lines}{more})")


def _sum_up(batch: BatchRunner, fleet: CommandFile, total: int) -> int:
    """Says what came of it on standard error, and gives the exit status."""
    tally = batch.tally
    with suppress(OSError):
        if tally.total:
            table(tally, sys.stderr)
    for slow in tally.slowest:
        print_error(f"slowest: {slow.elapsed:.2f} s, line {fleet.line(slow.row)}, {slow.where}")
    print_error(f"{tally.total:,} of {total:,} commands: {tally.steps() or 'nothing to do'}")
    for step in ADVICE:
        if step != "done" and tally.count(next_step=step):
            print_error(f"{step}: {ADVICE[step]}")
    if batch.is_interrupted or batch.trouble:
        print_error(f"{batch.trouble or 'interrupted'}: {_rest(batch, total)}")
    if batch.is_interrupted:
        return 130
    return (
        0 if tally.count(next_step="done") == total and not fleet.bad and not batch.trouble else 1
    )


def _rest(batch: BatchRunner, total: int) -> str:
    """What is not in the output."""
    known = batch.tally.total
    lost = known - batch.written
    text = f"{total - known:,} of {total:,} commands were not sent"
    return text + (f", and {lost:,} of the outcomes could not be written" if lost else "")
