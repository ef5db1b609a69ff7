"""The command `thor-async`: stops charges, and shows without an account how stops behave."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from .errors import UsageError
from .output.console import print_error
from .output.log_handler import log_to_stderr
from .parser import parse

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; `thor-async --help` lists the statuses."""
    _escape_unprintable_characters()
    try:
        status = _run(argv)
        # Flushed here, because a broken pipe cannot be caught at the interpreter's exit.
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        status = 1
    except OSError as error:
        # Errors of files and sockets are handled by the commands: this one is of the output.
        _discard(sys.stdout)
        print_error(f"cannot write the output ({error.strerror}): send it to another place")
        status = 1
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = parse(argv)
        # A worker has no other output than its log.
        with log_to_stderr("warning" if args.command == "worker" else ""):
            return _load_command(args.command)(args)
    except SystemExit as end:
        return int(end.code or 0)
    except UsageError as error:
        print_error(*error.lines)
        return 2
    except KeyboardInterrupt as interrupt:
        print_error(str(interrupt) or "interrupted")
        return 130


def _load_command(name: str) -> Callable[[argparse.Namespace], int]:
    """Imports only the module of this command: some are slow, and one needs an extra."""
    try:
        module = importlib.import_module(f".commands.{name.replace('-', '_')}", __package__)
    except ModuleNotFoundError as missing:
        if name != "worker":
            raise
        raise UsageError(
            f"{missing.name} is not installed: run pip install 'thor_async[worker]'"
        ) from None
    run: Callable[[argparse.Namespace], int] = module.run
    return run


def _escape_unprintable_characters() -> None:
    """Lets a chargebox name be printed on a terminal whose encoding lacks its characters."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard(stream: TextIO) -> None:
    """Sends the rest of the buffer to the null device, so that the interpreter exits quietly."""
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(null, stream.fileno())
    os.close(null)
