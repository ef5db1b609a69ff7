"""`thor-async running`: lists the running charges in the format that `stop-many` reads."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from thor_async import RunningCharge, ThorClient, ThorError

from ..client_factory import make_client
from ..errors import UsageError
from ..input.command_file import read_command_file
from ..input.csv_format import parse_text
from ..input.encodings import find_encoding
from ..output.console import print_error
from ..output.csv_rows import MASKED, format_csv
from ..output.printable import encode_line

_COLUMNS = ("chargebox", "connector", "id_tag", "transaction", "alias", "date_started", "energy")

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
    """Prints the running charges; 1 if some were left out."""
    client = make_client(args)
    tag_file = TagFile(args.tags)
    chargeboxes = _read_chargeboxes(args.chargeboxes)
    charges, aliases = read_lists(client, with_aliases=args.alias is not None)
    selected = (c for c in charges if chargeboxes is None or c.chargebox in chargeboxes)
    rows = list(_make_rows(selected, aliases, tag_file, args.alias))
    complete = [row for row in rows if row["id_tag"] is not None]
    _write(complete, as_json=args.jsonl)
    for row in rows:
        if row["id_tag"] is None:
            print_error(
                f"chargebox {row['chargebox']!r} connector {row['connector']} transaction "
                f"{row['transaction'] or 'unknown'}: no id_tag, left out: give it by --tags"
            )
    return 0 if len(complete) == len(rows) else 1


def read_lists(
    client: ThorClient, *, with_aliases: bool
) -> tuple[list[RunningCharge], dict[str, str | None]]:
    """Returns the running charges, and the alias of each chargebox if they are needed.

    Raises UsageError without a complete list.
    """
    try:
        return asyncio.run(_read_lists(client, with_aliases=with_aliases))
    except ThorError as error:
        raise UsageError(
            f"no list: {error.message}: run thor-async check to find the cause"
        ) from None


async def _read_lists(
    client: ThorClient, *, with_aliases: bool
) -> tuple[list[RunningCharge], dict[str, str | None]]:
    async with client as thor:
        charges = await thor.running_charges()
        chargeboxes = await thor.chargeboxes() if with_aliases else []
    return charges, {chargebox.id: chargebox.alias for chargebox in chargeboxes}


def _make_rows(
    charges: Iterable[RunningCharge],
    aliases: dict[str, str | None],
    tag_file: TagFile,
    glob: str | None,
) -> Iterator[Row]:
    """Yields the charges at chargeboxes whose alias matches `glob`, if that is given."""
    for charge in charges:
        alias = aliases.get(charge.chargebox)
        if glob is not None and not fnmatchcase((alias or "").casefold(), glob.casefold()):
            continue
        started = charge.date_started
        yield {
            "chargebox": charge.chargebox,
            "connector": charge.connector,
            "id_tag": charge.id_tag or tag_file.find(charge),
            "transaction": charge.transaction,
            "alias": alias,
            "date_started": None if started is None else started.isoformat(timespec="seconds"),
            "energy": charge.energy,
        }


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


def _write(rows: Iterable[Row], *, as_json: bool) -> None:
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        # Other people can read a screen.
        rows = [row | {"id_tag": MASKED} for row in rows]
        print_error(
            "id_tags are masked on a terminal: send the output to a file, or to "
            "thor-async stop-many -"
        )
    if as_json:
        text = b"".join(map(encode_line, rows)).decode()
    else:
        text = "".join(format_csv(_COLUMNS, rows, for_terminal=is_terminal))
    sys.stdout.write(text)
