"""Stops the rows of a command file, and writes a line for each result."""

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
from .stop_results import Item, StopOptions, as_result, open_stream

_CANARY_WAIT = 60.0


class BatchOptions(msgspec.Struct, frozen=True):
    """How a batch is sent.

    `over`: spread the stops evenly over this time in seconds. `canary`: stop this number of charges
    first, and the rest only if these were seen to stop.
    """

    stop: StopOptions = StopOptions()
    over: float | None = None
    canary: int = 0


class BatchRunner:
    """Stops some rows of a command file, once.

    After `run`: `stats` counts the results, `written` is the number of results in the output, and
    `failure` says why the batch ended early, or is None.
    """

    def __init__(
        self,
        command_file: CommandFile,
        rows: Sequence[int],
        output: Output,
        resume_state: ResumeState,
        options: BatchOptions,
    ) -> None:
        self._command_file, self._rows, self._output = command_file, rows, output
        self._resume_state, self._options = resume_state, options
        self._interrupted = asyncio.Event()
        self._output_failed = False
        self.stats = BatchStats()
        self.on_written: Callable[[], None] = lambda: None
        self.written = 0
        self.failure: str | None = None

    @property
    def is_interrupted(self) -> bool:
        return self._interrupted.is_set()

    async def run(self, client: ThorClient) -> None:
        """Stops the charges.

        The first Ctrl-C ends the dispatch, the second one cancels the requests in flight.
        """
        task = asyncio.create_task(self._stop_canary_and_rest(client))
        with on_interrupt(self._end_dispatch, task.cancel):
            try:
                await task
            except asyncio.CancelledError:
                if not self.is_interrupted:
                    raise
            except (BatchGaveUp, OutputFull) as error:
                self.failure = str(error)

    def _end_dispatch(self) -> None:
        self._interrupted.set()
        print_error("nothing more is sent; press Ctrl-C again to end the requests in flight")

    async def _stop_canary_and_rest(self, client: ThorClient) -> None:
        count, options = self._options.canary, self._options.stop
        canary, rest = self._rows[:count], self._rows[count:]
        async with client as thor:
            if canary:
                wait = options.wait or _CANARY_WAIT
                await self._stop_rows(thor, canary, msgspec.structs.replace(options, wait=wait))
                if not self._canary_passed(len(canary)):
                    return
            if not self.is_interrupted:
                await self._stop_rows(thor, rest, options)

    def _canary_passed(self, count: int) -> bool:
        """Returns whether all charges are done and at least one was seen to stop."""
        stopped = self.stats.count(state="stopped")
        if stopped and self.stats.count(next_step="done") == count:
            return True
        self.failure = f"only {stopped:,} of the first {count:,} charges were seen to stop"
        return False

    async def _stop_rows(self, thor: ThorClient, rows: Sequence[int], options: StopOptions) -> None:
        commands, over = self._commands(rows), self._options.over
        source = commands if over is None else self._spread(commands, over / len(self._rows))
        stream = open_stream(thor, source, options)
        try:
            async with stream:
                async for item in stream:
                    self._record(item, rows)
        finally:
            # After an early end: results that were ready, and those of cancelled requests.
            for item in stream.unread:
                with contextlib.suppress(OutputFull):
                    self._record(item, rows)

    def _commands(self, rows: Sequence[int]) -> Iterator[StopCharge]:
        for row in rows:
            if self.is_interrupted:
                return
            self._output.check()
            yield self._command_file[row]

    async def _spread(
        self, commands: Iterator[StopCharge], gap: float
    ) -> AsyncIterator[StopCharge]:
        """Yields a command every `gap` seconds, until the first Ctrl-C."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, command in enumerate(commands):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(started + number * gap):
                    await self._interrupted.wait()
                    return
            yield command

    def _record(self, item: Item, rows: Sequence[int]) -> None:
        """Counts a result and writes it; after a failed write, results are only counted."""
        row = rows[as_result(item).outcome.index]
        result = as_result(item, may_have_been_sent=self._resume_state.may_have_been_sent(row))
        self.stats.add(result, row)
        if self._output_failed:
            return
        line = {
            "line": self._command_file.line_number(row),
            "at": utc_timestamp(),
            **result.record(),
            "index": row,
        }
        try:
            self._output.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            self._output_failed = True
            self.failure = f"cannot write the output ({error.strerror})"
            raise OutputFull(self.failure) from None
        self.written += 1
        with contextlib.suppress(OSError):
            self.on_written()
