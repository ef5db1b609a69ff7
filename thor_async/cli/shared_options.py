"""Options that several commands have."""

from __future__ import annotations

import argparse

from . import option_types as types
from .completion import completes_files


def add_client_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--base-url", metavar="URL", help="in place of THOR_BASE_URL")
    command.add_argument("--read-url", metavar="URL", help="address of the lists, if it differs")
    command.add_argument("--proxy", metavar="URL", help="an HTTP proxy, which none is without this")
    completes_files(
        command.add_argument("--api-key-file", metavar="FILE", help="in place of THOR_API_KEY")
    )


def add_confirmation_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("confirmation").add_argument
    add(
        "--wait",
        type=types.seconds,
        metavar="SECONDS",
        help="watch for up to this time whether the charge stopped",
    )
    add(
        "--ensure",
        type=types.seconds,
        metavar="SECONDS",
        help="stop the charge again while it still runs, for up to this time",
    )
    add("--pin", action="store_true", help="look up which charge runs first, and stop only that")


def add_quiet_option(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--quiet", action="store_true", help=what)


def add_json_option(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--json", action="store_true", help=what)


def add_selection_options(command: argparse.ArgumentParser) -> None:
    """Adds the options that select running charges."""
    add = command.add_argument_group("which of the running charges").add_argument
    add("--site", metavar="NAME", help="only at this site: an alias without the number at its end")
    add("--alias", metavar="GLOB", help="only at chargeboxes with this name, as 'Harbour*'")
    add("--chargebox", metavar="ID", help="only at this chargebox")
    add(
        "--older-than",
        type=types.duration,
        metavar="DURATION",
        help="only charges that began this long ago: 90s, 30m, 12h or 2d",
    )
    add(
        "--min-energy",
        type=types.energy,
        metavar="WH",
        help="only charges that took at least this energy, in Wh as in Thor's list",
    )
    add("--type", metavar="TYPE", help="only charges of this type: local, remote or api")


def add_running_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    source = command.add_mutually_exclusive_group()
    completes_files(
        source.add_argument(
            "--file",
            metavar="FILE",
            help="list the rows of this file, as for stop-many, and say of each whether it runs",
        )
    )
    completes_files(
        source.add_argument(
            "--chargeboxes",
            metavar="FILE",
            help="only the chargeboxes of a file: one on each line",
        )
    )
    completes_files(
        add("--tags", metavar="FILE", help="a file with the hidden id_tags, as for stop-many")
    )
    output = command.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="write CSV (the default)")
    output.add_argument("--jsonl", action="store_true", help="write JSON lines")
    output.add_argument("--json", action="store_true", help="write one JSON array")
    add_quiet_option(command, "do not name what is left out")
    add_selection_options(command)
    add_client_options(command)
