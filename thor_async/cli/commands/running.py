"""`thor-async running`: the charges that run now, as `stop-many` takes them."""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from thor_async import RunningCharge, ThorClient, ThorError

from ..client_factory import make_client
from ..errors import UsageError
from ..input.command_file import read_command_file
from ..output.console import print_error

_COLUMNS = ("chargebox", "connector", "id_tag", "transaction", "alias", "date_started", "energy")
_MASKED = "***"

Row = dict[str, Any]


class Tags:
    """The id_tags of a file: by transaction, or by connector where a row has no transaction."""

    def __init__(self, path: str | None) -> None:
        commands = () if path is None else read_command_file(path)
        self._known = {
            (command.chargebox, command.connector, command.transaction): command.id_tag
            for command in commands
        }

    def find(self, charge: RunningCharge) -> str | None:
        place = charge.chargebox, charge.connector
        return self._known.get((*place, charge.transaction), self._known.get((*place, None)))


def running(args: argparse.Namespace) -> int:
    """Prints the running charges; 1 when some had to be left out."""
    client = make_client(args)
    tags = Tags(args.tags)
    wanted = _read_names(args.chargeboxes)
    try:
        charges, aliases = asyncio.run(_ask(client, is_named=args.alias is not None))
    except ThorError as error:
        raise UsageError(f"no list: {error.message}: thor-async check says more") from None
    rows = list(_rows(charges, aliases, tags, args.alias, wanted))
    whole = [row for row in rows if row["id_tag"] is not None]
    _write(whole, _as_json if args.jsonl else _as_csv)
    for row in rows:
        if row["id_tag"] is None:
            where = f"chargebox {row['chargebox']!r} connector {row['connector']}"
            print_error(
                f"{where} transaction {row['transaction']}: no id_tag, left out: give it by --tags"
            )
    return 0 if len(whole) == len(rows) else 1


async def _ask(
    client: ThorClient, *, is_named: bool
) -> tuple[list[RunningCharge], dict[str, str | None]]:
    async with client as thor:
        charges = await thor.running_charges()
        chargeboxes = await thor.chargeboxes() if is_named else []
    return charges, {chargebox.id: chargebox.alias for chargebox in chargeboxes}


def _rows(
    charges: Iterable[RunningCharge],
    aliases: dict[str, str | None],
    tags: Tags,
    glob: str | None,
    wanted: set[str] | None,
) -> Iterator[Row]:
    for charge in charges:
        alias = aliases.get(charge.chargebox)
        if glob is not None and not fnmatchcase((alias or "").casefold(), glob.casefold()):
            continue
        if wanted is not None and charge.chargebox not in wanted:
            continue
        started = charge.date_started
        yield {
            "chargebox": charge.chargebox,
            "connector": charge.connector,
            "id_tag": charge.id_tag or tags.find(charge),
            "transaction": charge.transaction,
            "alias": alias,
            "date_started": None if started is None else started.isoformat(timespec="seconds"),
            "energy": charge.energy,
        }


def _read_names(path: str | None) -> set[str] | None:
    """The chargeboxes of a file, one a line."""
    if path is None:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"cannot read {path} ({why}): give one chargebox a line") from None
    return {line.strip() for line in text.splitlines() if line.strip()}


def _write(rows: Iterable[Row], form: Callable[[Iterable[Row]], str]) -> None:
    if sys.stdout.isatty():
        # On a screen they are of no use, and everybody can read them there.
        rows = [row | {"id_tag": _MASKED} for row in rows]
        print_error(
            "id_tags are masked on a terminal: send this to a file, or to thor-async stop-many -"
        )
    sys.stdout.write(form(rows))


def _as_csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_json(rows: Iterable[Row]) -> str:
    return "".join(f"{msgspec.json.encode(row).decode()}\n" for row in rows)
