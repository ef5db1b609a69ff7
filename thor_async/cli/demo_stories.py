"""The stories of `thor-async demo`: a plain batch, or one difficult case."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from thor_async import BatchGaveUp, RetryPolicy, StopCharge, StopOutcome, ThorClient
from thor_async._telemetry.emitter import OnEvent
from thor_async.emulator import RateLimits, ScriptedAnswer, ThorEmulator

from .output.allowed_rate import AllowedRate
from .output.batch_status import BatchStatus
from .output.console import describe_result
from .output.progress import show_progress
from .output.stats import BatchStats
from .stop_results import StopResult

# Real waits, but short ones: a demo of a thousand charges should take seconds.
RETRY = RetryPolicy(initial_delay=0.05, max_delay=0.4)

AWAY = 2.5
"""Seconds of the outage; the second probe, 3 s after the pause begins, finds Thor again."""

ALLOWED = 50
"""Requests a second that the account allows in the story of the rate limit."""

_TOO_MANY_REQUESTS = 429


@dataclass
class DemoResult:
    """The outcomes of a demo, over one or more batches; `rows` are the places of their commands."""

    outcomes: list[StopOutcome] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    stats: BatchStats = field(default_factory=BatchStats)
    commands: int = 0
    never_pulled: int = 0
    is_complete: bool = True
    gave_up: BatchGaveUp | None = None

    def count(self, verdict: str) -> str:
        return f"{sum(outcome.verdict == verdict for outcome in self.outcomes):,}"


Story = Callable[[ThorEmulator, Sequence[StopCharge], DemoResult], Awaitable[None]]


def make_client(
    emulator: ThorEmulator,
    *,
    key: str | None = None,
    retry: RetryPolicy = RETRY,
    on_event: OnEvent = None,
) -> ThorClient:
    """Makes a client of the emulator; the environment is ignored."""
    return ThorClient(
        key or emulator.api_key, base_url=emulator.base_url, retry=retry, on_event=on_event
    )


async def stop_all(
    client: ThorClient,
    commands: Sequence[StopCharge],
    result: DemoResult,
    on_outcome: Callable[[], None] = lambda: None,
) -> None:
    """Stops the charges through a stream, and adds the outcomes to `result`."""
    source = iter(commands)
    outcomes: list[StopOutcome] = []
    try:
        async with client as thor, thor.stop_stream(source) as stream:
            async for outcome in stream:
                outcomes.append(outcome)
                result.stats.add(StopResult(outcome))
                on_outcome()
    except BatchGaveUp as gave_up:
        result.gave_up = gave_up
    never_pulled = sum(1 for _ in source)
    pulled = len(commands) - never_pulled
    result.outcomes += outcomes
    result.rows += [result.commands + outcome.index for outcome in outcomes]
    result.commands += len(commands)
    result.never_pulled += never_pulled
    result.is_complete &= sorted(outcome.index for outcome in outcomes) == [*range(pulled)]


async def plain(emulator: ThorEmulator, commands: Sequence[StopCharge], result: DemoResult) -> None:
    """Runs a batch without a story."""
    with _show_progress(commands, result) as advance:
        await stop_all(make_client(emulator), commands, result, advance)


async def outage(
    emulator: ThorEmulator, commands: Sequence[StopCharge], result: DemoResult
) -> None:
    """Thor refuses connections when a third of the batch is done, and accepts them again later."""
    _print_paragraph(
        f"Stopping {len(commands):,} charges. When a third is done, Thor will refuse every",
        f"connection for {AWAY:g} seconds. The client does not know this in advance.",
    )

    done = itertools.count(1)
    third_is_done = asyncio.Event()

    async def refuse_for_a_while() -> None:
        await third_is_done.wait()
        await emulator.refuse()
        await asyncio.sleep(AWAY)
        await emulator.accept()

    with _show_progress(commands, result) as advance:

        def on_outcome() -> None:
            advance()
            if next(done) == len(commands) // 3:
                third_is_done.set()

        await asyncio.gather(
            stop_all(make_client(emulator), commands, result, on_outcome), refuse_for_a_while()
        )
    _print_paragraph(
        f"{result.count('indeterminate')} stops were cut off in flight: they may have worked, "
        "so the client does not repeat them.",
        f"{result.count('not_sent')} could not connect to Thor: certainly not sent, safe to send "
        "again.",
        "Then the batch paused, sent single commands as probes, and continued when a probe was",
        f"answered: {result.count('relayed')} relayed. The longest time without any request at "
        f"Thor was {_longest_gap(emulator):.1f} s.",
    )


async def wrong_key(
    emulator: ThorEmulator, commands: Sequence[StopCharge], result: DemoResult
) -> None:
    """Thor does not know the API key."""
    _print_paragraph(
        f"Stopping {len(commands):,} charges with a key that Thor does not know, as after the key",
        "was renewed in the dashboard.",
    )
    await stop_all(make_client(emulator, key="the-key-before"), commands, result)
    cause = result.gave_up and result.gave_up.cause
    _print_paragraph(
        f"Thor saw {len(emulator.ledger.requests):,} requests: the first {type(cause).__name__} "
        "stopped the batch, because all other commands would fail in the same way.",
        f"{len(result.outcomes):,} outcomes + {result.never_pulled:,} never pulled = "
        f"{len(result.outcomes) + result.never_pulled:,} of {result.commands:,} commands. "
        "The caller still has the commands that were never pulled.",
    )


async def rate_limit(
    emulator: ThorEmulator, commands: Sequence[StopCharge], result: DemoResult
) -> None:
    """The account has a limit, which the client learns from answers 429."""
    emulator.set_limits(RateLimits(ALLOWED, burst=ALLOWED))
    _print_paragraph(
        f"Stopping {len(commands):,} charges. After a first {ALLOWED}, the account allows "
        f"{ALLOWED} requests a second, and",
        "Thor answers 429 to all others. The client does not know this in advance.",
    )
    allowed, loop = AllowedRate(), asyncio.get_running_loop()
    retry = msgspec.structs.replace(RETRY, retry_throttled=True)
    client, started = make_client(emulator, retry=retry, on_event=allowed), loop.time()
    with _show_progress(commands, result, allowed) as advance:
        await stop_all(client, commands, result, advance)
    seconds, ideal = loop.time() - started, (len(commands) - ALLOWED) / ALLOWED
    requests = emulator.ledger.requests
    throttled = sum(request.status == _TOO_MANY_REQUESTS for request in requests)
    _print_paragraph(
        f"{result.count('relayed')} of {len(commands):,} relayed in {seconds:.1f} s; the limit "
        f"allows no less than {ideal:.1f} s.",
        f"Thor answered 429 to {throttled:,} of {len(requests):,} requests. They taught the client "
        "the pace that Thor allows,",
        "and at that pace their stops were sent again.",
    )


async def next_driver(
    emulator: ThorEmulator, commands: Sequence[StopCharge], result: DemoResult
) -> None:
    """A stop works but is answered 500, and the next driver plugs in before the retry."""
    _print_paragraph(
        "The client stops a driver's charge. Thor stops it, but answers 500. While the client",
        "waits before its retry, the next driver plugs in with the same id_tag, the shared card of",
        "a fleet. This happens twice: first without the transaction in the command, then with it.",
    )
    for command in commands:
        await _plug_in_before_the_retry(emulator, command, result)
        outcome = result.outcomes[-1]
        case = "Without" if command.transaction is None else "With"
        still_runs = (command.chargebox, command.connector) in emulator.charges
        _print_paragraph(
            f"{case} transaction, {outcome.attempts} attempts. "
            f"{describe_result(StopResult(outcome))}.",
            "The next driver's charge "
            f"{'still runs' if still_runs else 'was stopped by the retry'}.",
        )
    _print_paragraph(
        "So give the transaction if you know it: it is different for the next driver's charge, and",
        "no retry can stop the wrong charge.",
    )


async def _plug_in_before_the_retry(
    emulator: ThorEmulator, command: StopCharge, result: DemoResult
) -> None:
    body = b'{"message": "InternalServerError"}'
    emulator.script(ScriptedAnswer(500, body, effect=True), chargebox=command.chargebox)

    async def plug_in_and_sleep(seconds: float) -> None:
        emulator.start_charge(command.chargebox, command.connector, command.id_tag)
        await asyncio.sleep(seconds)

    retry = msgspec.structs.replace(RETRY, sleep=plug_in_and_sleep)
    await stop_all(make_client(emulator, retry=retry), [command], result)


@contextmanager
def _show_progress(
    commands: Sequence[StopCharge], result: DemoResult, allowed: AllowedRate | None = None
) -> Iterator[Callable[[], None]]:
    """Shows the progress on standard output; yields the function to call after an outcome."""
    status = BatchStatus(len(commands), result.stats, time.monotonic, allowed)
    with show_progress(status, sys.stdout) as progress:
        yield progress.advance


def _longest_gap(emulator: ThorEmulator) -> float:
    """Returns the longest time in seconds between two requests."""
    times = itertools.pairwise(request.at for request in emulator.ledger.requests)
    return max((after - before for before, after in times), default=0.0)


def _print_paragraph(*lines: str) -> None:
    print(*lines, sep="\n", end="\n\n", flush=True)


STORIES: dict[str | None, Story] = {
    None: plain,
    "outage": outage,
    "rate-limit": rate_limit,
    "wrong-key": wrong_key,
    "next-driver": next_driver,
}
