"""`thor-async running`: lists the running charges in the format that `stop-many` reads."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from thor_async import RunningCharge, ThorClient, ThorError

from ..charge_filters import Aliases, describe_unknown, needs_aliases, select_charges
from ..client_factory import make_client
from ..errors import UsageError
from ..input.command_file import CommandFile, read_command_file
from ..input.csv_format import parse_text
from ..input.encodings import find_encoding
from ..output.console import print_error
from ..output.csv_rows import MASKED, find_columns, format_csv, make_row
from ..output.printable import encode_line

_COLUMNS = (
    *("chargebox", "connector", "id_tag", "transaction"),
    *("alias", "date_started", "energy_wh", "type"),
)

Row = dict[str, Any]


class TagFile:
    """The id_tags of a file; a row without a transaction is for every charge of its connector."""

    def __init__(self, path: str | None) -> None:
        commands = () if path is None else read_command_file(path)
        self._tags = {
            (command.chargebox, command.connector, command.transaction): command.id_tag
            for command in commands
        }

    def find(self, charge: RunningCharge) -> str | None:
        connector = charge.chargebox, charge.connector
        default = self._tags.get((*connector, None))
        return self._tags.get((*connector, charge.transaction), default)


def run(args: argparse.Namespace) -> int:
    """Prints the running charges; 1 if some were left out, or if a row of a file does not run."""
    if args.file is not None:
        return _compare_file(args, read_command_file(args.file))
    client, tag_file = make_client(args), TagFile(args.tags)
    chargeboxes = _read_chargeboxes(args.chargeboxes)
    charges, aliases = read_lists(client, needs_aliases=needs_aliases(args))
    if chargeboxes is not None:
        charges = [charge for charge in charges if charge.chargebox in chargeboxes]
    selection = select_charges(args, charges, aliases)
    rows = [_make_row(charge, aliases, tag_file) for charge in selection.matching]
    complete = [row for row in rows if row["id_tag"] is not None]
    _write(args, _COLUMNS, complete)
    if not args.quiet:
        _print_left_out(rows, selection.unclear)
    return 0 if len(complete) == len(rows) and not selection.unclear else 1


def read_lists(
    client: ThorClient, *, needs_aliases: bool
) -> tuple[list[RunningCharge], dict[str, str | None]]:
    """Returns the running charges, and the alias of each chargebox.

    Raises UsageError without a complete list; without `needs_aliases`, a list of chargeboxes that
    fails is only a warning.
    """
    try:
        return asyncio.run(_read_lists(client, needs_aliases=needs_aliases))
    except ThorError as error:
        raise UsageError(
            f"no list: {error.message}: run thor-async check to find the cause"
        ) from None


async def _read_lists(
    client: ThorClient, *, needs_aliases: bool
) -> tuple[list[RunningCharge], dict[str, str | None]]:
    async with client as thor:
        charges = await thor.running_charges()
        try:
            chargeboxes = await thor.chargeboxes()
        except ThorError as error:
            if needs_aliases:
                raise
            print_error(f"no aliases, because of the list of chargeboxes: {error.message}")
            chargeboxes = []
    return charges, {chargebox.id: chargebox.alias for chargebox in chargeboxes}


def _compare_file(args: argparse.Namespace, command_file: CommandFile) -> int:
    """Prints the rows of a file, and of each whether its charge runs now; 0 if all do."""
    charges, aliases = read_lists(make_client(args), needs_aliases=False)
    running = {(charge.chargebox, charge.connector): charge for charge in charges}
    rows, counts = [], {"yes": 0, "no": 0, "other": 0}
    for command in command_file:
        charge = running.get((command.chargebox, command.connector))
        state = "no"
        if charge is not None:
            is_other = command.transaction not in {None, charge.transaction}
            state = "other" if is_other else "yes"
        counts[state] += 1
        alias = aliases.get(command.chargebox)
        rows.append(make_row(command) | ({"alias": alias} if alias else {}) | {"running": state})
    _write(args, [*dict.fromkeys([*find_columns(command_file), "alias", "running"])], rows)
    if not args.quiet:
        print_error(
            f"of {len(rows):,} rows, {counts['yes']:,} run now, {counts['no']:,} are not in the "
            f"list, and at {counts['other']:,} another charge runs"
        )
    return 0 if counts["yes"] == len(rows) else 1


def _make_row(charge: RunningCharge, aliases: Aliases, tag_file: TagFile) -> Row:
    started = charge.date_started
    return {
        "chargebox": charge.chargebox,
        "connector": charge.connector,
        "id_tag": charge.id_tag or tag_file.find(charge),
        "transaction": charge.transaction,
        "alias": aliases.get(charge.chargebox),
        "date_started": None if started is None else started.isoformat(timespec="seconds"),
        "energy_wh": charge.energy,
        "type": charge.type,
    }


def _print_left_out(rows: Iterable[Row], unclear: Iterable[RunningCharge]) -> None:
    for row in rows:
        if row["id_tag"] is None:
            print_error(
                f"chargebox {row['chargebox']!r} connector {row['connector']} transaction "
                f"{row['transaction'] or 'unknown'}: no id_tag, left out: give it by --tags"
            )
    for charge in unclear:
        print_error(
            f"chargebox {charge.chargebox!r} connector {charge.connector}: no "
            f"{describe_unknown(charge)} in the list, left out"
        )


def _read_chargeboxes(path: str | None) -> set[str] | None:
    """Returns the chargeboxes of a file, one on each line; None without a file."""
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {path} ({error.strerror}): give a file with one chargebox on each line"
        ) from None
    encoding = find_encoding(path, content)
    print_error(*encoding.warnings(path))
    lines = encoding.to_utf_8(content).decode().splitlines()
    return {parse_text(line) for line in lines if line.strip()}


def _write(args: argparse.Namespace, columns: Sequence[str], rows: Iterable[Row]) -> None:
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        # Other people can read a screen.
        rows = [row | {"id_tag": MASKED} for row in rows]
        if not args.quiet:
            print_error(
                "id_tags are masked on a terminal: send the output to a file, or to "
                "thor-async stop-many -"
            )
    sys.stdout.writelines(_format(args, columns, rows, for_terminal=is_terminal))


def _format(
    args: argparse.Namespace, columns: Sequence[str], rows: Iterable[Row], *, for_terminal: bool
) -> Iterator[str]:
    if args.json:
        yield encode_line(list(rows)).decode()
    elif args.jsonl:
        yield from (encode_line(row).decode() for row in rows)
    else:
        yield from format_csv(columns, rows, for_terminal=for_terminal)
