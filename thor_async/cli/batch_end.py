"""How a batch ended: what is printed, and the exit status."""

from __future__ import annotations

import argparse
import sys

from .batch_runner import BatchRunner
from .output.console import print_error
from .output.default_journal import format_continue_command
from .output.resume import ONLY_A_PERSON, RUN_AGAIN
from .output.summary import print_counts, print_failures, print_rows_table, print_unwatched
from .signals import exit_status as signal_status


def print_end(args: argparse.Namespace, batch: BatchRunner, journal: str | None) -> int:
    """Prints how the batch ended, and returns the exit status."""
    is_watched = args.wait is not None or args.ensure is not None
    status = _exit_status(batch, is_watched=is_watched)
    if not args.quiet:
        _print_summary(batch)
    if batch.knows_no_chargebox and not batch.is_wrong_environment:
        print_error(
            "Thor knows none of these chargeboxes: check the address and the account, or the file"
        )
    _print_early_end(batch)
    left = batch.resume_state.find_status(watch=is_watched)
    if not args.quiet:
        print_unwatched(batch.resume_state)
    elif left and find_early_end(batch) is None:
        print_counts(batch.resume_state)
    if journal is not None and not batch.is_wrong_environment:
        command = format_continue_command(args, journal)
        if batch.needs_person and left:
            print_error(f"when that is corrected, go on with: {command} --resend fix")
        elif left == RUN_AGAIN:
            print_error(f"go on with: {command}")
    return status


def _print_summary(batch: BatchRunner) -> None:
    """Prints the state of all rows of the file, also of those of earlier runs."""
    print_rows_table(batch.resume_state, sys.stderr)
    print_failures(batch.resume_state, batch.command_file)
    print_counts(batch.resume_state)


def _print_early_end(batch: BatchRunner) -> None:
    """Prints why the batch ended before all rows were sent, if it did."""
    reason, resume_state = find_early_end(batch), batch.resume_state
    if reason is None:
        return
    unwritten = batch.stats.total - batch.written
    lost = f", and {unwritten:,} of the outcomes could not be written" if unwritten else ""
    unsent = resume_state.count_unsent()
    print_error(f"{reason}: {unsent:,} of {len(resume_state):,} commands were not sent{lost}")
    maybe_sent = resume_state.count_maybe_sent()
    if maybe_sent:
        print_error(f"a crashed run may have sent {maybe_sent:,} others")


def find_early_end(batch: BatchRunner) -> str | None:
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
