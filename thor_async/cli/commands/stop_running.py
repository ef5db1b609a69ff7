"""`thor-async stop-running`: stops the charges that run and match."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import msgspec

from thor_async import RunningCharge, StopCharge

from ..charge_filters import Aliases, describe_unknown, needs_aliases, select_charges
from ..client_factory import make_client
from ..input.bad_rows import BadRows
from ..input.command_file import CommandFile
from ..input.commands import make_command
from ..input.csv_format import COLUMNS
from .running import read_lists
from .stop_many import check_arguments, stop_rows


def run(args: argparse.Namespace) -> int:
    """Stops the charges that run and match; 3 if one of them cannot be stopped."""
    check_arguments(args)
    charges, aliases = read_lists(make_client(args), needs_aliases=needs_aliases(args))
    selection = select_charges(args, charges, aliases)
    left_out = [
        f"{_describe(c)}: no {describe_unknown(c)} in the list: not stopped"
        for c in selection.unclear
    ]
    commands = list(_make_commands(selection.matching, aliases, left_out))
    command_file = _make_command_file(commands)
    command_file.bad_rows = BadRows(left_out, limit=len(left_out))
    return stop_rows(args, command_file)


def _make_commands(
    charges: list[RunningCharge], aliases: Aliases, left_out: list[str]
) -> Iterator[StopCharge]:
    """Yields the commands, each with its transaction; describes in `left_out` those without one."""
    for charge in charges:
        if charge.id_tag is None or charge.transaction is None:
            missing = "id_tag" if charge.id_tag is None else "transaction"
            left_out.append(f"{_describe(charge)}: no {missing} in the list: not stopped")
            continue
        ref = {
            "alias": aliases.get(charge.chargebox),
            "date_started": charge.date_started and charge.date_started.isoformat(),
            "type": charge.type,
        }
        try:
            yield make_command(
                charge.chargebox,
                charge.connector,
                charge.id_tag,
                charge.transaction,
                ref={name: value for name, value in ref.items() if value} or None,
            )
        except ValueError as error:
            left_out.append(f"{_describe(charge)}: {error}: not stopped")


def _make_command_file(commands: list[StopCharge]) -> CommandFile:
    """Returns the commands as JSON lines, as if these were the input of `stop-many`."""
    lines = (msgspec.json.encode(command) + b"\n" for command in commands)
    header = ",".join(COLUMNS).encode()
    return CommandFile("the running list", b"".join(lines) or header)


def _describe(charge: RunningCharge) -> str:
    return (
        f"chargebox {charge.chargebox!r} connector {charge.connector} transaction "
        f"{charge.transaction or 'unknown'}"
    )
