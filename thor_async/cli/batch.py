"""Runs the stops of a fleet: what goes out when, and one line for what came of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence

import msgspec

from thor_async import BatchGaveUp, StopCharge, StopOutcome, ThorClient

from .fleet import Fleet
from .interrupt import on_interrupt
from .moment import now
from .output import Output, OutputFull
from .past import Past
from .tally import Tally, kind_of

Commands = Iterable[StopCharge] | AsyncIterable[StopCharge]


class Options(msgspec.Struct, frozen=True):
    """How the stops are made; all durations are seconds.

    `within` bounds them all together, `over` spreads their starts evenly.
    """

    within: float | None = None
    over: float | None = None


class Batch:
    """The stops of some rows of a fleet.

    After `run`, `tally` has what came of them, `written` says how many of these outcomes are in the
    output, and `trouble` why it ended before its time, if it did.
    """

    def __init__(
        self, fleet: Fleet, rows: Sequence[int], output: Output, past: Past, options: Options
    ) -> None:
        self._fleet, self._rows, self._output = fleet, rows, output
        self._past, self._options = past, options
        self._stopping = asyncio.Event()
        self.tally = Tally()
        self.tick: Callable[[], None] = lambda: None
        self.written = 0
        self.trouble: str | None = None
        self.is_broken = False

    @property
    def is_interrupted(self) -> bool:
        return self._stopping.is_set()

    async def run(self, client: ThorClient) -> None:
        """Stops them. The first Ctrl-C ends the dispatch, the second cuts what is in flight."""
        work = asyncio.create_task(self._stop_all(client))
        with on_interrupt(self._stopping.set, work.cancel):
            try:
                await work
            except asyncio.CancelledError:
                if not self.is_interrupted:
                    raise
            except (BatchGaveUp, OutputFull) as end:
                self.trouble = str(end)
            except OSError as error:
                if not self.is_broken:
                    raise
                self.trouble = f"the output takes no more ({error.strerror})"

    async def _stop_all(self, client: ThorClient) -> None:
        async with client as thor:
            await self._stop(thor, self._rows)

    async def _stop(self, thor: ThorClient, rows: Sequence[int]) -> None:
        stream = thor.stop_stream(self._source(rows), within=self._options.within)
        try:
            async with stream:
                async for outcome in stream:
                    self._tell(outcome, rows[outcome.index])
        finally:
            # When it was left early: what had ended by then, and what was cut in flight.
            for outcome in stream.unread:
                self._tell(outcome, rows[outcome.index])

    def _source(self, rows: Sequence[int]) -> Commands:
        commands = self._commands(rows)
        return commands if self._options.over is None else self._spread(commands, len(rows))

    def _commands(self, rows: Sequence[int]) -> Iterator[StopCharge]:
        for row in rows:
            if self.is_interrupted:
                return
            self._output.check()
            yield self._fleet[row]

    async def _spread(
        self, commands: Iterator[StopCharge], count: int
    ) -> AsyncIterator[StopCharge]:
        gap = (self._options.over or 0.0) / count
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, command in enumerate(commands):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(started + number * gap):
                    await self._stopping.wait()
                    return
            yield command

    def _tell(self, outcome: StopOutcome, row: int) -> None:
        """Counts it, and writes it unless an earlier one could not be written."""
        outcome = self._with_past(outcome, row)
        kind = kind_of(outcome)
        self.tally.add(kind, outcome, row)
        if self.is_broken:
            return
        try:
            self._output.write(self._line(outcome, row, kind.next_step))
        except OSError:
            self.is_broken = True
            raise
        self.written += 1
        with contextlib.suppress(OSError):
            self.tick()

    def _with_past(self, outcome: StopOutcome, row: int) -> StopOutcome:
        if outcome.maybe_applied or not self._past.may_have_been_sent(row):
            return outcome
        return msgspec.structs.replace(outcome, maybe_applied=True)

    def _line(self, outcome: StopOutcome, row: int, next_step: str) -> bytes:
        record = msgspec.structs.asdict(outcome.record())
        record |= {"index": row, "next_step": next_step}
        return msgspec.json.encode({"line": self._fleet.line(row), "at": now(), **record}) + b"\n"
