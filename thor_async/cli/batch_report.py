"""Writes the report of a batch from its output."""

from __future__ import annotations

import msgspec

from .batch_runner import BatchRunner
from .output.console import print_error
from .output.sink import Output
from .report.journal_rows import ReportRows
from .report.page import write_report
from .report.views import ReportHeader


def write_batch_report(
    path: str, batch: BatchRunner, output: Output, address: str, failure: str | None
) -> bool:
    """Writes the report, says where it is or why not, and returns whether that succeeded.

    `address` is that of the stops, and `failure` says why the batch ended early.
    """
    command_file = batch.command_file
    header = ReportHeader(
        name=command_file.name,
        digest=command_file.digest,
        address=address,
        charges=len(command_file),
        left_out=batch.resume_state.left_out,
        failure=failure,
        left_out_rows=list(command_file.find_bad_rows()),
        duplicate_lines=command_file.duplicate_lines,
    )
    try:
        with output.read() as file:
            rows = ReportRows(file, command_file, all_written=batch.is_recorded)
            write_report(path, header, rows, rows.history)
    except OSError as error:
        print_error(
            f"cannot write {path} ({error.strerror}): free some space and use --resume again"
        )
        return False
    except msgspec.ValidationError as error:
        print_error(f"cannot write {path}: a line of the journal has another form ({error})")
        return False
    print_error(f"the report is in {path}")
    return True
