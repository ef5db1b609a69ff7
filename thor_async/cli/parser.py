"""Parses the command line, and checks which options exclude each other."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from . import help_texts
from .options import COMMANDS


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports an error in one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the arguments; `command` of the result is the name of the command.

    Raises SystemExit after it has printed the help or an error.
    """
    parser, commands = _make_parsers()
    args, unknown = parser.parse_known_args(argv)
    command = commands[args.command]
    if unknown:
        command.error(_describe_unknown(unknown, command))
    conflict = _find_conflict(args)
    if conflict is not None:
        command.error(conflict)
    return args


def _describe_unknown(unknown: Sequence[str], command: Parser) -> str:
    """Returns an error without these arguments: any of them may be a part of an id_tag."""
    options = re.findall("--[a-z-]+", command.format_usage())
    for argument in unknown:
        near = difflib.get_close_matches(argument.partition("=")[0], options, 1)
        if argument.startswith("--") and near:
            return f"too many arguments ({len(unknown)}): did you mean {near[0]}?"
    return f"too many arguments ({len(unknown)}): quote arguments with blanks"


def _make_parsers() -> tuple[Parser, dict[str, Parser]]:
    """Returns the parser, and those of the commands by name."""
    parser = Parser(
        prog="thor-async",
        description="Stops charges through Thor's API, and says what happened to each one.",
        epilog=help_texts.OVERALL,
    )
    actions = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands: dict[str, Parser] = {}
    for name, add_options in COMMANDS.items():
        summary, description, epilog = help_texts.COMMANDS[name]
        command = actions.add_parser(name, help=summary, description=description, epilog=epilog)
        add_options(command)
        commands[name] = command
    return parser, commands


def _find_conflict(args: argparse.Namespace) -> str | None:
    """Returns the problem with options that need or exclude others, or None."""
    if args.command == "emulate" and args.retry_after is not None and args.rate is None:
        return "--retry-after needs --rate"
    if args.command == "worker" and not args.init and (args.replicas or args.stream_max_age):
        return "--replicas and --stream-max-age need --init"
    if getattr(args, "yes", False) and args.at_most is None and not getattr(args, "number", None):
        return "--yes needs --at-most N: the highest number of charges that you mean to stop"
    if args.command in {"stop", "stop-many", "stop-running"}:
        return _find_batch_conflict(args)
    return None


def _find_batch_conflict(args: argparse.Namespace) -> str | None:
    if args.wait is not None and args.ensure is not None:
        return "--wait and --ensure cannot be used together: --ensure watches too"
    if args.command == "stop":
        return None
    conflicts = {
        "--within and --wait cannot be used together, because --wait bounds each stop": (
            args.wait is not None and args.within is not None
        ),
        "--within and --ensure cannot be used together, because --ensure bounds each stop": (
            args.ensure is not None and args.within is not None
        ),
        "--output - is not a file: leave --output out to write to standard output": (
            args.output == "-"
        ),
        "--resume needs --output FILE: the journal of the earlier run": (
            args.resume and args.output is None
        ),
        "--resend-unknown needs --resume": args.resend_unknown and not args.resume,
        "--repair needs --resume": args.repair and not args.resume,
        "--resend needs --resume": args.resend is not None and not args.resume,
        "give FILE: only --resume knows the file of an earlier run": (
            args.file is None and not args.resume
        ),
    }
    return next((problem for problem, exists in conflicts.items() if exists), None)
