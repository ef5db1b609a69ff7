"""The options of the commands that stop many charges."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import option_types as types
from .completion import completes_files
from .rate_option import add_rate_option
from .shared_options import (
    add_client_options,
    add_confirmation_options,
    add_json_option,
    add_quiet_option,
    add_selection_options,
)


def add_stop_many_options(command: argparse.ArgumentParser) -> None:
    completes_files(
        command.add_argument(
            "file",
            metavar="FILE",
            nargs="?",
            help="CSV or JSON lines; - for standard input; --resume needs none after standard "
            "input",
        )
    )
    add_guard = _add_batch_options(command)
    add_guard("--skip-bad", action="store_true", help="leave out the rows that cannot be used")
    add = command.add_argument_group("continuing an earlier run").add_argument
    add("--resume", action="store_true", help="continue the journal of --output, or begin it")
    add(
        "--resend",
        choices=("fix",),
        help="with --resume: send the rows again that were corrected at Thor or in the account",
    )
    add("--repair", action="store_true", help="with --resume: go on with a damaged journal")
    # An old option: --resume looks at these rows itself.
    add("--resend-unknown", action="store_true", help=argparse.SUPPRESS)


def add_stop_running_options(command: argparse.ArgumentParser) -> None:
    _add_batch_options(command)
    add_selection_options(command)
    command.set_defaults(resume=False, repair=False, resend=None, resend_unknown=False, file="-")


def _add_batch_options(command: argparse.ArgumentParser) -> Callable[..., object]:
    """Adds what these commands share, and returns the function that adds a guard."""
    add_client_options(command)
    add = command.add_argument_group("guards").add_argument
    add("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    add("--yes", action="store_true", help="do not ask for confirmation; needs --at-most")
    add(
        "--at-most",
        type=types.count,
        metavar="COUNT",
        help="send nothing if there are more charges",
    )
    add(
        "--canary",
        type=types.count,
        default=0,
        metavar="COUNT",
        help="send the other rows only after the first COUNT charges were seen to stop",
    )
    add(
        "--go-on",
        action="store_true",
        help="send the rest also if Thor knows none of the first 50 chargeboxes",
    )
    add_confirmation_options(command)
    _add_pace_options(command)
    _add_output_options(command)
    return add


def _add_pace_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("how fast they are sent").add_argument
    add(
        "--max-in-flight",
        type=types.count,
        metavar="COUNT",
        help="requests that wait for their answers at a time, at most (32)",
    )
    add(
        "--attempts",
        type=types.count,
        metavar="COUNT",
        help="times that a stop is sent if Thor answers 5xx, the first time included (3)",
    )
    add(
        "--within",
        type=types.seconds,
        metavar="SECONDS",
        help="end the batch after this time",
    )
    add_rate_option(add)
    add(
        "--over",
        type=types.seconds,
        metavar="SECONDS",
        help="spread the stops over this time: for your rate limit too, if they are even",
    )
    add(
        "--spread",
        choices=("even", "random"),
        help="with --over: one row every so often (the default), or each at a random time, "
        "because a grid wants no step in its load",
    )


def _add_output_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("what is written").add_argument
    completes_files(
        add(
            "--output",
            metavar="FILE.jsonl",
            help="the journal: an outcome on each line; default for more than one charge: "
            "thor-stops-TIME.jsonl beside the file",
        )
    )
    add(
        "--no-journal",
        action="store_true",
        help="write the outcomes on standard output only; then no run can continue this one",
    )
    add("--no-lock", action="store_true", help="write it also where no file can be locked")
    completes_files(
        add("--report", metavar="FILE.html", help="a page about all charges, for any browser")
    )
    add(
        "--operator",
        type=types.name,
        metavar="NAME",
        help="who asked for it, for the journal and the report (your login name)",
    )
    add_quiet_option(command, "print neither progress nor summary, only what is wrong")
    add_json_option(command, "with --dry-run: print it as one JSON object")
