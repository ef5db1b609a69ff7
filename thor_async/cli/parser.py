"""The command line: commands, their options, and the options that exclude each other."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import help_texts
from .input.row_parsers import parse_integer


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
    parser = _make_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        # Their values are not printed: any of them may be a part of an unquoted id_tag.
        parser.error(
            f"{args.command}: too many arguments ({len(unknown)}): quote arguments with blanks"
        )
    conflict = _find_conflict(args)
    if conflict is not None:
        parser.error(f"{args.command}: {conflict}")
    return args


def _make_parser() -> Parser:
    parser = Parser(
        prog="thor-async",
        description="Stops charges through Thor's API, and says what happened to each one.",
        epilog=help_texts.OVERALL,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add_options in COMMANDS.items():
        summary, description, epilog = help_texts.COMMANDS[name]
        add_options(commands.add_parser(name, help=summary, description=description, epilog=epilog))
    return parser


def _find_conflict(args: argparse.Namespace) -> str | None:
    """Returns the problem with options that need or exclude others, or None."""
    if args.command != "stop-many":
        return None
    conflicts = {
        "--within and --wait cannot be used together, because --wait bounds each stop": (
            args.wait is not None and args.within is not None
        ),
        "--yes needs --at-most N: the highest number of charges that you mean to stop": (
            args.yes and args.at_most is None
        ),
        "--output - is not a file: leave --output out to write to standard output": (
            args.output == "-"
        ),
        "--resume needs --output FILE: the journal of the earlier run": (
            args.resume and args.output is None
        ),
        "--resend-unknown needs --resume": args.resend_unknown and not args.resume,
    }
    return next((problem for problem, exists in conflicts.items() if exists), None)


def _add_demo_options(command: Parser) -> None:
    source = command.add_mutually_exclusive_group()
    source.add_argument("--charges", type=_count, metavar="N", help="number of charges (1000)")
    source.add_argument("--fleet", metavar="FILE.csv", help="a file of charges, as for stop-many")
    mode = command.add_mutually_exclusive_group()
    mode.add_argument(
        "--faults",
        type=float,
        default=0.0,
        metavar="P",
        help="probability, from 0 to 1, that a request meets an error or a dropped connection (0)",
    )
    mode.add_argument("--story", choices=("outage", "wrong-key", "next-driver"), help="see below")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the faults (0)")


def _add_emulate_options(command: Parser) -> None:
    command.add_argument(
        "--port", type=int, default=0, metavar="P", help="port to listen on (0: any free one)"
    )
    command.add_argument("--fleet", metavar="FILE.csv", help="charges that run from the start")


def _add_stop_options(command: Parser) -> None:
    command.add_argument(
        "chargebox", metavar="CHARGEBOX", help="Thor's identifier of the chargebox"
    )
    command.add_argument("connector", metavar="CONNECTOR", type=_integer, help="its number, from 1")
    command.add_argument("id_tag", metavar="ID_TAG", help="the tag that started the charge")
    command.add_argument(
        "--transaction",
        type=_integer,
        metavar="N",
        help="the number of the charge: with it, no later charge can be stopped by mistake",
    )
    _add_confirmation_options(command)
    _add_client_options(command)


def _add_stop_many_options(command: Parser) -> None:
    command.add_argument("file", metavar="FILE", help="CSV or JSON lines; - for standard input")
    _add_client_options(command)
    _add_selection_options(command)
    _add_confirmation_options(command)
    _add_pace_options(command)
    _add_output_options(command)


def _add_selection_options(command: Parser) -> None:
    add = command.add_argument_group("which rows are sent").add_argument
    add("--skip-bad", action="store_true", help="leave out the rows that cannot be used")
    add("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    add("--yes", action="store_true", help="do not ask for confirmation; needs --at-most")
    add("--at-most", type=_count, metavar="N", help="send nothing if there are more charges")


def _add_pace_options(command: Parser) -> None:
    add = command.add_argument_group("how fast they are sent").add_argument
    add(
        "--canary",
        type=_count,
        default=0,
        metavar="N",
        help="send the other rows only after the first N charges were seen to stop",
    )
    add("--max-in-flight", type=_count, metavar="N", help="requests at a time (32)")
    add("--attempts", type=_count, metavar="N", help="attempts for each charge, at most (3)")
    add("--within", type=_seconds, metavar="SECONDS", help="end the batch after this time")
    add("--over", type=_seconds, metavar="SECONDS", help="spread the stops evenly over this time")


def _add_output_options(command: Parser) -> None:
    add = command.add_argument_group("what is written").add_argument
    add(
        "--output",
        metavar="FILE.jsonl",
        help="the journal: an outcome on each line; default: standard output",
    )
    add("--report", metavar="FILE.html", help="a page about all charges, for any browser")
    add("--resume", action="store_true", help="continue the journal of an earlier run")
    add(
        "--resend-unknown",
        action="store_true",
        help="with --resume: send the indeterminate rows too",
    )


def _add_running_options(command: Parser) -> None:
    add = command.add_argument
    add("--alias", metavar="GLOB", help="only chargeboxes with this name, as 'Harbour*'")
    add("--chargeboxes", metavar="FILE", help="only the chargeboxes of a file: one on each line")
    add("--tags", metavar="FILE", help="a file with the hidden id_tags, as for stop-many")
    output = command.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="write CSV (the default)")
    output.add_argument("--jsonl", action="store_true", help="write JSON lines")
    _add_client_options(command)


def _add_worker_options(command: Parser) -> None:
    command.add_argument("--nats", required=True, metavar="URL", help="such as nats://host:4222")
    _add_client_options(command)
    add = command.add_argument_group("stream and subjects").add_argument
    add("--stream", default="THOR", metavar="NAME", help="stream of all three subjects (THOR)")
    add("--subject", default="thor.stop", metavar="S", help="of the commands (thor.stop)")
    add("--dead-letter", default="thor.stop.dead", metavar="S", help="(thor.stop.dead)")
    add("--outcomes", default="thor.stop.outcomes", metavar="S", help="(thor.stop.outcomes)")
    add = command.add_argument_group("how commands are served").add_argument
    add("--max-in-flight", type=_count, default=32, metavar="N", help="commands at a time (32)")
    add("--max-age", type=_seconds, default=600.0, metavar="SECONDS", help="see below (600)")
    add(
        "--confirm",
        type=_seconds,
        metavar="SECONDS",
        help="watch each charge up to this time: only a charge seen to stop is done",
    )
    add(
        "--drain",
        type=_seconds,
        default=15.0,
        metavar="SECONDS",
        help="time after SIGTERM for commands in progress (15)",
    )
    add("--health-file", metavar="FILE", help="file for the state as JSON, written every 5 s")


def _add_confirmation_options(command: Parser) -> None:
    add = command.add_argument_group("confirmation").add_argument
    add(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help="watch for up to this time whether the charge stopped",
    )
    add("--pin", action="store_true", help="look up which charge runs first, and stop only that")


def _add_client_options(command: Parser) -> None:
    command.add_argument("--base-url", metavar="URL", help="in place of THOR_BASE_URL")
    command.add_argument("--read-url", metavar="URL", help="address of the lists, if it differs")
    command.add_argument("--api-key-file", metavar="FILE", help="in place of THOR_API_KEY")


def _integer(text: str) -> int:
    """Parses an integer; unlike `int`, the error does not show a value that may be an id_tag."""
    number = parse_integer(text)
    if number is None:
        raise argparse.ArgumentTypeError("must be a whole number")
    return number


def _count(text: str) -> int:
    number = _integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("must be a number of seconds, more than 0")
    return seconds


COMMANDS: dict[str, Callable[[Parser], None]] = {
    "check": _add_client_options,
    "demo": _add_demo_options,
    "emulate": _add_emulate_options,
    "running": _add_running_options,
    "stop": _add_stop_options,
    "stop-many": _add_stop_many_options,
    "worker": _add_worker_options,
}
"""The commands, each with the function that adds its options; `commands/` has their modules."""
