"""Runs the stops of a fleet: what goes out when, and one line for what came of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import msgspec

from thor_async import BatchGaveUp, StopCharge, ThorClient

from .input.command_file import CommandFile
from .output.console import print_error
from .output.resume import ResumeState
from .output.sink import Output, OutputFull
from .output.stats import BatchStats
from .output.timestamps import utc_timestamp
from .signals import on_interrupt
from .stop_results import Commands, Item, Result, StopOptions, as_result, open_stream

_CANARY_WAIT = 60.0


class BatchOptions(msgspec.Struct, frozen=True):
    """How a batch is made: `over` so many seconds, evenly, and after its first `canary` charges."""

    manner: StopOptions = StopOptions()
    over: float | None = None
    canary: int = 0


class BatchRunner:
    """The stops of some rows of a fleet.

    After `run`, `tally` has what came of them, `written` says how many of these outcomes are in the
    output, and `trouble` why it ended before its time, if it did.
    """

    def __init__(
        self,
        fleet: CommandFile,
        rows: Sequence[int],
        output: Output,
        past: ResumeState,
        options: BatchOptions,
    ) -> None:
        self._fleet, self._rows, self._output = fleet, rows, output
        self._past, self._options = past, options
        self._stopping = asyncio.Event()
        self.tally = BatchStats()
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
        with on_interrupt(self._wind_up, work.cancel):
            try:
                await work
            except asyncio.CancelledError:
                if not self.is_interrupted:
                    raise
            except (BatchGaveUp, OutputFull) as end:
                self.trouble = str(end)
            except OSError:
                if not self.is_broken:
                    raise

    def _wind_up(self) -> None:
        self._stopping.set()
        print_error("nothing more is sent; Ctrl-C again ends what is in flight at once")

    async def _stop_all(self, client: ThorClient) -> None:
        canary, rest = self._rows[: self._options.canary], self._rows[self._options.canary :]
        manner = self._options.manner
        async with client as thor:
            if canary:
                wait = manner.wait or _CANARY_WAIT
                await self._stop(thor, canary, msgspec.structs.replace(manner, wait=wait))
                if self._is_canary_dead(len(canary)):
                    return
            if not self.is_interrupted:
                await self._stop(thor, rest, manner)

    def _is_canary_dead(self, count: int) -> bool:
        """Unless all of it is over, and some of it because it was stopped, the rest is not sent."""
        proven = self.tally.count(state="stopped")
        if proven and self.tally.count(next_step="done") == count:
            return False
        self.trouble = f"only {proven:,} of the first {count:,} charges were seen to stop"
        return True

    async def _stop(self, thor: ThorClient, rows: Sequence[int], manner: StopOptions) -> None:
        stream = open_stream(thor, self._source(rows), manner)
        try:
            async with stream:
                async for item in stream:
                    self._tell(item, rows)
        finally:
            # When it was left early: what had ended by then, and what was cut in flight.
            for item in stream.unread:
                with contextlib.suppress(OSError):
                    self._tell(item, rows)

    def _source(self, rows: Sequence[int]) -> Commands:
        commands = self._commands(rows)
        over = self._options.over
        return commands if over is None else self._spread(commands, over / len(self._rows))

    def _commands(self, rows: Sequence[int]) -> Iterator[StopCharge]:
        for row in rows:
            if self.is_interrupted:
                return
            self._output.check()
            yield self._fleet[row]

    async def _spread(
        self, commands: Iterator[StopCharge], gap: float
    ) -> AsyncIterator[StopCharge]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, command in enumerate(commands):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(started + number * gap):
                    await self._stopping.wait()
                    return
            yield command

    def _tell(self, item: Item, rows: Sequence[int]) -> None:
        """Counts it, and writes it unless an earlier one could not be written."""
        row = rows[as_result(item).outcome.index]
        result = as_result(item, may_have_been_sent=self._past.may_have_been_sent(row))
        self.tally.add(result, row)
        if self.is_broken:
            return
        try:
            self._output.write(self._line(result, row))
        except OSError as error:
            self.is_broken = True
            self.trouble = f"the output takes no more ({error.strerror})"
            raise
        self.written += 1
        with contextlib.suppress(OSError):
            self.tick()

    def _line(self, result: Result, row: int) -> bytes:
        line = {
            "line": self._fleet.line(row),
            "at": utc_timestamp(),
            **result.record(),
            "index": row,
        }
        return msgspec.json.encode(line) + b"\n"
