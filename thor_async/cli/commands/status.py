"""`thor-async status`: says what is left of the rows of a journal."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thor_async import StopCharge

from ..errors import UsageError
from ..input.command_file import CommandFile, parse_command_file, read_command_file
from ..output.console import print_error
from ..output.csv_rows import MASKED, find_columns, format_csv, make_row
from ..output.journal_reader import read_resume_state
from ..output.kept_input import KeptInput
from ..output.printable import encode_line
from ..output.resume import ResumeState, is_unwatched
from ..output.summary import print_counts, print_rows_table, print_unwatched


def run(args: argparse.Namespace) -> int:
    """Prints the number of rows of each kind, or the rows that are left; sends nothing."""
    if not args.remaining:
        resume_state = _read_journal(args.journal)
        status = resume_state.find_status(watch=resume_state.is_watched)
        if args.json:
            print(encode_line(_summarize(resume_state, status)).decode(), end="")
        else:
            _print_state(resume_state, to_stdout=True)
        return status
    command_file = _read_input(args)
    resume_state = _read_journal(args.journal, command_file)
    _print_state(resume_state, to_stdout=False)
    _print_remaining(resume_state, command_file)
    return resume_state.find_status(watch=resume_state.is_watched)


def _read_journal(path: str, command_file: CommandFile | None = None) -> ResumeState:
    digest = None if command_file is None else command_file.digest
    try:
        with Path(path).open("rb") as file:
            resume_state, size = read_resume_state(
                file, path, digest, 0 if command_file is None else len(command_file)
            )
    except OSError as error:
        raise UsageError(
            f"cannot read {path} ({error.strerror}): give the --output of stop-many"
        ) from None
    if not size:
        raise UsageError(f"{path} is empty: no run has begun")
    return resume_state


def _read_input(args: argparse.Namespace) -> CommandFile:
    """Returns the rows of FILE, or of the copy beside the journal."""
    if args.file is not None:
        return read_command_file(args.file, skip_bad=True)
    kept = KeptInput(args.journal)
    content = kept.read()
    if content is None:
        raise UsageError(f"no input at {kept.path}: give the input of the journal as FILE")
    return parse_command_file(str(kept.path), content, skip_bad=True)


def _summarize(resume_state: ResumeState, status: int) -> dict[str, Any]:
    """Returns the numbers of rows as one JSON object."""
    kinds, without = resume_state.count_kinds(), resume_state.count_without_outcome()
    steps: Counter[str] = Counter()
    for kind, count in (kinds + without).items():
        steps[kind.next_step] += count
    return {
        "status": status,
        "rows": len(resume_state),
        "runs": resume_state.runs,
        "rows_left_out": resume_state.left_out,
        "without_outcome": without.total(),
        "not_looked_at": sum(count for kind, count in kinds.items() if is_unwatched(kind)),
        "next_steps": steps,
        "outcomes": [kind._asdict() | {"count": count} for kind, count in kinds.most_common()],
    }


def _print_state(resume_state: ResumeState, *, to_stdout: bool) -> None:
    print_rows_table(resume_state, sys.stdout if to_stdout else sys.stderr)
    write: Callable[[str], None] = print if to_stdout else print_error
    if resume_state.left_out:
        write(f"rows left out: {resume_state.left_out:,}")
    print_counts(resume_state, write)
    print_unwatched(resume_state, write)


def _print_remaining(resume_state: ResumeState, command_file: CommandFile) -> None:
    """Prints the rows that are not done. A repeat of these rows cannot stop a later charge."""
    rows = resume_state.pending(watch=resume_state.is_watched, resend_fix=True)

    def remaining(row: int) -> StopCharge:
        return resume_state.resume(row, command_file[row])

    columns = find_columns(map(remaining, rows))
    cells = (make_row(remaining(row)) for row in rows)
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        # Other people can read a screen.
        cells = (row | {"id_tag": MASKED} for row in cells)
        print_error("id_tags are masked on a terminal: send the output to a file")
    sys.stdout.writelines(format_csv(columns, cells, for_terminal=is_terminal))
