"""`thor-async dead`: lists, shows and sends again the dead letters of the workers."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import getpass
import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from nats.js import JetStreamContext

from thor_async import StopCharge
from thor_async.worker.dead_letters import (
    DeadLetter,
    Repeat,
    find_created,
    get_dead_letter,
    iterate_dead_letters,
    make_repeat,
)
from thor_async.worker.producer_headers import escape_header, find_producer_headers
from thor_async.worker.streams import Subjects

from ..errors import UsageError
from ..guards import check_count
from ..nats_connection import (
    find_duplicate_window,
    find_subjects,
    is_local,
    open_jetstream,
    reporting_errors,
)
from ..nats_login import show_servers
from ..nats_publisher import CommandMessage, CommandPublisher
from ..output.console import print_error
from ..output.durations import format_duration
from ..output.printable import encode_line, printable

_WIDTHS = (10, 8, 20, 9, 13)
_HEADINGS = ("number", "age", "chargebox", "connector", "maybe applied", "reason")


def run(args: argparse.Namespace) -> int:
    """Runs `list`, `show` or `send`."""
    find_subjects(args)
    actions = {"list": _list, "show": _show, "send": _send}
    return asyncio.run(actions[args.action](args))


async def _list(args: argparse.Namespace) -> int:
    subjects, count, now = find_subjects(args), 0, datetime.now(UTC)
    async with open_jetstream(args) as jetstream:
        with reporting_errors(subjects):
            async for letter in _find(jetstream, subjects, args.reason):
                if not count:
                    _print_row(_HEADINGS)
                count += 1
                _print_row(_describe(letter, now))
    print_error(f"{count:,} dead letters")
    return 0


async def _find(
    jetstream: JetStreamContext, subjects: Subjects, reason: str | None
) -> AsyncIterator[DeadLetter]:
    async for letter in iterate_dead_letters(jetstream, subjects):
        if reason is None or fnmatch.fnmatchcase(letter.reason, reason):
            yield letter


def _describe(letter: DeadLetter, now: datetime) -> tuple[str, ...]:
    command = letter.command
    place = ("-", "-")
    if isinstance(command, StopCharge):
        place = (command.chargebox, str(command.connector))
    age = format_duration(max((now - letter.stored).total_seconds(), 0.0))
    maybe_applied = "yes" if letter.maybe_applied else "no"
    return str(letter.sequence), age, *place, maybe_applied, letter.reason


def _print_row(cells: tuple[str, ...]) -> None:
    *left, last = map(printable, cells)
    print(*(cell.ljust(width) for cell, width in zip(left, _WIDTHS, strict=True)), last, sep="  ")


async def _show(args: argparse.Namespace) -> int:
    subjects = find_subjects(args)
    async with open_jetstream(args) as jetstream:
        with reporting_errors(subjects):
            letter = await _get(jetstream, subjects, args.number)
            created = await find_created(jetstream, subjects, letter)
    row = {
        "number": letter.sequence,
        "stored": letter.stored,
        "command_stored": created,
        "headers": letter.headers,
        "body": letter.show_body(),
    }
    print(encode_line(row).decode(), end="")
    return 0


async def _get(jetstream: JetStreamContext, subjects: Subjects, number: int) -> DeadLetter:
    letter = await get_dead_letter(jetstream, subjects, number)
    if letter is None:
        raise UsageError(f"{number} is no dead letter: take a number of thor-async dead list")
    return letter


async def _send(args: argparse.Namespace) -> int:
    """Sends all that can be sent, and names the others; returns 1 if there are any."""
    subjects = find_subjects(args)
    async with open_jetstream(args) as jetstream:
        window = await find_duplicate_window(jetstream, subjects)
        with reporting_errors(subjects):
            letters = await _select(args, jetstream, subjects)
            repeats = await _make_repeats(jetstream, subjects, letters)
        sender = _find_sender()
        messages = [_make_message(letter, repeat.body, sender) for letter, repeat in repeats]
        boxes = {repeat.command.chargebox for _, repeat in repeats}
        check_count(args, len(messages), show_servers(args), boxes.__len__, is_local=is_local(args))
        publisher = CommandPublisher(jetstream, subjects)
        status = await publisher.publish(messages, len(messages), window)
    if not status:
        print(f"sent {publisher.stored - publisher.duplicates:,} dead letters to {args.subject}")
    if publisher.duplicates:
        print(f"{publisher.duplicates:,} others were sent before, in the last {window:.0f} s")
    return status or int(len(letters) > len(messages))


async def _select(
    args: argparse.Namespace, jetstream: JetStreamContext, subjects: Subjects
) -> list[DeadLetter]:
    if args.reason is None:
        return [await _get(jetstream, subjects, number) for number in dict.fromkeys(args.number)]
    letters = [letter async for letter in _find(jetstream, subjects, args.reason)]
    if not letters:
        raise UsageError("no dead letter has such a reason: thor-async dead list shows them")
    return letters


async def _make_repeats(
    jetstream: JetStreamContext, subjects: Subjects, letters: list[DeadLetter]
) -> list[tuple[DeadLetter, Repeat]]:
    repeats = []
    now = datetime.now(UTC)
    for letter in letters:
        created = await find_created(jetstream, subjects, letter)
        try:
            repeats.append((letter, make_repeat(letter, created, now)))
        except ValueError as error:
            print_error(f"dead letter {letter.sequence} is not sent: {printable(str(error))}")
    return repeats


def _make_message(letter: DeadLetter, body: bytes, sender: str) -> CommandMessage:
    marks = {
        "Nats-Msg-Id": f"dead-{letter.sequence}-{letter.stored.timestamp():.6f}",
        "Thor-Dead-Sequence": str(letter.sequence),
        "Thor-Sent-By": sender,
    }
    headers = find_producer_headers(letter.headers) | marks
    return CommandMessage(body, headers)


def _find_sender() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run with a number that has no name
        user = str(os.getuid())
    return escape_header(f"{user}@{socket.gethostname()}")
