"""The call path of one successful stop: functions, files, nested coroutines.

Run `python -m benchmarks.call_path`. It traces the second stop of an open client, so that a
connection exists. Only functions of `thor_async` count, without those of the emulator.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import thor_async
from thor_async import StopCharge, ThorClient
from thor_async.emulator import ThorEmulator

PACKAGE = Path(thor_async.__file__).parent
NOT_THE_CLIENTS = ("emulator/", "cli/", "worker/")


class CallPath(NamedTuple):
    """The calls of one stop. `order` has each call as `file:function`, in order."""

    functions: int
    files: int
    switches: int
    returns_to_a_file_left: int
    nested_coroutines: int
    order: list[str]


class Follower:
    """A profile function that records each call of the client's own code."""

    def __init__(self) -> None:
        self.calls: list[CodeType] = []
        self.deepest = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event != "call" or place(frame.f_code) is None:
            return
        # A coroutine that goes on is not called again.
        if frame.f_lasti <= first_instruction(frame.f_code):
            self.calls.append(frame.f_code)
        self.deepest = max(self.deepest, nested(frame))


def first_instruction(code: CodeType) -> int:
    """Returns the last offset in the prologue of a frame; that of a coroutine is longer."""
    return 8 if code.co_flags & inspect.CO_COROUTINE else 2


def nested(frame: FrameType | None) -> int:
    """Returns the number of coroutines of the client on the stack."""
    count = 0
    while frame is not None:
        is_coroutine = frame.f_code.co_flags & inspect.CO_COROUTINE
        count += bool(is_coroutine and place(frame.f_code) is not None)
        frame = frame.f_back
    return count


def place(code: CodeType) -> str | None:
    """Returns the file below the package, or None for code that is not the client's."""
    path = Path(code.co_filename)
    if not path.is_relative_to(PACKAGE):
        return None
    name = path.relative_to(PACKAGE).as_posix()
    return None if name.startswith(NOT_THE_CLIENTS) else name


def sum_up(calls: list[CodeType]) -> tuple[int, int, int, int]:
    """Counts functions, files, switches between files, and returns to a file."""
    files = [str(place(code)) for code in calls]
    switches = back = 0
    seen = set(files[:1])
    for before, after in pairwise(files):
        switches += before != after
        back += before != after and after in seen
        seen.add(after)
    return len(set(calls)), len(set(files)), switches, back


async def follow() -> CallPath:
    """Traces the second stop of a client."""
    follower = Follower()
    async with ThorEmulator() as emulator:
        charges = [emulator.start_charge("box", number) for number in (1, 2)]
        first, second = (
            StopCharge(c.chargebox, c.connector, c.id_tag, c.transaction) for c in charges
        )
        async with ThorClient(emulator.api_key, base_url=emulator.base_url) as thor:
            await thor.stop_charge(first)
            sys.setprofile(follower)
            try:
                await thor.stop_charge(second)
            finally:
                sys.setprofile(None)
    order = [f"{place(code)}:{code.co_qualname}" for code in follower.calls]
    return CallPath(*sum_up(follower.calls), follower.deepest, order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = asyncio.run(follow())
    if args.json:
        print(json.dumps(found._asdict()))
        return
    print(*found.order, sep="\n")
    print(
        f"{found.functions} functions in {found.files} files, {found.switches} switches of file, "
        f"{found.returns_to_a_file_left} back to one that was left, "
        f"{found.nested_coroutines} nested coroutines"
    )


if __name__ == "__main__":
    main()
