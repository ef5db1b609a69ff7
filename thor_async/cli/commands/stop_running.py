"""`thor-async stop-running`: stops the charges that run and match."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from thor_async import RunningCharge, StopCharge

from ..client_factory import make_client
from ..errors import UsageError
from ..input.bad_rows import BadRows
from ..input.command_file import CommandFile
from ..input.commands import make_command
from ..input.csv_format import COLUMNS
from .running import read_lists
from .stop_many import check_arguments, stop_rows

_NEAREST = 3
_CUTOFF = 0.4

Aliases = Mapping[str, str | None]


class Selection(NamedTuple):
    """The charges that match, and those of which it is not known whether they match."""

    matching: list[RunningCharge]
    unclear: list[RunningCharge]


def run(args: argparse.Namespace) -> int:
    """Stops the charges that run and match; 3 if one of them cannot be stopped."""
    check_arguments(args)
    charges, aliases = read_lists(make_client(args), with_aliases=args.alias is not None)
    selection = _select(args, charges, aliases)
    left_out = [
        f"{_describe(c)}: no start time in the list: not stopped" for c in selection.unclear
    ]
    commands = list(_make_commands(selection.matching, aliases, left_out))
    command_file = _make_command_file(commands)
    command_file.bad_rows = BadRows(left_out, limit=len(left_out))
    return stop_rows(args, command_file)


def _select(args: argparse.Namespace, charges: list[RunningCharge], aliases: Aliases) -> Selection:
    """Applies one filter after the other. Raises UsageError if one of them matches nothing."""
    if args.chargebox is not None:
        names = {charge.chargebox for charge in charges}
        charges = [charge for charge in charges if charge.chargebox == args.chargebox]
        _check_match("--chargebox", args.chargebox, charges, names)
    if args.alias is not None:
        matches = [c for c in charges if _matches_alias(args.alias, aliases.get(c.chargebox))]
        names = {alias for c in charges if (alias := aliases.get(c.chargebox))}
        _check_match("--alias", args.alias, matches, names or set(filter(None, aliases.values())))
        charges = matches
    if args.type is not None:
        matches = [c for c in charges if (c.type or "").casefold() == args.type.casefold()]
        _check_match("--type", args.type, matches, {c.type for c in charges if c.type})
        charges = matches
    if args.older_than is None:
        return Selection(charges, [])
    return _select_by_age(charges, timedelta(seconds=args.older_than))


def _select_by_age(charges: list[RunningCharge], age: timedelta) -> Selection:
    latest_start = datetime.now(UTC) - age
    old = [c for c in charges if c.date_started is not None and c.date_started <= latest_start]
    unclear = [c for c in charges if c.date_started is None]
    if not old and not unclear:
        raise UsageError(f"no charge that matches runs longer than {age}: nothing was sent")
    return Selection(old, unclear)


def _matches_alias(glob: str, alias: str | None) -> bool:
    return fnmatchcase((alias or "").casefold(), glob.casefold())


def _check_match(
    option: str, wanted: str, matches: list[RunningCharge], names: Iterable[str]
) -> None:
    """Raises UsageError, with the nearest of these names, if no charge matches."""
    if matches:
        return
    originals = {name.casefold(): name for name in sorted(names)}
    text = wanted.casefold().strip("*?")
    near = difflib.get_close_matches(text, originals, _NEAREST, _CUTOFF)
    shown = ", ".join(repr(originals[name]) for name in near or list(originals)[:_NEAREST])
    hint = f"the nearest names are {shown}" if shown else "no charge runs that it could match"
    raise UsageError(f"{option} {wanted!r} matches no running charge: {hint}")


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
