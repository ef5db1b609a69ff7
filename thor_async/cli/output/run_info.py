"""Who asked for a run, on which machine and with which command, for the head of a report."""

from __future__ import annotations

import argparse
import getpass
import platform
import secrets

import msgspec

from thor_async import __version__

from .printable import printable

_RUN_ID_BYTES = 6


class RunInfo(msgspec.Struct, frozen=True):
    """What the start line of a run says about it, beside what the next run needs.

    `run` is its id, `operator` who asked for it (None if that is unknown), `command` the command
    without secrets, and `lists` the address of the running lists.
    """

    run: str
    operator: str | None
    machine: str
    command: str
    version: str
    lists: str


def describe_run(args: argparse.Namespace, lists: str) -> RunInfo:
    """Returns what is known of a run that begins now, with a new id."""
    operator = args.operator or _login_name()
    return RunInfo(
        run=secrets.token_hex(_RUN_ID_BYTES),
        operator=None if operator is None else printable(operator),
        machine=printable(platform.node()),
        command=args.command_line,
        version=__version__,
        lists=lists,
    )


def _login_name() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None  # a container may have a user without a name
