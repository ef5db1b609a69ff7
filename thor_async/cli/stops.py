"""`thor-async stop` and `thor-async stop-many`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from thor_async import BatchGaveUp, StopCharge, StopOutcome, ThorClient

from .files import BadInput, read_fleet
from .show import ADVICE, progress, say, sentence


def stop(args: argparse.Namespace) -> int:
    """Stops one charge and prints one line about it."""
    client = _make_client(args)
    try:
        command = StopCharge(args.chargebox, args.connector, args.id_tag, args.transaction)
    except ValueError as error:
        raise BadInput(str(error)) from None
    outcomes: list[StopOutcome] = []
    try:
        asyncio.run(_stop_all(client, [command], outcomes.append))
    except BatchGaveUp:
        pass  # its outcome says why
    finally:
        for outcome in outcomes:
            print(sentence(outcome))
    return 0 if outcomes[0].next_step == "done" else 1


def stop_many(args: argparse.Namespace) -> int:
    """Stops the charges of a file and writes one line of JSON for each."""
    client = _make_client(args)
    commands = read_fleet(args.file)
    report = _Report(len(commands))
    # Two writers on one terminal would spoil each other's lines.
    is_live = not sys.stdout.isatty()
    try:
        with progress(len(commands), sys.stderr, live=is_live) as report.tick:
            asyncio.run(_stop_all(client, commands, report.tell))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {report.rest()}") from None
    except BatchGaveUp as gave_up:
        say(f"{gave_up}: {report.rest()}")
    except OSError:
        say(f"the output takes no more: {report.rest()}")
        raise
    report.sum_up()
    return 0 if report.is_done else 1


async def _stop_all(
    client: ThorClient, commands: Sequence[StopCharge], tell: Callable[[StopOutcome], None]
) -> None:
    async with client as thor:
        stream = thor.stop_stream(commands)
        try:
            async with stream:
                async for outcome in stream:
                    tell(outcome)
        finally:
            # When it was left early: what had ended by then, and what was cut in flight.
            for outcome in stream.unread:
                tell(outcome)


class _Report:
    """Writes the outcomes of a batch to standard output, and sums up on standard error."""

    def __init__(self, total: int) -> None:
        self.tick: Callable[[], None] = lambda: None
        self._total = total
        self._steps: Counter[str] = Counter()
        self._written = 0
        self._is_broken = False

    @property
    def is_done(self) -> bool:
        return self._steps["done"] == self._total

    def tell(self, outcome: StopOutcome) -> None:
        """Counts it, and writes it unless an earlier one could not be written."""
        self._steps[outcome.next_step] += 1
        if self._is_broken:
            return
        try:
            self._write(msgspec.json.encode(outcome.record()) + b"\n")
        except OSError:
            self._is_broken = True
            raise
        with contextlib.suppress(OSError):
            self.tick()

    def _write(self, line: bytes) -> None:
        # Bytes, because JSON is UTF-8 whatever the terminal's encoding is.
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        self._written += 1

    def rest(self) -> str:
        """What is not in the output."""
        known = self._steps.total()
        lost = known - self._written
        text = f"{self._total - known:,} of {self._total:,} commands were not sent"
        return text + (f", and {lost:,} of the outcomes could not be written" if lost else "")

    def sum_up(self) -> None:
        counts = ", ".join(f"{count:,} {step}" for step, count in self._steps.most_common())
        say(f"{self._steps.total():,} of {self._total:,} commands: {counts or 'nothing to do'}")
        for step in self._steps:
            if step != "done":
                say(f"{step}: {ADVICE[step]}")


def _make_client(args: argparse.Namespace) -> ThorClient:
    if not os.environ.get("THOR_API_KEY"):
        raise BadInput("no API key: set THOR_API_KEY")
    try:
        return ThorClient(base_url=args.base_url)
    except ValueError as error:
        raise BadInput(str(error)) from None
