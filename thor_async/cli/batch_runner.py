"""Stops the rows of a command file, and writes a line for each result."""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import filterfalse

import msgspec

from thor_async import AccountError, BatchGaveUp, StopCharge, ThorClient

from .environment_check import LIMIT, EnvironmentCheck
from .input.command_file import CommandFile
from .open_rows import OpenRows
from .output.batch_status import BatchStatus
from .output.console import print_error
from .output.printable import encode_line
from .output.progress import NoProgress, Progress
from .output.resume import JournalLine, ResumeState
from .output.sink import Output, OutputFull
from .output.stats import BatchStats
from .signals import on_interrupt
from .spread import Spread, spread_commands
from .stop_results import Commands, Item, StopOptions, as_result, find_pause, open_stream

_WATCH = 60.0
"""How long canaries and looked-at rows are watched without `--wait` and `--ensure`, in seconds."""
_TICK = 1.0


class BatchOptions(msgspec.Struct, frozen=True):
    """How a batch is sent.

    `spread`: the time over which the stops are spread. `canary`: stop this number of charges first,
    and the rest only if these were seen to stop. `goes_on`: also if Thor knows no chargebox.
    `is_quiet`: print only what is wrong.
    """

    stop: StopOptions = StopOptions()
    spread: Spread | None = None
    canary: int = 0
    goes_on: bool = False
    is_quiet: bool = False


async def _never_go_on(left: int, interrupted: asyncio.Event) -> bool:
    return False


