"""`thor-async publish`: puts the charges of a file on the subject of the workers."""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from ..errors import UsageError
from ..guards import check_count
from ..input.command_file import CommandFile, read_command_file
from ..nats_connection import (
    find_duplicate_window,
    find_subjects,
    is_local,
    open_jetstream,
)
from ..nats_login import show_servers
from ..nats_publisher import CommandMessage, CommandPublisher
from .stop_many import print_left_out_rows


def run(args: argparse.Namespace) -> int:
    """Publishes a command for each row, and returns 1 if not all of them are stored."""
    find_subjects(args)
    command_file = read_command_file(args.file, skip_bad=args.skip_bad)
    print_left_out_rows(command_file)
    if not command_file:
        raise UsageError("no row can be used: nothing was sent")
    return asyncio.run(_publish(args, command_file))


async def _publish(args: argparse.Namespace, command_file: CommandFile) -> int:
    subjects, total = find_subjects(args), len(command_file)
    async with open_jetstream(args) as jetstream:
        window = await find_duplicate_window(jetstream, subjects)
        check_count(
            args,
            total,
            show_servers(args),
            functools.partial(command_file.count_chargeboxes, range(total)),
            is_local=is_local(args),
        )
        publisher = CommandPublisher(jetstream, subjects)
        status = await publisher.publish(_make_messages(args, command_file), total, window)
    if not status:
        _print_count(args, publisher, window)
    return status


def _make_messages(args: argparse.Namespace, command_file: CommandFile) -> Iterator[CommandMessage]:
    """Yields the rows with an `as_of`, each with the same id whenever this file is published."""
    now = datetime.now(UTC)
    # JetStream looks for the id among the messages of all subjects of the stream.
    file = f"{command_file.digest} {args.subject} {args.as_of or ''}"
    for row, command in enumerate(command_file):
        dated = msgspec.structs.replace(command, as_of=command.as_of or args.as_of or now)
        name = f"{file} {command_file.line_number(row)}"
        headers = {"Nats-Msg-Id": hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}
        yield CommandMessage(msgspec.json.encode(dated), headers)


def _print_count(args: argparse.Namespace, publisher: CommandPublisher, window: float) -> None:
    print(f"published {publisher.stored - publisher.duplicates:,} commands to {args.subject}")
    if publisher.duplicates:
        print(
            f"{publisher.duplicates:,} others were there already: this file was published in the "
            f"last {window:.0f} s"
        )
