"""`--dry-run`: what would be sent, how fast, and how long that takes."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from .input.command_file import CommandFile
from .output.allowed_rate import format_rate
from .output.durations import format_duration
from .output.printable import encode_line, printable
from .output.resume import ResumeState
from .sites import site_of_ref

_FIRST, _SITES = 5, 10
_MAX_IN_FLIGHT = 32
_ANSWER = 0.5
"""The time of an answer in seconds that is assumed where no option tells the pace."""
_WATCH = 60.0

Row = dict[str, Any]


class DryRun(msgspec.Struct, frozen=True):
    """What a run would do. `seconds` is without retries, and without the watching."""

    address: str
    charges: int
    chargeboxes: int
    sites: dict[str, int]
    types: dict[str, int]
    pace: str
    seconds: float
    watched_seconds: float
    looked_at: int
    settled: int
    need_fix: int
    first: list[Row]


def plan_run(
    args: argparse.Namespace,
    command_file: CommandFile,
    resume_state: ResumeState,
    rows: Sequence[int],
    address: str,
) -> DryRun:
    """Returns what a run with these rows of the file would do."""
    sites: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for row in rows:
        ref = command_file[row].ref
        sites[site_of_ref(ref) or ""] += 1
        types[str(ref.get("type") or "") if isinstance(ref, dict) else ""] += 1
    pace, seconds = _find_pace(args, len(rows))
    fix = sum(map(resume_state.needs_fix, range(len(command_file)))) - sum(
        map(resume_state.needs_fix, rows)
    )
    return DryRun(
        address=address,
        charges=len(rows),
        chargeboxes=command_file.count_chargeboxes(rows),
        sites=dict(sites.most_common()),
        types=dict(types.most_common()),
        pace=pace,
        seconds=round(seconds, 1),
        watched_seconds=args.ensure or args.wait or (_WATCH if args.canary else 0.0),
        looked_at=sum(map(resume_state.must_be_looked_at, rows)),
        settled=len(command_file) - len(rows) - fix,
        need_fix=fix,
        first=[_describe_row(command_file, row) for row in rows[:_FIRST]],
    )


def print_plan(plan: DryRun, *, as_json: bool) -> None:
    """Prints a plan on standard output, for people or as one JSON object."""
    if as_json:
        print(encode_line(plan).decode(), end="")
        return
    for line in _format_plan(plan):
        print(printable(line))


def _format_plan(plan: DryRun) -> Iterator[str]:
    yield (
        f"would stop {plan.charges:,} charges at {plan.chargeboxes:,} chargeboxes through "
        f"{plan.address}"
    )
    yield from _format_counts("site", plan.sites)
    yield from _format_counts("type", plan.types)
    if plan.charges:
        yield f"pace: {plan.pace}: {format_duration(plan.seconds)}"
    if plan.watched_seconds and plan.charges:
        yield f"then up to {format_duration(plan.watched_seconds)} until each is seen to stop"
    for row in plan.first:
        place = f"chargebox {row['chargebox']!r} connector {row['connector']}"
        yield f"line {row['line']}: {place} transaction {row['transaction'] or 'not known'}"
    if plan.charges > len(plan.first):
        yield f"and {plan.charges - len(plan.first):,} other rows"
    if plan.looked_at:
        yield f"{plan.looked_at:,} of them only if the running list shows that they still run"
    if plan.settled:
        yield f"{plan.settled:,} others were settled by earlier runs"
    if plan.need_fix:
        yield f"{plan.need_fix:,} others need a correction: --resend fix sends them again"


def _format_counts(what: str, counts: dict[str, int]) -> Iterator[str]:
    """Yields one line with the most frequent values, if there is any."""
    if any(counts):
        shown = [f"{name or 'unknown'} {count:,}" for name, count in [*counts.items()][:_SITES]]
        more = f", and {len(counts) - _SITES:,} others" if len(counts) > _SITES else ""
        yield f"by {what}: {', '.join(shown)}{more}"


def _find_pace(args: argparse.Namespace, count: int) -> tuple[str, float]:
    """Returns the pace in words, and the seconds that it takes."""
    seconds = []
    words = []
    if args.over is not None:
        how = "each at a random moment of" if args.spread == "random" else "evenly over"
        words.append(f"{how} {format_duration(args.over)}")
        seconds.append(args.over)
    if args.max_rate is not None:
        words.append(f"at most {format_rate(args.max_rate)} a second, as by --rate")
        seconds.append(count / args.max_rate)
    if not words:
        in_flight = args.max_in_flight or _MAX_IN_FLIGHT
        words.append(
            f"up to {in_flight:,} at a time; with answers after {_ANSWER} s that takes about"
        )
        seconds.append(-(-count // in_flight) * _ANSWER)
    return ", ".join(words), max(seconds)


def _describe_row(command_file: CommandFile, row: int) -> Row:
    command = command_file[row]
    return {
        "line": command_file.line_number(row),
        "chargebox": command.chargebox,
        "connector": command.connector,
        "transaction": command.transaction,
        "ref": command.ref,
    }