class BatchRunner:
    """Stops some rows of a command file, once.

    Before `run`, set `status`, which describes the batch, its `progress`, `on_written`, which gets
    each line, and `ask_to_go_on`, which is asked after 50 unknown chargeboxes, with the number of
    rows that are left. After `run`: `stats` counts the results of this run, and `resume_state` has
    those of all runs.
    `written` is the number of results in the output, `failure` says why the batch ended early, or
    is None, and `interrupted_by` is the number of the signal that ended it, or None. `needs_person`
    says that the next run would end early again: the account was refused, the canary fails, or
    `is_wrong_environment`: Thor knows none of the chargeboxes.
    """

    def __init__(
        self,
        command_file: CommandFile,
        rows: Sequence[int],
        output: Output,
        resume_state: ResumeState,
        options: BatchOptions,
    ) -> None:
        self.command_file: CommandFile = command_file
        self._rows, self._output = rows, output
        self._options = options
        self._interrupted = asyncio.Event()
        self._stop_sending: Callable[[], None] = lambda: None
        self._output_failed = False
        self._open_rows = OpenRows(command_file)
        self._begun = 0
        self.resume_state = resume_state
        self.stats: BatchStats = BatchStats()
        self.status: BatchStatus = BatchStatus(len(rows), self.stats, time.monotonic)
        self.progress: Progress = NoProgress()
        self._environment = EnvironmentCheck(resume_state, is_off=options.goes_on)
        self.on_written: Callable[[bytes], None] = lambda line: None
        self.ask_to_go_on: Callable[[int, asyncio.Event], Awaitable[bool]] = _never_go_on
        self.written: int = 0
        self.failure: str | None = None
        self.interrupted_by: int | None = None
        self.needs_person: bool = False
        self.is_wrong_environment: bool = False

    @property
    def is_recorded(self) -> bool:
        """Whether every row that was begun has its result in the output."""
        return not len(self._open_rows) and not self._output_failed

    @property
    def knows_no_chargebox(self) -> bool:
        """Whether each of several charges was at a chargebox that Thor does not know."""
        return 1 < self.stats.total == self._environment.unknown

    async def run(self, client: ThorClient) -> None:
        """Stops the charges.

        The first Ctrl-C ends the dispatch, the second one cancels the requests in flight.
        """
        task = asyncio.create_task(self._stop_canary_and_rest(client))
        ticks = asyncio.create_task(self._tick())
        with on_interrupt(self._end_dispatch, task.cancel):
            try:
                await task
            except asyncio.CancelledError:
                if self.interrupted_by is None:
                    raise
            except BatchGaveUp as error:
                self.failure = str(error)
                # Another run would be refused, too.
                self.needs_person = isinstance(error.cause, AccountError)
                self.resume_state.is_refused = self.needs_person
            except OutputFull as error:
                self.failure = str(error)
            finally:
                ticks.cancel()

    def _end_dispatch(self, number: int) -> None:
        self.interrupted_by = number
        self.status.interrupted = True
        self._interrupted.set()
        self._stop_sending()
        print_error(
            f"nothing more is sent, and {len(self._open_rows):,} stops are awaited; press Ctrl-C "
            "again to end the requests in flight"
        )
        self.progress.refresh()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self.status.open_rows = len(self._open_rows)
            with contextlib.suppress(OSError):
                self.progress.refresh()

    async def _stop_canary_and_rest(self, client: ThorClient) -> None:
        count, options = self._options.canary, self._options.stop
        canary, rest = self._rows[:count], self._rows[count:]
        async with client as thor:
            if canary:
                watched = options
                if not options.is_watched:
                    watched = msgspec.structs.replace(options, wait=_WATCH)
                self._announce_canary(len(canary), watched.wait or watched.ensure or _WATCH)
                await self._stop_rows(thor, canary, watched)
                if not self._canary_passed(canary):
                    return
                self._announce_rest(len(rest))
            if not self._interrupted.is_set():
                await self._stop_rows(thor, rest, options)

    def _announce_canary(self, count: int, seconds: float) -> None:
        self.status.canary = count
        if not self._options.is_quiet:
            print_error(
                f"canary: the first {count:,} charges are watched for up to {seconds:g} s, and the "
                "others wait"
            )

    def _announce_rest(self, count: int) -> None:
        self.status.begin_rest()
        if not self._options.is_quiet:
            print_error(f"the canary was seen to stop: the other {count:,} charges are sent now")

    def _canary_passed(self, canary: Sequence[int]) -> bool:
        """Returns whether all charges are done and at least one was seen to stop."""
        count, stopped = len(canary), self.stats.count(state="stopped")
        if stopped and self.stats.count(next_step="done") == count:
            return True
        self.failure = f"only {stopped:,} of the first {count:,} charges were seen to stop"
        self.needs_person = any(map(self.resume_state.needs_person, canary))
        return False

    async def _stop_rows(self, thor: ThorClient, rows: Sequence[int], options: StopOptions) -> None:
        """Stops rows; those that may be stopped already only while a list shows their charge."""
        if options.ensure is not None:
            await self._stream_rows(thor, rows, options)
            return
        look = self.resume_state.must_be_looked_at
        unsettled = array("Q", filter(look, rows))
        await self._stream_rows(thor, array("Q", filterfalse(look, rows)), options)
        if unsettled and not self._is_over:
            ensure = StopOptions(ensure=options.wait or _WATCH)
            await self._stream_rows(thor, unsettled, ensure)

    @property
    def _is_over(self) -> bool:
        return self._interrupted.is_set() or self.failure is not None

    async def _stream_rows(
        self, thor: ThorClient, rows: Sequence[int], options: StopOptions
    ) -> None:
        """Stops rows, and pauses with a question if Thor knows none of their chargeboxes."""
        while rows and not self._is_over:
            rows = rows[await self._stream_until_suspicious(thor, rows, options) :]
            if self._environment.is_suspicious and rows:
                self._environment.is_settled = await self._ask_to_go_on(len(rows))

    async def _ask_to_go_on(self, left: int) -> bool:
        self.progress.hide()
        answer = await self.ask_to_go_on(left, self._interrupted)
        self.progress.show_again()
        if answer:
            return True
        self.needs_person = self.is_wrong_environment = True
        self.failure = (
            f"Thor knows none of the first {LIMIT} chargeboxes: check the address and the account, "
            "or give --go-on"
        )
        return False

    async def _stream_until_suspicious(
        self, thor: ThorClient, rows: Sequence[int], options: StopOptions
    ) -> int:
        """Returns the number of rows that were begun."""
        begun_before = self._begun
        source: Commands = self._commands(rows)
        spread = self._options.spread
        if spread is not None:
            begins = spread.plan(len(rows), len(self._rows))
            self.status.spread_ends_at = time.monotonic() + spread.seconds * (
                len(rows) / len(self._rows)
            )
            source = spread_commands(self._commands(rows), begins, self._interrupted)
        stream = open_stream(thor, source, options)
        self._stop_sending = stream.stop_sending
        self.status.find_pause = lambda: find_pause(stream)
        is_told = options.is_watched and not self._options.is_quiet
        watch = asyncio.create_task(self._open_rows.report()) if is_told else None
        try:
            async with stream:
                async for item in stream:
                    self._record(item, rows)
        finally:
            if watch is not None:
                watch.cancel()
            # After an early end: results that were ready, and those of cancelled requests.
            for item in stream.unread:
                with contextlib.suppress(OutputFull):
                    self._record(item, rows)
        return self._begun - begun_before

    def _commands(self, rows: Sequence[int]) -> Iterator[StopCharge]:
        for row in rows:
            if self._interrupted.is_set() or self._environment.is_suspicious:
                return
            self._output.check()
            command = self.resume_state.resume(row, self.command_file[row])
            self._open_rows.add(row)
            self._begun += 1
            yield command

    def _record(self, item: Item, rows: Sequence[int]) -> None:
        """Counts a result and writes it; after a failed write, results are only counted."""
        row = rows[as_result(item).outcome.index]
        result = as_result(item, may_have_been_sent=self.resume_state.may_be_stopped(row))
        line = {
            "line": self.command_file.line_number(row),
            **result.record(),
            "index": row,
        }
        if self._interrupted.is_set():
            line["interrupted"] = True
        text = encode_line(line)
        self.stats.add(result)
        self._environment.add(result)
        self.resume_state.add(msgspec.json.decode(text, type=JournalLine))
        self._open_rows.discard(row)
        if self._output_failed:
            return
        try:
            self._output.write(text)
        except OSError as error:
            self._output_failed = True
            self.failure = f"cannot write the output ({error.strerror})"
            raise OutputFull(self.failure) from None
        self.written += 1
        with contextlib.suppress(OSError):
            self.on_written(text)
            self.progress.advance()
