"""Writes the report of a demo, as `stop-many --report` would of the same batch."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from thor_async import StopCharge

from .demo_stories import DemoResult
from .input.command_file import CommandFile
from .output.printable import encode_line
from .output.run_info import describe_run
from .output.timestamps import utc_timestamp
from .report.journal_rows import ReportRows
from .report.page import write_report
from .report.views import ReportHeader
from .stop_results import StopResult

Line = dict[str, Any]


def write_demo_report(
    args: argparse.Namespace,
    commands: Sequence[StopCharge],
    result: DemoResult,
    address: str,
    started: str,
) -> None:
    """Writes the report to `--report`, or raises OSError. The demo began at `started`, in UTC."""
    content = b"".join(msgspec.json.encode(command) + b"\n" for command in commands)
    command_file = CommandFile("the demo", content)
    failure = None if result.gave_up is None else str(result.gave_up)
    lines = _make_lines(args, result, address, started, failure)
    header = ReportHeader(
        name=command_file.name,
        digest=command_file.digest,
        address=address,
        charges=len(command_file),
        left_out=0,
        failure=failure,
    )
    rows = ReportRows(io.BytesIO(b"".join(map(encode_line, lines))), command_file)
    write_report(args.report, header, rows, rows.history)


def _make_lines(
    args: argparse.Namespace, result: DemoResult, address: str, started: str, failure: str | None
) -> Iterator[Line]:
    """Yields the lines of a journal of this demo."""
    run_info = msgspec.structs.asdict(describe_run(args, address))
    start = {"address": address, "started": started, "resend": [], "watch": False}
    yield start | run_info
    for row, outcome in zip(result.rows, result.outcomes, strict=True):
        yield {"line": row + 1, **StopResult(outcome).record(), "index": row}
    yield {"ended": utc_timestamp(), "failure": failure}
