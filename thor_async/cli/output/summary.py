"""Prints the state of all rows of a journal, after all of its runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from .console import ADVICE, print_error, print_table
from .resume import ResumeState, is_unwatched
from .stats import format_counts


def print_rows_table(resume_state: ResumeState, file: TextIO) -> None:
    """Prints the number of rows of each kind, if there are any; ignores a closed file."""
    kinds = resume_state.count_kinds() + resume_state.count_without_outcome()
    with suppress(OSError):
        if kinds:
            print_table(kinds, file)


Print = Callable[[str], None]


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
