"""Parses the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from thor_async import __version__

from . import help_texts
from .completion import SHELLS, PrintCompletion
from .conflicts import find_conflict
from .misspellings import describe_unknown, find_misspelled_command, find_misspelled_option
from .options import COMMANDS


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports an error in one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    @property
    def option_names(self) -> list[str]:
        """The options of this command, and of the actions that it has."""
        names = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action.choices, dict):
                names += [
                    name for parser in action.choices.values() for name in parser.option_names
                ]
        return names

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the arguments; `command` of the result is the name of the command.

    Raises SystemExit after it has printed the help or an error.
    """
    given = sys.argv[1:] if argv is None else argv
    parser, commands = _make_parsers()
    _check_spelling(given, parser, commands)
    args, unknown = parser.parse_known_args(given)
    command = commands[args.command]
    problem = describe_unknown(unknown) if unknown else find_conflict(args)
    if problem is not None:
        command.error(problem)
    return args


def _check_spelling(argv: Sequence[str], parser: Parser, commands: Mapping[str, Parser]) -> None:
    """Ends with the nearest right word: argparse would first ask for what is missing."""
    problem = find_misspelled_command(argv, commands)
    command = commands.get(argv[0], parser) if argv else parser
    problem = problem or find_misspelled_option(argv, command.option_names)
    if problem is not None:
        command.error(problem)


def _make_parsers() -> tuple[Parser, dict[str, Parser]]:
    """Returns the parser, and those of the commands by name."""
    parser = Parser(
        prog="thor-async",
        description="Stops charges through Thor's API, and says what happened to each one.",
        epilog=help_texts.OVERALL,
    )
    parser.add_argument("--version", action="version", version=f"thor-async {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        help="print the completion of all commands and options for this shell",
    )
    actions = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands: dict[str, Parser] = {}
    for name, add_options in COMMANDS.items():
        summary, description, epilog = help_texts.COMMANDS[name]
        command = actions.add_parser(name, help=summary, description=description, epilog=epilog)
        add_options(command)
        commands[name] = command
    return parser, commands
