"""`thor-async stop-many`: stops the charges of a file."""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..batch_runner import BatchOptions, BatchRunner
from ..client_factory import find_addresses, is_loopback, make_client
from ..errors import UsageError
from ..guards import check_count
from ..input.command_file import (
    STANDARD_INPUT,
    CommandFile,
    format_lines,
    parse_command_file,
    read_command_file,
)
from ..output.allowed_rate import AllowedRate, format_rate
from ..output.console import format_duration, print_error, progress
from ..output.kept_input import KeptInput
from ..output.resume import ONLY_A_PERSON, RUN_AGAIN, ResumeState
from ..output.sink import Output, StandardOutput
from ..output.summary import print_counts, print_rows_table, print_unwatched
from ..report.page import ReportHeader, check_report_path, write_report
from ..report.rows import ReportRows
from ..signals import exit_status as signal_status
from ..stop_results import StopOptions

_MAX_IN_FLIGHT = 32
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
    address = find_addresses(args)[0]
    print_left_out_rows(command_file)
    options = StopOptions.from_args(args)
    resends_fix = args.resend == "fix"
    with _open_output(args, command_file) as output:
        resume_state = output.open(address, resume=args.resume)
        resume_state.left_out = max(resume_state.left_out, command_file.bad_rows.count)
        rows = resume_state.pending(watch=options.is_watched, resend_fix=resends_fix)
        if args.dry_run:
            _print_dry_run(command_file, resume_state, rows, address, args.max_rate)
            return 0
        allowed = AllowedRate()
        client = make_client(args, allowed)
        check_count(
            args,
            len(rows),
            address,
            functools.partial(command_file.count_chargeboxes, rows),
            is_local=is_loopback(address),
        )
        resend = ["fix"] if resends_fix else []
        output.begin(address, resend=resend, watch=options.is_watched)
        batch_options = BatchOptions(options, args.over, args.canary)
        batch = BatchRunner(command_file, rows, output, resume_state, batch_options)
        # On a terminal, a live bar and the outcomes would overwrite each other.
        is_live = args.output is not None or not sys.stdout.isatty()
        with progress(
            len(rows), batch.stats, sys.stderr, allowed, live=is_live
        ) as batch.on_written:
            asyncio.run(batch.run(client))
        if batch.is_recorded:
            output.end()
        _print_summary(batch, len(command_file))
        status = _exit_status(batch, is_watched=options.is_watched)
        if args.report is not None and not _write_report(args, batch, command_file, output):
            status = status or RUN_AGAIN
    return status


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


@contextmanager
def _open_output(args: argparse.Namespace, command_file: CommandFile) -> Iterator[Output]:
    if args.output is None or (args.dry_run and not args.resume):
        output: Output = StandardOutput(len(command_file), keep_copy=args.report is not None)
    else:
        try:
            from ..output.journal import Journal  # noqa: PLC0415 - some systems lack its file locks
        except ImportError:
            raise UsageError("no journal on this system: leave --output out") from None
        is_watched = args.wait is not None or args.ensure is not None or args.canary or args.resume
        unsettled = _UNSETTLED_WATCHED if is_watched else _UNSETTLED
        max_unsettled = unsettled * (args.max_in_flight or _MAX_IN_FLIGHT)
        keep_input = args.file in {None, "-"}
        output = Journal(
            args.output,
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


def _print_dry_run(
    command_file: CommandFile,
    resume_state: ResumeState,
    rows: Sequence[int],
    address: str,
    max_rate: float | None,
) -> None:
    count = command_file.count_chargeboxes(rows)
    print(f"would stop {len(rows):,} charges at {count:,} chargeboxes through {address}")
    if max_rate is not None:
        duration = format_duration(len(rows) / max_rate)
        print(f"at {format_rate(max_rate)} a second, that takes at least {duration}")
    looked_at = sum(map(resume_state.must_be_looked_at, rows))
    if looked_at:
        print(f"{looked_at:,} of them only if the running list shows that they still run")
    fix = sum(map(resume_state.needs_fix, range(len(command_file)))) - sum(
        map(resume_state.needs_fix, rows)
    )
    done = len(command_file) - len(rows) - fix
    if done:
        print(f"{done:,} others were settled by earlier runs")
    if fix:
        print(f"{fix:,} others need a correction: --resend fix sends them again")


def _print_summary(batch: BatchRunner, total: int) -> None:
    """Prints the state of all rows of the file, also of those of earlier runs."""
    stats, resume_state = batch.stats, batch.resume_state
    print_rows_table(resume_state, sys.stderr)
    for slow in stats.slowest:
        line = batch.command_file.line_number(slow.row)
        print_error(f"slowest: {slow.elapsed:.2f} s, line {line}, {slow.connector}")
    print_counts(resume_state)
    reason = _early_end(batch)
    if reason is not None:
        unwritten = stats.total - batch.written
        lost = f", and {unwritten:,} of the outcomes could not be written" if unwritten else ""
        maybe_sent = resume_state.count_maybe_sent()
        unsent = resume_state.count_unsent()
        print_error(f"{reason}: {unsent:,} of {total:,} commands were not sent{lost}")
        if maybe_sent:
            print_error(f"a crashed run may have sent {maybe_sent:,} others")
    print_unwatched(resume_state)


def _early_end(batch: BatchRunner) -> str | None:
    """Returns why the batch ended before all rows were sent, or None."""
    return batch.failure or ("interrupted" if batch.interrupted_by is not None else None)


def _exit_status(batch: BatchRunner, *, is_watched: bool) -> int:
    if batch.interrupted_by is not None:
        return signal_status(batch.interrupted_by)
    if not batch.is_recorded:
        return RUN_AGAIN
    if batch.needs_person:
        return ONLY_A_PERSON
    return batch.resume_state.find_status(watch=is_watched)


def _write_report(
    args: argparse.Namespace, batch: BatchRunner, command_file: CommandFile, output: Output
) -> bool:
    """Writes the report, and returns whether that succeeded."""
    header = ReportHeader(
        name=command_file.name,
        digest=command_file.digest,
        address=find_addresses(args)[0],
        charges=len(command_file),
        left_out=batch.resume_state.left_out,
        failure=_early_end(batch),
    )
    try:
        with output.read() as file:
            rows = ReportRows(file, command_file, all_written=batch.is_recorded)
            write_report(args.report, header, rows)
    except OSError as error:
        print_error(
            f"cannot write {args.report} ({error.strerror}): free some space and use --resume again"
        )
        return False
    print_error(f"the report is in {args.report}")
    return True
