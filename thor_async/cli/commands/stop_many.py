"""`thor-async stop-many`: stops the charges of a file."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ..batch_runner import BatchOptions, BatchRunner
from ..client_factory import find_addresses, is_loopback, make_client
from ..errors import UsageError
from ..input.command_file import CommandFile, read_command_file
from ..output.console import ADVICE, print_error, print_table, progress
from ..output.sink import Output, StandardOutput
from ..report.page import ReportHeader, check_report_path, write_report
from ..report.rows import ReportRows
from ..stop_results import StopOptions
from ..terminal import ask_for_count

_MAX_IN_FLIGHT = 32
# Commands without an outcome, for each request that may be in flight.
_UNSETTLED, _UNSETTLED_WATCHED = 4, 32


def run(args: argparse.Namespace) -> int:
    """Stops the charges of a file and writes one line of JSON for each."""
    address = find_addresses(args)[0]
    if args.report is not None:
        check_report_path(args.report)
    command_file = read_command_file(args.file, skip_bad=args.skip_bad)
    _print_left_out_rows(command_file)
    with _open_output(args, command_file) as output:
        resume_state = output.open(resume=args.resume)
        rows = resume_state.pending(resend_unknown=args.resend_unknown)
        if args.dry_run:
            _print_dry_run(command_file, rows, address)
            return 0
        client = make_client(args)
        _check_count(args, command_file, rows, address)
        output.begin(address)
        options = BatchOptions(StopOptions.from_args(args), args.over, args.canary)
        batch = BatchRunner(command_file, rows, output, resume_state, options)
        # On a terminal, a live bar and the outcomes would overwrite each other.
        is_live = args.output is not None or not sys.stdout.isatty()
        with progress(len(rows), batch.stats, sys.stderr, live=is_live) as batch.on_written:
            asyncio.run(batch.run(client))
        output.end()
        _print_summary(batch, command_file, len(rows))
        status = _exit_status(batch, command_file, len(rows))
        if args.report is not None and not _write_report(args, batch, command_file, output):
            status = 1
    return status


@contextmanager
def _open_output(args: argparse.Namespace, command_file: CommandFile) -> Iterator[Output]:
    if args.output is None or (args.dry_run and not args.resume):
        output: Output = StandardOutput(len(command_file), keep_copy=args.report is not None)
    else:
        try:
            from ..output.journal import Journal  # noqa: PLC0415 - some systems lack its file locks
        except ImportError:
            raise UsageError("no journal on this system: leave --output out") from None
        is_watched = args.wait is not None or args.canary
        unsettled = _UNSETTLED_WATCHED if is_watched else _UNSETTLED
        max_unsettled = unsettled * (args.max_in_flight or _MAX_IN_FLIGHT)
        output = Journal(args.output, command_file, max_unsettled)
    try:
        yield output
    finally:
        output.close()


def _check_count(
    args: argparse.Namespace, command_file: CommandFile, rows: Sequence[int], address: str
) -> None:
    """Raises UsageError for too many charges, or if the number is not typed on the terminal.

    The question is left out with `--yes`, and for an address on this machine.
    """
    count = len(rows)
    if args.at_most is not None and count > args.at_most:
        raise UsageError(f"{count:,} charges are more than --at-most {args.at_most:,}")
    if count and not args.yes and not is_loopback(address):
        ask_for_count(address, count, lambda: command_file.count_chargeboxes(rows))


def _print_left_out_rows(command_file: CommandFile) -> None:
    bad_rows, duplicates = command_file.bad_rows, command_file.duplicate_lines
    print_error(*bad_rows)
    if bad_rows:
        print_error(f"bad rows, left out: {len(bad_rows):,}")
    if duplicates:
        lines = ", ".join(map(str, duplicates[:10]))
        more = ", ..." if len(duplicates) > 10 else ""
        print_error(f"exact duplicates, sent once: {len(duplicates):,} (line {lines}{more})")


def _print_dry_run(command_file: CommandFile, rows: Sequence[int], address: str) -> None:
    count = command_file.count_chargeboxes(rows)
    print(f"would stop {len(rows):,} charges at {count:,} chargeboxes through {address}")
    if len(rows) < len(command_file):
        print(f"{len(command_file) - len(rows):,} others were settled by earlier runs")


def _print_summary(batch: BatchRunner, command_file: CommandFile, total: int) -> None:
    stats = batch.stats
    with suppress(OSError):
        if stats.total:
            print_table(stats, sys.stderr)
    for slow in stats.slowest:
        line = command_file.line_number(slow.row)
        print_error(f"slowest: {slow.elapsed:.2f} s, line {line}, {slow.connector}")
    steps = stats.format_counts("next_step") or "nothing to do"
    print_error(f"{stats.total:,} of {total:,} commands: {steps}")
    for step, advice in ADVICE.items():
        if step != "done" and stats.count(next_step=step):
            print_error(f"{step}: {advice}")
    reason = _early_end(batch)
    if reason is not None:
        unwritten = stats.total - batch.written
        lost = f", and {unwritten:,} of the outcomes could not be written" if unwritten else ""
        unsent = total - stats.total
        print_error(f"{reason}: {unsent:,} of {total:,} commands were not sent{lost}")


def _early_end(batch: BatchRunner) -> str | None:
    """Returns why the batch ended before all rows were sent, or None."""
    return batch.failure or ("interrupted" if batch.is_interrupted else None)


def _exit_status(batch: BatchRunner, command_file: CommandFile, total: int) -> int:
    if batch.is_interrupted:
        return 130
    all_done = batch.stats.count(next_step="done") == total
    return 0 if all_done and not command_file.bad_rows and not batch.failure else 1


def _write_report(
    args: argparse.Namespace, batch: BatchRunner, command_file: CommandFile, output: Output
) -> bool:
    """Writes the report, and returns whether that succeeded."""
    header = ReportHeader(
        name="standard input" if args.file == "-" else args.file,
        digest=command_file.digest,
        address=find_addresses(args)[0],
        charges=len(command_file),
        left_out=len(command_file.bad_rows),
        failure=_early_end(batch),
    )
    try:
        with output.read() as file:
            write_report(args.report, header, ReportRows(file, command_file))
    except OSError as error:
        print_error(
            f"cannot write {args.report} ({error.strerror}): free some space and use --resume again"
        )
        return False
    print_error(f"the report is in {args.report}")
    return True
