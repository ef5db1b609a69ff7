"""Checks which options need, exclude or contradict each other."""

from __future__ import annotations

import argparse
import os

from .output.default_journal import find_last_journal
from .output.durations import format_duration

_UNCOUNTED = "--yes needs --at-most COUNT: the highest number of charges that you mean to stop"
_SELECTIONS = ("site", "alias", "chargebox", "older_than", "min_energy", "type")


def find_conflict(args: argparse.Namespace) -> str | None:
    """Returns the problem with options that need or exclude others, or None."""
    find = _FIND.get(args.command)
    return None if find is None else find(args)


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


def _find_conflict_of_running(args: argparse.Namespace) -> str | None:
    selects = any(getattr(args, name) is not None for name in _SELECTIONS)
    told = "--file lists every row of the file: leave the filters out"
    return told if args.file is not None and selects else None


def _find_conflict_of_worker(args: argparse.Namespace) -> str | None:
    is_given = args.replicas is not None or args.stream_max_age is not None
    return "--replicas and --stream-max-age need --init" if is_given and not args.init else None


def _find_conflict_of_sending(args: argparse.Namespace) -> str | None:
    """Of `publish` and `dead`; numbers of dead letters are a count of their own."""
    is_counted = args.at_most is not None or bool(getattr(args, "number", None))
    return _UNCOUNTED if args.yes and not is_counted else None


def _find_conflict_of_dead(args: argparse.Namespace) -> str | None:
    return _find_conflict_of_sending(args) if args.action == "send" else None


def _find_conflict_of_stop(args: argparse.Namespace) -> str | None:
    if args.wait is not None and args.ensure is not None:
        return "--wait and --ensure cannot be used together: --ensure watches too"
    return None


def _find_conflict_of_batch(args: argparse.Namespace) -> str | None:
    return _find_conflict_of_stop(args) or _first(
        _resume_conflicts(args) | _output_conflicts(args) | _pace_conflicts(args)
    )


def _find_emulator_conflict(args: argparse.Namespace) -> str | None:
    return _first(
        {
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
            "--ledger would overwrite the file of --fleet: give it another name": (
                _is_same_file(args.ledger, args.fleet)
            ),
        }
    )


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
        _UNCOUNTED: args.yes and args.at_most is None,
        "--output - is not a file: give --no-journal to write to standard output only": (
            args.output == "-"
        ),
        "--output and --no-journal contradict each other: leave one out": (
            args.no_journal and args.output is not None
        ),
        "--json needs --dry-run: the outcomes are lines of JSON already": (
            args.json and not args.dry_run
        ),
        "--report would overwrite the journal of --output: give it another name": (
            _is_same_file(args.report, args.output)
        ),
        "--report would overwrite the input: give it another name": (
            _is_same_file(args.report, args.file)
        ),
    }


def _is_same_file(one: str | None, other: str | None) -> bool:
    return None not in (one, other) and os.path.realpath(str(one)) == os.path.realpath(str(other))


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


_FIND = {
    "dead": _find_conflict_of_dead,
    "emulate": _find_emulator_conflict,
    "publish": _find_conflict_of_sending,
    "running": _find_conflict_of_running,
    "stop": _find_conflict_of_stop,
    "stop-many": _find_conflict_of_batch,
    "stop-running": _find_conflict_of_batch,
    "worker": _find_conflict_of_worker,
}
