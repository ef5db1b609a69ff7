"""`thor-async demo`: stops charges of an emulator and checks the verdicts."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from thor_async import StopCharge
from thor_async.emulator import ThorEmulator

from ..demo_report import write_demo_report
from ..demo_stories import STORIES, DemoResult
from ..emulator_factory import make_emulator
from ..errors import UsageError
from ..input.command_file import read_command_file
from ..output.console import print_table
from ..output.timestamps import utc_timestamp
from ..report.page import check_report_path

_CHARGES, _CHARGES_OF_RATE_LIMIT = 1000, 300
# A batch pauses after 64 commands in a row without an answer. The others must be enough to show
# how it continues.
# Less than twice the burst would hardly meet the limit.
_FEWEST = {"outage": 300, "rate-limit": 100}


def run(args: argparse.Namespace) -> int:
    """Runs a batch or a story, prints its outcomes, and checks them against the emulator."""
    if args.report is not None:
        check_report_path(args.report)
    commands = _choose_commands(args)
    emulator = make_emulator(commands, faults=args.faults, seed=args.seed)
    result = DemoResult()
    started, started_at = time.monotonic(), utc_timestamp()
    address = asyncio.run(_run_story(args.story, emulator, commands, result))
    status = _print_result(emulator, result, time.monotonic() - started)
    if args.report is not None:
        try:
            write_demo_report(args, commands, result, address, started_at)
        except OSError as error:
            raise UsageError(f"cannot write {args.report} ({error.strerror})") from None
        print(f"The report is in {args.report}")
    return status


async def _run_story(
    story: str | None, emulator: ThorEmulator, commands: Sequence[StopCharge], result: DemoResult
) -> str:
    """Returns the address of the emulator."""
    async with emulator:
        await STORIES[story](emulator, commands, result)
        return emulator.base_url


def _print_result(emulator: ThorEmulator, result: DemoResult, seconds: float) -> int:
    """Prints the statistics, and returns the exit status."""
    outcomes = result.outcomes
    print_table(result.stats.kinds, sys.stdout)
    retries = sum(max(0, outcome.attempts - 1) for outcome in outcomes)
    requests = len(emulator.ledger.requests)
    print(f"{requests:,} requests seen, {retries:,} retries, {seconds:.1f} s")
    if not result.is_complete:
        print("An outcome is missing: not every command that was pulled has exactly one outcome.")
    overclaims = emulator.ledger.overclaims(outcomes)
    print(
        f"Checked against the emulator: {len(overclaims):,} of {len(outcomes):,} verdicts "
        "claimed more than happened."
    )
    return 1 if overclaims or not result.is_complete else 0


def _choose_commands(args: argparse.Namespace) -> list[StopCharge]:
    """Returns the commands of the story, of a file, or generated ones."""
    if args.story == "next-driver":
        if args.fleet is not None or args.charges is not None:
            raise UsageError("next-driver has charges of its own: leave --charges and --fleet out")
        return [
            StopCharge("lobby", 1, "the-fleet-card"),
            StopCharge("garage", 1, "the-fleet-card", 52),
        ]
    default = _CHARGES_OF_RATE_LIMIT if args.story == "rate-limit" else _CHARGES
    commands = (
        _generate_commands(args.charges or default)
        if args.fleet is None
        else list(read_command_file(args.fleet))
    )
    fewest = _FEWEST.get(args.story, 0)
    if len(commands) < fewest:
        raise UsageError(f"too few charges for the story {args.story}: give at least {fewest}")
    return commands


def _generate_commands(count: int) -> list[StopCharge]:
    return [
        StopCharge(f"demo-{number // 2:04}", number % 2 + 1, f"tag-{number}", 1000 + number)
        for number in range(count)
    ]
