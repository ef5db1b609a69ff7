"""What can be said on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .files import read_number

Run = Callable[[argparse.Namespace], int]

_OVERALL = """\
environment:
  THOR_API_KEY    the key, for stop and stop-many; it is never an argument
  THOR_BASE_URL   the address, unless --base-url gives one; default: Thor's own

exit status:
  0    everything is done
  1    something is left to do: resend, check or fix
  2    bad usage or bad input: nothing was sent
  130  interrupted

example: thor-async demo --charges 200
"""

_DEMO = """\
Stops charges of an emulator inside this process, shows what became of each command, and checks the
verdicts against what the emulator really did. It needs no account and talks to nothing else,
whatever the environment says.
"""
_DEMO_END = """\
stories, each one hard moment:
  outage       Thor refuses connections for a while in the middle of a batch
  wrong-key    Thor does not know the key
  next-driver  a stop works but is answered 500, and the next driver plugs in

exit status: 0 when the demo ran, also when some charges are not done, for that is what it shows;
1 when a verdict claimed more than happened or an outcome is missing.

example: thor-async demo --charges 1000 --faults 0.2
"""
_EMULATE = """\
Runs the emulator until Ctrl-C. Its first line of output is its address, its second the key.
"""
_EMULATE_END = "example: thor-async emulate --port 8080 --fleet fleet.csv\n"
_STOP = """\
Stops one charge and says in one line what happened and what to do. The key is in THOR_API_KEY.
"""
_STOP_END = "example: thor-async stop EaJ7cU9NJ3YkTNgy 2 0012847382 --transaction 52\n"
_STOP_MANY = """\
Stops the charges of a file and writes one line of JSON for each, as it ends. The file is read
first: if any row is bad, all bad rows are named and nothing is sent. It is CSV in UTF-8 with the
columns chargebox, connector, id_tag and transaction in any order; transaction may be empty, other
columns are ignored. The key is in THOR_API_KEY.
"""
_STOP_MANY_END = "example: thor-async stop-many fleet.csv > outcomes.jsonl\n"


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
        epilog=_OVERALL,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, description: str, epilog: str) -> Parser:
        command = commands.add_parser(name, help=summary, description=description, epilog=epilog)
        command.set_defaults(run=runs[name])
        return command

    _add_demo_options(add("demo", "show it, without an account", _DEMO, _DEMO_END))
    _add_emulate_options(add("emulate", "run a Thor to test against", _EMULATE, _EMULATE_END))
    _add_stop_options(add("stop", "stop one charge", _STOP, _STOP_END))
    _add_stop_many_options(
        add("stop-many", "stop the charges of a file", _STOP_MANY, _STOP_MANY_END)
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
    _add_address(command)


def _add_stop_many_options(command: Parser) -> None:
    command.add_argument("file", metavar="FILE.csv", help="- for standard input")
    _add_address(command)


def _add_address(command: Parser) -> None:
    command.add_argument("--base-url", metavar="URL", help="in place of THOR_BASE_URL")


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
