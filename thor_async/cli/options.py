"""The options of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import option_types as types
from .batch_options import add_stop_many_options, add_stop_running_options
from .completion import completes_files
from .emulator_options import add_emulate_options
from .nats_options import (
    add_dead_options,
    add_init_options,
    add_login_options,
    add_publish_options,
    add_seen_options,
    add_subject_options,
)
from .rate_option import add_rate_option
from .shared_options import (
    add_client_options,
    add_confirmation_options,
    add_json_option,
    add_quiet_option,
    add_running_options,
)


def _add_check_options(command: argparse.ArgumentParser) -> None:
    add_quiet_option(command, "print only what failed")
    add_json_option(command, "print one JSON object")
    add_client_options(command)


def _add_demo_options(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group()
    source.add_argument(
        "--charges", type=types.count, metavar="COUNT", help="number of charges (1000)"
    )
    completes_files(
        source.add_argument(
            "--fleet", metavar="FILE.csv", help="a file of charges, as for stop-many"
        )
    )
    mode = command.add_mutually_exclusive_group()
    mode.add_argument(
        "--faults",
        type=types.probability,
        default=0.0,
        metavar="PROBABILITY",
        help="probability, from 0 to 1, that a request meets an error or a dropped connection (0)",
    )
    stories = ("outage", "rate-limit", "wrong-key", "next-driver")
    mode.add_argument("--story", choices=stories, help="see below")
    command.add_argument(
        "--seed",
        type=types.integer,
        default=0,
        metavar="NUMBER",
        help="the faults are the same for the same number (0)",
    )
    completes_files(
        command.add_argument(
            "--report", metavar="FILE.html", help="a page about all charges, as of stop-many"
        )
    )
    command.set_defaults(operator=None)


def _add_stop_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "chargebox", metavar="CHARGEBOX", help="Thor's identifier of the chargebox"
    )
    command.add_argument(
        "connector", metavar="CONNECTOR", type=types.integer, help="its number, from 1"
    )
    command.add_argument("id_tag", metavar="ID_TAG", help="the tag that started the charge")
    command.add_argument(
        "--transaction",
        type=types.integer,
        metavar="NUMBER",
        help="the number of the charge: with it, no later charge can be stopped by mistake",
    )
    add_confirmation_options(command)
    # A value may be missing, and then the id_tag is taken for it.
    add_rate_option(command.add_argument, shows_value=False)
    add_quiet_option(command, "print nothing if nothing is left to do")
    add_json_option(command, "print one JSON object in place of the sentence")
    add_client_options(command)


def _add_status_options(command: argparse.ArgumentParser) -> None:
    completes_files(
        command.add_argument("journal", metavar="JOURNAL", help="the --output of stop-many")
    )
    completes_files(
        command.add_argument(
            "file",
            metavar="FILE",
            nargs="?",
            help="its input; only for --remaining without a copy",
        )
    )
    output = command.add_mutually_exclusive_group()
    output.add_argument(
        "--remaining", action="store_true", help="write the rows that are left, as CSV"
    )
    output.add_argument("--json", action="store_true", help="print one JSON object")


def _add_worker_options(command: argparse.ArgumentParser) -> None:
    add_login_options(command)
    add_client_options(command)
    add_subject_options(command)
    add = command.add_argument_group("how commands are served").add_argument
    add(
        "--max-in-flight",
        type=types.count,
        default=32,
        metavar="COUNT",
        help="commands at a time (32)",
    )
    add_rate_option(add, "--max-rate")
    add("--max-age", type=types.seconds, default=600.0, metavar="SECONDS", help="see below (600)")
    add(
        "--confirm",
        type=types.seconds,
        metavar="SECONDS",
        help="watch each charge up to this time: only a charge seen to stop is done",
    )
    add(
        "--drain",
        type=types.seconds,
        default=15.0,
        metavar="SECONDS",
        help="time after SIGTERM for commands in progress (15)",
    )
    add(
        "--tolerant",
        action="store_true",
        help="ignore unknown fields of a command; otherwise it is a dead letter",
    )
    add_seen_options(command)
    add_init_options(command)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "check": _add_check_options,
    "dead": add_dead_options,
    "demo": _add_demo_options,
    "emulate": add_emulate_options,
    "publish": add_publish_options,
    "running": add_running_options,
    "stop": _add_stop_options,
    "stop-many": add_stop_many_options,
    "status": _add_status_options,
    "stop-running": add_stop_running_options,
    "worker": _add_worker_options,
}
"""The commands, each with the function that adds its options; `commands/` has their modules."""
