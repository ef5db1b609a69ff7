"""`thor-async demo` and `thor-async emulate`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence

import msgspec

from thor_async import StopCharge
from thor_async.emulator import Faults, ThorEmulator

from ..errors import UsageError
from ..input.command_file import read_command_file
from ..output.console import print_error, table
from .demo_stories import STORIES, Played

_CHARGES = 1000
_LATENCY = (0.001, 0.02)
# A batch pauses after 64 commands in a row without an answer: some must be left to go on with.
_FEWEST_FOR_OUTAGE = 300


def demo(args: argparse.Namespace) -> int:
    """Plays a batch or a story, and prints what came of it and whether it is true."""
    commands = _commands(args)
    emulator = _make_emulator(commands, faults=args.faults, seed=args.seed)
    played = Played()
    started = time.monotonic()
    asyncio.run(_play(args.story, emulator, commands, played))
    return _report(emulator, played, time.monotonic() - started)


async def _play(
    story: str | None, emulator: ThorEmulator, commands: Sequence[StopCharge], played: Played
) -> None:
    async with emulator:
        await STORIES[story](emulator, commands, played)


def _report(emulator: ThorEmulator, played: Played, seconds: float) -> int:
    """Prints the end of a demo, once the emulator has ended, and gives its exit status."""
    outcomes = played.outcomes
    table(played.tally, sys.stdout)
    retries = sum(max(0, outcome.attempts - 1) for outcome in outcomes)
    requests = len(emulator.ledger.requests)
    print(f"{requests:,} requests seen, {retries:,} retries, {seconds:.1f} s")
    if not played.is_complete:
        print("An outcome is missing: there is not exactly one for each command that was pulled.")
    lies = emulator.ledger.overclaims(outcomes)
    print(
        f"Checked against the emulator: {len(lies):,} of {len(outcomes):,} verdicts "
        "claimed more than happened."
    )
    return 1 if lies or not played.is_complete else 0


def emulate(args: argparse.Namespace) -> int:
    """Runs the emulator until Ctrl-C."""
    commands = [] if args.fleet is None else list(read_command_file(args.fleet))
    emulator = _make_emulator(commands, port=args.port)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(emulator))
    return 0


async def _serve(emulator: ThorEmulator) -> None:
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(emulator)
        except OSError as error:
            raise UsageError(f"cannot listen ({error.strerror}): give another --port") from None
        print(emulator.base_url, emulator.api_key, sep="\n", flush=True)
        print_error("clients take line 1 as THOR_BASE_URL, line 2 as THOR_API_KEY; Ctrl-C ends it")
        await asyncio.Event().wait()


def _commands(args: argparse.Namespace) -> list[StopCharge]:
    """What is to be stopped: the story's own charges, those of a file, or made up ones."""
    if args.story == "next-driver":
        if args.fleet is not None or args.charges is not None:
            raise UsageError("next-driver has charges of its own: leave --charges and --fleet out")
        return [
            StopCharge("lobby", 1, "the-fleet-card"),
            StopCharge("garage", 1, "the-fleet-card", 52),
        ]
    commands = (
        _made_up(args.charges or _CHARGES)
        if args.fleet is None
        else list(read_command_file(args.fleet))
    )
    if args.story == "outage" and len(commands) < _FEWEST_FOR_OUTAGE:
        raise UsageError(f"too few charges for an outage: give at least {_FEWEST_FOR_OUTAGE}")
    return commands


def _made_up(count: int) -> list[StopCharge]:
    return [
        StopCharge(f"demo-{number // 2:04}", number % 2 + 1, f"tag-{number}", 1000 + number)
        for number in range(count)
    ]


def _make_emulator(
    commands: Sequence[StopCharge], *, port: int = 0, faults: float = 0.0, seed: int = 0
) -> ThorEmulator:
    try:
        spread = msgspec.structs.replace(Faults.spread(faults), latency=_LATENCY)
        emulator = ThorEmulator(port=port, faults=spread, seed=seed)
        emulator.fill(commands)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return emulator
