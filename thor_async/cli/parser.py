"""What can be said on the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from . import help_texts
from .input.row_parsers import read_number

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def make_parser(runs: Mapping[str, Run]) -> Parser:
    """The parser of all commands; the parsed `run` is the one for the command that was given."""
    parser = Parser(
        prog="thor-async",
        description="Stops charges through Thor's API, and says what happened to each one.",
        epilog=help_texts.OVERALL,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, description: str, epilog: str) -> Parser:
        command = commands.add_parser(name, help=summary, description=description, epilog=epilog)
        command.set_defaults(run=runs[name])
        return command

    _add_address(
        add("check", "find out whether stops can work", help_texts.CHECK, help_texts.CHECK_END)
    )
    _add_demo_options(
        add("demo", "show it, without an account", help_texts.DEMO, help_texts.DEMO_END)
    )
    _add_emulate_options(
        add("emulate", "run a Thor to test against", help_texts.EMULATE, help_texts.EMULATE_END)
    )
    _add_running_options(
        add("running", "list what runs", help_texts.RUNNING, help_texts.RUNNING_END)
    )
    _add_stop_options(add("stop", "stop one charge", help_texts.STOP, help_texts.STOP_END))
    _add_stop_many_options(
        add(
            "stop-many",
            "stop the charges of a file",
            help_texts.STOP_MANY,
            help_texts.STOP_MANY_END,
        )
    )
    _add_worker_options(
        add("worker", "serve commands from NATS", help_texts.WORKER, help_texts.WORKER_END)
    )
    return parser


def _add_demo_options(command: Parser) -> None:
    which = command.add_mutually_exclusive_group()
    which.add_argument("--charges", type=_count, metavar="N", help="how many (1000)")
    which.add_argument("--fleet", metavar="FILE.csv", help="those of a file, as for stop-many")
    how = command.add_mutually_exclusive_group()
    how.add_argument(
        "--faults",
        type=float,
        default=0.0,
        metavar="P",
        help="probability, from 0 to 1, that a request meets an error or a dropped connection (0)",
    )
    how.add_argument("--story", choices=("outage", "wrong-key", "next-driver"), help="see below")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the faults (0)")


def _add_emulate_options(command: Parser) -> None:
    command.add_argument(
        "--port", type=int, default=0, metavar="P", help="to listen on (0: any free one)"
    )
    command.add_argument("--fleet", metavar="FILE.csv", help="the charges that run at its start")


def _add_stop_options(command: Parser) -> None:
    command.add_argument("chargebox", metavar="CHARGEBOX", help="Thor's identifier of it")
    command.add_argument("connector", metavar="CONNECTOR", type=_number, help="from 1")
    command.add_argument("id_tag", metavar="ID_TAG", help="the tag that started the charge")
    command.add_argument(
        "--transaction",
        type=_number,
        metavar="N",
        help="the number of the charge: with it, no later charge can be stopped by mistake",
    )
    _add_watch_options(command)
    _add_address(command)


def _add_stop_many_options(command: Parser) -> None:
    command.add_argument("file", metavar="FILE", help="CSV or JSON lines; - for standard input")
    _add_address(command)
    _add_input_options(command)
    _add_pace_options(command)
    _add_journal_options(command)


def _add_input_options(command: Parser) -> None:
    add = command.add_argument_group("what is sent").add_argument
    add("--skip-bad", action="store_true", help="leave out the rows that cannot be used")
    add("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    add("--yes", action="store_true", help="do not ask; needs --at-most")
    add("--at-most", type=_count, metavar="N", help="send nothing if there are more charges")


def _add_pace_options(command: Parser) -> None:
    _add_watch_options(command)
    add = command.add_argument_group("how it is sent").add_argument
    add(
        "--canary",
        type=_count,
        default=0,
        metavar="N",
        help="send the rest only when the first N have been seen to stop",
    )
    add("--max-in-flight", type=_count, metavar="N", help="requests at a time (32)")
    add("--attempts", type=_count, metavar="N", help="for each charge, with the first (3)")
    add("--within", type=_seconds, metavar="SECONDS", help="cut off what has not ended by then")
    add("--over", type=_seconds, metavar="SECONDS", help="spread the stops evenly over that time")


def _add_journal_options(command: Parser) -> None:
    add = command.add_argument_group("what is kept").add_argument
    add(
        "--output",
        metavar="FILE.jsonl",
        help="the journal: an outcome a line; default: standard output",
    )
    add("--report", metavar="FILE.html", help="a page about all of it, for any browser")
    add("--resume", action="store_true", help="go on with the journal of a run that did not end")
    add("--resend-unknown", action="store_true", help="with --resume: also what is indeterminate")


def _add_running_options(command: Parser) -> None:
    add = command.add_argument
    add("--alias", metavar="GLOB", help="only at chargeboxes of that name, as 'Harbour*'")
    add("--chargeboxes", metavar="FILE", help="only at these: one identifier a line")
    add("--tags", metavar="FILE", help="the id_tags that the list hides: a file as for stop-many")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="which is the default")
    form.add_argument("--jsonl", action="store_true", help="JSON lines in place of CSV")
    _add_address(command)


def _add_worker_options(command: Parser) -> None:
    command.add_argument("--nats", required=True, metavar="URL", help="such as nats://host:4222")
    _add_address(command)
    add = command.add_argument_group("where in NATS").add_argument
    add("--stream", default="THOR", metavar="NAME", help="of all three subjects (THOR)")
    add("--subject", default="thor.stop", metavar="S", help="of the commands (thor.stop)")
    add("--dead-letter", default="thor.stop.dead", metavar="S", help="(thor.stop.dead)")
    add("--outcomes", default="thor.stop.outcomes", metavar="S", help="(thor.stop.outcomes)")
    add = command.add_argument_group("how it serves").add_argument
    add("--max-in-flight", type=_count, default=32, metavar="N", help="commands at once (32)")
    add("--max-age", type=_seconds, default=600.0, metavar="SECONDS", help="see below (600)")
    add("--confirm", type=_seconds, metavar="SECONDS", help="done is what was seen to stop")
    add("--drain", type=_seconds, default=15.0, metavar="SECONDS", help="after SIGTERM (15)")
    add("--health-file", metavar="FILE", help="written every 5 s, with its state as JSON")


def _add_watch_options(command: Parser) -> None:
    add = command.add_argument_group("whether it stopped").add_argument
    add("--wait", type=_seconds, metavar="SECONDS", help="watch for so long whether it stopped")
    add("--pin", action="store_true", help="look first which charge runs, and stop only that one")


def _add_address(command: Parser) -> None:
    command.add_argument("--base-url", metavar="URL", help="in place of THOR_BASE_URL")
    command.add_argument("--read-url", metavar="URL", help="of the lists, if it is another one")
    command.add_argument("--api-key-file", metavar="FILE", help="in place of THOR_API_KEY")


def find_conflict(args: argparse.Namespace) -> str | None:
    """What is wrong with options that need others, if anything is."""
    if args.command != "stop-many":
        return None
    conflicts = {
        "--within does not go with --wait, which bounds each stop: give one of them": (
            args.wait is not None and args.within is not None
        ),
        "--yes needs --at-most N beside it: the most charges that you mean to stop": (
            args.yes and args.at_most is None
        ),
        "--output - is no file: leave it out to write to standard output": args.output == "-",
        "--resume needs --output FILE: the journal of the run before": (
            args.resume and args.output is None
        ),
        "--resend-unknown needs --resume": args.resend_unknown and not args.resume,
    }
    return next((problem for problem, is_there in conflicts.items() if is_there), None)


def _number(text: str) -> int:
    """As argparse's own `int`, whose message would show what may be a misplaced id_tag."""
    number = read_number(text)
    if number is None:
        raise argparse.ArgumentTypeError("must be a whole number")
    return number


def _count(text: str) -> int:
    number = _number(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("must be seconds, more than 0")
    return seconds
