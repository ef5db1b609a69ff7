"""Prints the state of all rows of a journal, after all of its runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from ..input.command_file import CommandFile
from .console import ADVICE, print_error, print_table
from .resume import ResumeState, is_unwatched
from .stats import Kind, format_counts

_FAILURES = 5

Print = Callable[[str], None]


def print_rows_table(resume_state: ResumeState, file: TextIO) -> None:
    """Prints the number of rows of each kind, if there are any; ignores a closed file."""
    kinds = resume_state.count_kinds() + resume_state.count_without_outcome()
    with suppress(OSError):
        if kinds:
            print_table(kinds, file)


def print_failures(
    resume_state: ResumeState, command_file: CommandFile, write: Print = print_error
) -> None:
    """Prints the first rows of the file that are not done: chargebox, code and message."""
    left = sum(count for kind, count in resume_state.count_kinds().items() if not is_done(kind))
    for row, kind, message in resume_state.find_failures(_FAILURES):
        command = command_file[row]
        reason = " ".join(filter(None, [kind.code or kind.verdict, kind.state]))
        write(
            f"line {command_file.line_number(row)}: chargebox {command.chargebox!r} connector "
            f"{command.connector}: {reason}{message and f': {message}'}"
        )
    if left > _FAILURES:
        write(f"and {left - _FAILURES:,} others that are not done")


def is_done(kind: Kind) -> bool:
    return kind.next_step == "done"


def print_counts(resume_state: ResumeState, write: Print = print_error) -> None:
    """Prints how many rows need which next step, with advice for each."""
    kinds = resume_state.count_kinds()
    without = resume_state.count_without_outcome()
    steps = format_counts(kinds, "next_step") or ("no outcome" if without else "nothing to do")
    write(f"{kinds.total():,} of {len(resume_state):,} commands: {steps}")
    if without:
        write(f"no outcome, {without.total():,} commands: {format_counts(without, 'next_step')}")
    present = {kind.next_step for kind in kinds + without}
    for step, advice in ADVICE.items():
        if step != "done" and step in present:
            hint = "; --resume leaves it out without --resend fix" if step == "fix" else ""
            write(f"{step}: {advice}{hint}")


def print_unwatched(resume_state: ResumeState, write: Print = print_error) -> None:
    """Prints the number of relayed stops whose charges may still run, because no run looked."""
    kinds = resume_state.count_kinds()
    count = sum(number for kind, number in kinds.items() if is_unwatched(kind))
    if count:
        write(
            f"{count:,} relayed stops were not looked at: it is not known whether their charges "
            "stopped; --wait or --ensure looks"
        )
