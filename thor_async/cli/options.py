"""The options of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .emulator_options import add_emulate_options
from .nats_options import (
    add_dead_options,
    add_init_options,
    add_login_options,
    add_publish_options,
    add_seen_options,
)
from .option_types import parse_count as _count
from .option_types import parse_duration as _duration
from .option_types import parse_integer as _integer
from .option_types import parse_seconds as _seconds
from .rate_option import add_rate_option


def _add_demo_options(command: argparse.ArgumentParser) -> None:
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
    stories = ("outage", "rate-limit", "wrong-key", "next-driver")
    mode.add_argument("--story", choices=stories, help="see below")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the faults (0)")


def _add_stop_options(command: argparse.ArgumentParser) -> None:
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
    # A value may be missing, and then the id_tag is taken for it.
    add_rate_option(command.add_argument, shows_value=False)
    _add_client_options(command)


def _add_stop_many_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="CSV or JSON lines; - for standard input; --resume needs none after standard input",
    )
    add_selection = _add_batch_options(command)
    add_selection("--skip-bad", action="store_true", help="leave out the rows that cannot be used")
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


def _add_batch_options(command: argparse.ArgumentParser) -> Callable[..., object]:
    """Adds what the commands that stop many charges share.

    Returns the function that adds an option that selects charges.
    """
    _add_client_options(command)
    add = command.add_argument_group("which charges are stopped").add_argument
    add("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    add("--yes", action="store_true", help="do not ask for confirmation; needs --at-most")
    add("--at-most", type=_count, metavar="N", help="send nothing if there are more charges")
    _add_confirmation_options(command)
    _add_pace_options(command)
    _add_output_options(command)
    return add


def _add_pace_options(command: argparse.ArgumentParser) -> None:
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
    add_rate_option(add)
    over = "spread the stops evenly over this time: for a rate limit too, see below"
    add("--over", type=_seconds, metavar="SECONDS", help=over)


def _add_output_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("what is written").add_argument
    add(
        "--output",
        metavar="FILE.jsonl",
        help="the journal: an outcome on each line; default: standard output",
    )
    add("--no-lock", action="store_true", help="write it also where no file can be locked")
    add("--report", metavar="FILE.html", help="a page about all charges, for any browser")


def _add_stop_running_options(command: argparse.ArgumentParser) -> None:
    add = _add_batch_options(command)
    add("--alias", metavar="GLOB", help="only at chargeboxes with this name, as 'Harbour*'")
    add("--chargebox", metavar="ID", help="only at this chargebox")
    add(
        "--older-than",
        type=_duration,
        metavar="DURATION",
        help="only charges that began this long ago: 90s, 30m, 12h or 2d",
    )
    add("--type", metavar="T", help="only charges of this type: local, remote or api")
    command.set_defaults(resume=False, repair=False, resend=None, resend_unknown=False, file="-")


def _add_status_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("journal", metavar="JOURNAL", help="the --output of stop-many")
    command.add_argument(
        "file", metavar="FILE", nargs="?", help="its input; only for --remaining without a copy"
    )
    command.add_argument(
        "--remaining", action="store_true", help="write the rows that are left, as CSV"
    )


def _add_running_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--alias", metavar="GLOB", help="only chargeboxes with this name, as 'Harbour*'")
    add("--chargeboxes", metavar="FILE", help="only the chargeboxes of a file: one on each line")
    add("--tags", metavar="FILE", help="a file with the hidden id_tags, as for stop-many")
    output = command.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="write CSV (the default)")
    output.add_argument("--jsonl", action="store_true", help="write JSON lines")
    _add_client_options(command)


def _add_worker_options(command: argparse.ArgumentParser) -> None:
    add_login_options(command)
    _add_client_options(command)
    add = command.add_argument_group("stream and subjects").add_argument
    add("--stream", default="THOR", metavar="NAME", help="stream of all three subjects (THOR)")
    add("--subject", default="thor.stop", metavar="S", help="of the commands (thor.stop)")
    add("--dead-letter", default="thor.stop.dead", metavar="S", help="(thor.stop.dead)")
    add("--outcomes", default="thor.stop.outcomes", metavar="S", help="(thor.stop.outcomes)")
    add = command.add_argument_group("how commands are served").add_argument
    add("--max-in-flight", type=_count, default=32, metavar="N", help="commands at a time (32)")
    add_rate_option(add, "--max-rate")
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
    add(
        "--tolerant",
        action="store_true",
        help="ignore unknown fields of a command; otherwise it is a dead letter",
    )
    add_seen_options(command)
    add_init_options(command)


def _add_confirmation_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("confirmation").add_argument
    add(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help="watch for up to this time whether the charge stopped",
    )
    add(
        "--ensure",
        type=_seconds,
        metavar="SECONDS",
        help="stop the charge again while it still runs, for up to this time",
    )
    add("--pin", action="store_true", help="look up which charge runs first, and stop only that")


def _add_client_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--base-url", metavar="URL", help="in place of THOR_BASE_URL")
    command.add_argument("--read-url", metavar="URL", help="address of the lists, if it differs")
    command.add_argument("--proxy", metavar="URL", help="an HTTP proxy, which none is without this")
    command.add_argument("--api-key-file", metavar="FILE", help="in place of THOR_API_KEY")


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "check": _add_client_options,
    "dead": add_dead_options,
    "demo": _add_demo_options,
    "emulate": add_emulate_options,
    "publish": add_publish_options,
    "running": _add_running_options,
    "stop": _add_stop_options,
    "stop-many": _add_stop_many_options,
    "status": _add_status_options,
    "stop-running": _add_stop_running_options,
    "worker": _add_worker_options,
}
"""The commands, each with the function that adds its options; `commands/` has their modules."""
