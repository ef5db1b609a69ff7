"""`thor-async stop-many`: stops the charges of a file."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from thor_async import ThorClient

from ..batch_end import find_early_end, print_end
from ..batch_report import write_batch_report
from ..batch_runner import BatchOptions, BatchRunner
from ..client_factory import find_addresses, is_loopback, make_client
from ..conflicts import find_conflict_with_count
from ..dry_run import plan_run, print_plan
from ..environment_check import LIMIT
from ..errors import UsageError
from ..guards import check_count
from ..input.command_file import (
    STANDARD_INPUT,
    CommandFile,
    format_lines,
    parse_command_file,
    read_command_file,
)
from ..output.allowed_rate import AllowedRate
from ..output.batch_status import BatchStatus
from ..output.console import print_error
from ..output.default_journal import choose_journal
from ..output.kept_input import KeptInput
from ..output.progress import show_progress
from ..output.resume import RUN_AGAIN
from ..output.run_info import describe_run
from ..output.sink import Echo, Output, StandardOutput
from ..report.page import check_report_path
from ..spread import Spread
from ..stop_results import StopOptions
from ..terminal import ask_to_go_on

_MAX_IN_FLIGHT = 32
_SHORT_WATCH = 45.0
"""Seconds in which the end of a charge is proven: the lag of a list, and two looks at it."""

# Commands without an outcome, for each request that may be in flight.
_UNSETTLED, _UNSETTLED_WATCHED = 4, 32


def run(args: argparse.Namespace) -> int:
    """Stops the charges of a file and writes one line of JSON for each."""
    check_arguments(args)
    return stop_rows(args, _read_input(args))


def check_arguments(args: argparse.Namespace) -> None:
    """Raises UsageError for an address or a report that cannot be used."""
    find_addresses(args)
    if args.report is not None:
        check_report_path(args.report)


def stop_rows(args: argparse.Namespace, command_file: CommandFile) -> int:
    """Stops the charges of a command file, and returns the exit status."""
    address, lists = find_addresses(args)
    conflict = find_conflict_with_count(args, len(command_file))
    if conflict is not None:
        raise UsageError(conflict)
    journal = _choose_journal(args, command_file)
    print_left_out_rows(command_file)
    _warn_of_short_watch(args)
    with _open_output(args, command_file, journal) as output:
        resume_state = output.open(address, resume=args.resume)
        resume_state.left_out = max(resume_state.left_out, command_file.bad_rows.count)
        options = StopOptions.from_args(args)
        resends_fix = args.resend == "fix"
        rows = resume_state.pending(watch=options.is_watched, resend_fix=resends_fix)
        if args.dry_run:
            plan = plan_run(args, command_file, resume_state, rows, address)
            print_plan(plan, as_json=args.json)
            return 0
        allowed = AllowedRate()
        client = make_client(args, allowed)
        check_count(
            args,
            len(rows),
            address,
            partial(command_file.count_chargeboxes, rows),
            is_local=is_loopback(address),
        )
        if journal is not None and args.output is None:
            print_error(f"the journal is {journal}")
        output.begin(
            address,
            resend=["fix"] if resends_fix else [],
            watch=options.is_watched,
            run_info=describe_run(args, lists),
        )
        batch = BatchRunner(command_file, rows, output, resume_state, _make_options(args))
        batch.status = BatchStatus(len(rows), batch.stats, time.monotonic, allowed, args.max_rate)
        batch.ask_to_go_on = partial(_ask_to_go_on, address)
        if journal is not None and args.output is None and not sys.stdout.isatty():
            batch.on_written = Echo()
        _run(args, batch, client, has_journal=journal is not None)
        if batch.is_recorded:
            output.end(find_early_end(batch))
        status = print_end(args, batch, journal)
        if args.report is not None:
            is_written = write_batch_report(
                args.report, batch, output, address, find_early_end(batch)
            )
            status = status if is_written else status or RUN_AGAIN
    return status


def _make_options(args: argparse.Namespace) -> BatchOptions:
    spread = None if args.over is None else Spread(args.over, is_random=args.spread == "random")
    return BatchOptions(
        StopOptions.from_args(args), spread, args.canary, goes_on=args.go_on, is_quiet=args.quiet
    )


def _run(
    args: argparse.Namespace, batch: BatchRunner, client: ThorClient, *, has_journal: bool
) -> None:
    """Runs the batch with its progress."""
    # On a terminal, a live bar and the outcomes would overwrite each other.
    is_live = has_journal or not sys.stdout.isatty()
    with ExitStack() as stack:
        if not args.quiet:
            batch.progress = stack.enter_context(show_progress(batch.status, live=is_live))
        asyncio.run(batch.run(client))


def _warn_of_short_watch(args: argparse.Namespace) -> None:
    """Says that no absence from the lists can be proven in the time of --wait or --ensure."""
    seconds = args.wait if args.ensure is None else args.ensure
    if seconds is not None and seconds < _SHORT_WATCH and not args.quiet:
        name = "--wait" if args.ensure is None else "--ensure"
        print_error(
            f"{name} {seconds:g} is short: Thor's lists may be 15 s behind, so an end that no "
            f"notification tells may be proven only after {_SHORT_WATCH:g} s"
        )


async def _ask_to_go_on(address: str, left: int, interrupted: asyncio.Event) -> bool:
    return await ask_to_go_on(
        f"Thor knows none of the first {LIMIT} chargeboxes at {address}: this may be the wrong "
        f"environment or account. {left:,} charges are left.",
        interrupted,
    )


def _read_input(args: argparse.Namespace) -> CommandFile:
    """Returns the rows of the file, of standard input, or of the copy beside the journal."""
    if args.resume and args.file in {None, "-"}:
        if args.file is not None and not sys.stdin.isatty():
            piped = sys.stdin.buffer.read()
            if piped.strip():
                return parse_command_file(STANDARD_INPUT, piped, skip_bad=args.skip_bad)
        kept = KeptInput(args.output)
        content = kept.read() if _has_lines(args.output) else None
        if content is not None:
            return parse_command_file(str(kept.path), content, skip_bad=args.skip_bad)
        if args.file is None:
            raise UsageError(f"no input at {kept.path}: give the input of the journal as FILE")
    return read_command_file(args.file, skip_bad=args.skip_bad)


def _has_lines(journal: str) -> bool:
    try:
        return Path(journal).stat().st_size > 0
    except OSError:
        return False  # the journal says what is wrong with it when it is opened


def _choose_journal(args: argparse.Namespace, command_file: CommandFile) -> str | None:
    """Returns the path of the journal, or None for a run without one."""
    if args.dry_run and not args.resume:
        return None
    if args.output is not None or args.no_journal or len(command_file) < 2:
        output: str | None = args.output
        return output
    return choose_journal(args.file)


@contextmanager
def _open_output(
    args: argparse.Namespace, command_file: CommandFile, journal: str | None
) -> Iterator[Output]:
    if journal is None:
        output: Output = StandardOutput(len(command_file), keep_copy=args.report is not None)
    else:
        try:
            from ..output.journal import Journal  # noqa: PLC0415 - some systems lack its file locks
        except ImportError:
            raise UsageError("no journal on this system: give --no-journal") from None
        is_watched = args.wait is not None or args.ensure is not None or args.canary or args.resume
        unsettled = _UNSETTLED_WATCHED if is_watched else _UNSETTLED
        max_unsettled = unsettled * (args.max_in_flight or _MAX_IN_FLIGHT)
        keep_input = args.file in {None, "-"}
        output = Journal(
            journal,
            command_file,
            max_unsettled,
            keep_input=keep_input,
            repair=args.repair,
            needs_lock=not args.no_lock,
        )
    try:
        yield output
    finally:
        output.close()


def print_left_out_rows(command_file: CommandFile) -> None:
    """Prints which rows of the file are not used, and why."""
    bad_rows, duplicates = command_file.bad_rows, command_file.duplicate_lines
    print_error(*bad_rows.lines)
    if bad_rows.count:
        print_error(f"rows left out: {bad_rows.count:,}")
    if duplicates:
        lines = format_lines(duplicates)
        print_error(f"duplicates, sent once: {len(duplicates):,} ({lines})")
