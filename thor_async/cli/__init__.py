"""The command `thor-async`: stops charges, and shows without an account how that goes."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from .commands.check import check
from .commands.running import running
from .commands.stop_many import stop, stop_many
from .errors import UsageError
from .output.console import print_error
from .output.log_handler import shown_log
from .parser import find_conflict, make_parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status, as `thor-async --help` explains it."""
    _escape_what_cannot_be_shown()
    try:
        status = _run(argv)
        # Not left to the interpreter's end, where a broken pipe can no longer be caught.
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        status = 1
    except OSError as error:
        # Files and sockets have their own errors by now, so this is the output.
        _discard(sys.stdout)
        print_error(f"cannot write the output ({error.strerror}): send it somewhere else")
        status = 1
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parse(argv)
        # Nobody watches a worker: its log is all that it says.
        with shown_log("warning" if args.command == "worker" else ""):
            status: int = args.run(args)
    except SystemExit as end:
        return int(end.code or 0)
    except UsageError as bad:
        print_error(*bad.lines)
        return 2
    except KeyboardInterrupt as interrupt:
        print_error(str(interrupt) or "interrupted")
        return 130
    return status


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    runs = {
        "check": check,
        "demo": _demo,
        "emulate": _emulate,
        "running": running,
        "stop": stop,
        "stop-many": stop_many,
        "worker": _worker,
    }
    parser = make_parser(runs)
    args, others = parser.parse_known_args(argv)
    if others:
        # Not shown: any of them may be a part of an id_tag that was not quoted.
        parser.error(f"{args.command}: too many arguments ({len(others)}): quote what has blanks")
    problem = find_conflict(args)
    if problem is not None:
        parser.error(f"{args.command}: {problem}")
    return args


def _demo(args: argparse.Namespace) -> int:
    from .commands.demo import demo  # noqa: PLC0415 - brings the emulator, which is slow to import

    return demo(args)


def _emulate(args: argparse.Namespace) -> int:
    from .commands.demo import emulate  # noqa: PLC0415 - as above

    return emulate(args)


def _worker(args: argparse.Namespace) -> int:
    try:
        from .commands.worker import worker  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"{missing.name} is not installed: pip install 'thor_async[worker]' brings it"
        ) from None

    return worker(args)


def _escape_what_cannot_be_shown() -> None:
    """A chargebox's name that the terminal's encoding lacks is no reason to fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard(stream: TextIO) -> None:
    """What is left in its buffer goes nowhere, so that the interpreter's end is quiet too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
