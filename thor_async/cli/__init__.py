"""The command `thor-async`: stops charges, and shows without an account how stops behave."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from .command_line import describe_command
from .errors import UsageError
from .output.console import print_error
from .output.log_handler import log_to_stderr
from .parser import parse
from .streams import discard, prepare_streams

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; `thor-async --help` lists the statuses."""
    prepare_streams()
    try:
        status = _run(argv)
        # Flushed here, because a broken pipe cannot be caught at the interpreter's exit.
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        status = 1
    except OSError as error:
        # Errors of files and sockets are handled by the commands: this one is of the output.
        discard(sys.stdout)
        print_error(f"cannot write the output ({error.strerror}): send it to another place")
        status = 1
    try:
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = parse(argv)
        args.command_line = describe_command(sys.argv[1:] if argv is None else argv)
        _check_output(args)
        # A worker has no other output than its log.
        is_worker = args.command == "worker"
        with log_to_stderr(
            "info" if is_worker else "", as_json=is_worker and args.log_format == "json"
        ):
            return _load_command(args.command)(args)
    except SystemExit as end:
        return int(end.code or 0)
    except UsageError as error:
        print_error(*error.lines)
        return 2
    except KeyboardInterrupt as interrupt:
        print_error(str(interrupt) or "interrupted")
        return 130


def _check_output(args: argparse.Namespace) -> None:
    """Raises UsageError for a closed standard output: a line that is lost may be an outcome."""
    has_journal = getattr(args, "output", None) is not None and not args.dry_run
    if args.command != "worker" and not has_journal and not sys.stdout.writable():
        raise UsageError("standard output is closed: send it to a file, or to /dev/null")


def _load_command(name: str) -> Callable[[argparse.Namespace], int]:
    """Imports only the module of this command: some are slow, and one needs an extra."""
    try:
        module = importlib.import_module(f".commands.{name.replace('-', '_')}", __package__)
    except ModuleNotFoundError as missing:
        if name not in {"dead", "publish", "worker"}:
            raise
        raise UsageError(
            f"{missing.name} is not installed: run pip install 'thor_async[worker]'"
        ) from None
    run: Callable[[argparse.Namespace], int] = module.run
    return run
