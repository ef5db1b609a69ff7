"""Checks which options need, exclude or contradict each other."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .output.default_journal import find_last_journal
from .output.durations import format_duration

_SELECTIONS = ("site", "alias", "chargebox", "older_than", "min_energy", "type")


def find_conflict(args: argparse.Namespace) -> str | None:
    """Returns the problem with options that need or exclude others, or None."""
    number = getattr(args, "number", None)
    if getattr(args, "yes", False) and args.at_most is None and not number:
        return "--yes needs --at-most COUNT: the highest number of charges that you mean to stop"
    find = _FINDERS.get(args.command)
    return None if find is None else _first(find(args))


def _worker_conflicts(args: argparse.Namespace) -> dict[str, bool]:
    needs_init = not args.init and (args.replicas or args.stream_max_age)
    return {"--replicas and --stream-max-age need --init": bool(needs_init)}


def _running_conflicts(args: argparse.Namespace) -> dict[str, bool]:
    selects = any(getattr(args, name) is not None for name in _SELECTIONS)
    return {
        "--file lists every row of the file: leave the filters out": (
            args.file is not None and selects
        )
    }


def _stop_conflicts(args: argparse.Namespace) -> dict[str, bool]:
    return {
        "--wait and --ensure cannot be used together: --ensure watches too": (
            args.wait is not None and args.ensure is not None
        )
    }


def _batch_conflicts(args: argparse.Namespace) -> dict[str, bool]:
    return (
        _stop_conflicts(args)
        | _resume_conflicts(args)
        | _output_conflicts(args)
        | _pace_conflicts(args)
    )


def find_conflict_with_count(args: argparse.Namespace, charges: int) -> str | None:
    """Returns the problem with options that do not fit this number of charges, or None."""
    is_first_run = not args.resume
    rate, over, within = args.max_rate, args.over, args.within
    needed = charges / rate if rate else 0.0
    needs = f"{charges:,} charges need {format_duration(needed)} at this --rate"
    return _first(
        {
            f"--canary {args.canary:,} is more than the {charges:,} charges: give less": (
                is_first_run and args.canary > charges
            ),
            f"--over {over or 0:g} is too short: {needs}": (
                over is not None and charges > 1 and needed > over
            ),
            f"--within {within or 0:g} is too short: {needs}": within is not None
            and needed > within,
        }
    )


def _emulator_conflicts(args: argparse.Namespace) -> dict[str, bool]:
    return {
        "--retry-after needs --rate": args.retry_after is not None and args.rate is None,
        "--alias needs --fleet: the file with that column": (
            args.alias is not None and args.fleet is None
        ),
        "--refuse needs --fleet: without a file no charge runs": (
            args.refuse > 0 and args.fleet is None
        ),
        "--offline needs --fleet: without a file there is no chargebox": (
            args.offline > 0 and args.fleet is None
        ),
    }


def _pace_conflicts(args: argparse.Namespace) -> dict[str, bool]:
    over, within = args.over, args.within
    return {
        "--within and --wait cannot be used together, because --wait bounds each stop": (
            args.wait is not None and within is not None
        ),
        "--within and --ensure cannot be used together, because --ensure bounds each stop": (
            args.ensure is not None and within is not None
        ),
        "--over is longer than --within: the batch would end before its last stops": (
            over is not None and within is not None and over > within
        ),
        "--spread needs --over: the time over which the stops are spread": (
            args.spread is not None and over is None
        ),
    }


def _output_conflicts(args: argparse.Namespace) -> dict[str, bool]:
    return {
        "--output - is not a file: give --no-journal to write to standard output only": (
            args.output == "-"
        ),
        "--output and --no-journal contradict each other: leave one out": (
            args.no_journal and args.output is not None
        ),
        "--json needs --dry-run: the outcomes are lines of JSON already": (
            args.json and not args.dry_run
        ),
    }


def _resume_conflicts(args: argparse.Namespace) -> dict[str, bool]:
    return {
        f"--resume needs --output FILE: the journal of the earlier run{_hint_at_journal(args)}": (
            args.resume and args.output is None
        ),
        "--resend-unknown needs --resume": args.resend_unknown and not args.resume,
        "--repair needs --resume": args.repair and not args.resume,
        "--resend needs --resume": args.resend is not None and not args.resume,
        "give FILE: only --resume knows the file of an earlier run": (
            args.file is None and not args.resume
        ),
    }


def _hint_at_journal(args: argparse.Namespace) -> str:
    journal = find_last_journal(args.file)
    return "" if journal is None else f"; the last one here is {journal}"


def _first(conflicts: dict[str, bool]) -> str | None:
    return next((problem for problem, exists in conflicts.items() if exists), None)


_FINDERS: dict[str, Callable[[argparse.Namespace], dict[str, bool]]] = {
    "emulate": _emulator_conflicts,
    "running": _running_conflicts,
    "stop": _stop_conflicts,
    "stop-many": _batch_conflicts,
    "stop-running": _batch_conflicts,
    "worker": _worker_conflicts,
}
