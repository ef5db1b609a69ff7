"""What the demo plays: a plain batch, or a story of one hard moment."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from thor_async import BatchGaveUp, RetryPolicy, StopCharge, StopOutcome, ThorClient
from thor_async.emulator import ScriptedAnswer, ThorEmulator

from ..output.console import progress, sentence
from ..output.stats import BatchStats
from ..stop_results import Result

# Retries really wait, but a demo of a thousand charges should end in seconds.
RETRY = RetryPolicy(initial_delay=0.05, max_delay=0.4)

AWAY = 2.5
"""Seconds for which Thor is away; the client's second probe, 3 s into its pause, finds it back."""


@dataclass
class Played:
    """What came of the commands so far, over one or more batches."""

    outcomes: list[StopOutcome] = field(default_factory=list)
    tally: BatchStats = field(default_factory=BatchStats)
    commands: int = 0
    never_pulled: int = 0
    is_complete: bool = True
    gave_up: BatchGaveUp | None = None

    def count(self, verdict: str) -> str:
        return f"{sum(outcome.verdict == verdict for outcome in self.outcomes):,}"


Story = Callable[[ThorEmulator, Sequence[StopCharge], Played], Awaitable[None]]


def make_client(
    emulator: ThorEmulator, *, key: str | None = None, retry: RetryPolicy = RETRY
) -> ThorClient:
    """A client of the emulator and of nothing else, whatever the environment says."""
    return ThorClient(key or emulator.api_key, base_url=emulator.base_url, retry=retry)


async def stop_all(
    client: ThorClient,
    commands: Sequence[StopCharge],
    played: Played,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Stops them through a stream, and adds what came of them to `played`."""
    source = iter(commands)
    outcomes: list[StopOutcome] = []
    try:
        async with client as thor, thor.stop_stream(source) as stream:
            async for outcome in stream:
                outcomes.append(outcome)
                played.tally.add(Result(outcome), outcome.index)
                tick()
    except BatchGaveUp as gave_up:
        played.gave_up = gave_up
    never_pulled = sum(1 for _ in source)
    pulled = len(commands) - never_pulled
    played.outcomes += outcomes
    played.commands += len(commands)
    played.never_pulled += never_pulled
    played.is_complete &= sorted(outcome.index for outcome in outcomes) == [*range(pulled)]


async def plain(emulator: ThorEmulator, commands: Sequence[StopCharge], played: Played) -> None:
    """No story."""
    with progress(len(commands), played.tally, sys.stdout) as tick:
        await stop_all(make_client(emulator), commands, played, tick)


async def outage(emulator: ThorEmulator, commands: Sequence[StopCharge], played: Played) -> None:
    """Thor goes away when a third of the batch is done, and comes back."""
    _tell(
        f"Stopping {len(commands):,} charges. When a third is done, Thor will refuse every",
        f"connection for {AWAY:g} seconds. The client is told nothing of this.",
    )

    done = itertools.count(1)
    third_is_done = asyncio.Event()

    async def go_away() -> None:
        await third_is_done.wait()
        await emulator.refuse()
        await asyncio.sleep(AWAY)
        await emulator.accept()

    with progress(len(commands), played.tally, sys.stdout) as tick:

        def watch() -> None:
            tick()
            if next(done) == len(commands) // 3:
                third_is_done.set()

        await asyncio.gather(stop_all(make_client(emulator), commands, played, watch), go_away())
    _tell(
        f"{played.count('indeterminate')} stops were cut off on their way: they may have worked, "
        "so nobody repeats them blindly.",
        f"{played.count('not_sent')} found no Thor at all: certainly not sent, safe to send again.",
        "Then the batch paused, let single commands through as probes, and went on when one was",
        f"answered: {played.count('relayed')} relayed. The longest time without any request at "
        f"Thor was {_longest_silence(emulator):.1f} s.",
    )


async def wrong_key(emulator: ThorEmulator, commands: Sequence[StopCharge], played: Played) -> None:
    """Thor does not know the key."""
    _tell(
        f"Stopping {len(commands):,} charges with a key that Thor does not know, as after the key",
        "was renewed in the dashboard.",
    )
    await stop_all(make_client(emulator, key="the-key-before"), commands, played)
    cause = played.gave_up and played.gave_up.cause
    _tell(
        f"Thor saw {len(emulator.ledger.requests):,} requests: the first {type(cause).__name__} "
        "stopped the batch, because every other command would fail alike.",
        f"{len(played.outcomes):,} outcomes + {played.never_pulled:,} never pulled = "
        f"{len(played.outcomes) + played.never_pulled:,} of {played.commands:,} commands. "
        "What was never pulled is still the caller's.",
    )


async def next_driver(
    emulator: ThorEmulator, commands: Sequence[StopCharge], played: Played
) -> None:
    """A stop works but is answered 500, and the next driver plugs in before the retry."""
    _tell(
        "A driver's charge is to be stopped. Thor stops it, but answers 500. While the client",
        "waits before its retry, the next driver plugs in with the same id_tag, a fleet's shared",
        "card. This is played twice: first without the transaction in the command, then with it.",
    )
    for command in commands:
        await _plug_in_between(emulator, command, played)
        outcome = played.outcomes[-1]
        told = "Without" if command.transaction is None else "With"
        lives = (command.chargebox, command.connector) in emulator.charges
        _tell(
            f"{told} transaction, {outcome.attempts} attempts. {sentence(Result(outcome))}.",
            f"The next driver's charge {'still runs' if lives else 'was stopped by the retry'}.",
        )
    _tell(
        "So give the transaction wherever it is known: it tells one driver's charge from the",
        "next one's, and no retry can stop the wrong one.",
    )


async def _plug_in_between(emulator: ThorEmulator, command: StopCharge, played: Played) -> None:
    broken = b'{"message": "InternalServerError"}'
    emulator.script(ScriptedAnswer(500, broken, effect=True), chargebox=command.chargebox)

    async def rest(seconds: float) -> None:
        emulator.start_charge(command.chargebox, command.connector, command.id_tag)
        await asyncio.sleep(seconds)

    retry = msgspec.structs.replace(RETRY, sleep=rest)
    await stop_all(make_client(emulator, retry=retry), [command], played)


def _longest_silence(emulator: ThorEmulator) -> float:
    times = itertools.pairwise(request.at for request in emulator.ledger.requests)
    return max((after - before for before, after in times), default=0.0)


def _tell(*lines: str) -> None:
    print(*lines, sep="\n", end="\n\n", flush=True)


STORIES: dict[str | None, Story] = {
    None: plain,
    "outage": outage,
    "wrong-key": wrong_key,
    "next-driver": next_driver,
}
