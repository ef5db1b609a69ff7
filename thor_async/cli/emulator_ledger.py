"""Writes what really happened in an emulator, to compare with the journal of a rehearsal."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thor_async.emulator import ThorEmulator

from .output.printable import encode_line

Line = dict[str, Any]


def write_ledger(path: str, emulator: ThorEmulator) -> None:
    """Writes a line of JSON for each stop request, then one for each charge. No line has a tag."""
    offset = time.time() - asyncio.get_running_loop().time()
    lines = (*_find_requests(emulator, offset), *_find_charges(emulator, offset))
    Path(path).write_bytes(b"".join(map(encode_line, lines)))


def _find_requests(emulator: ThorEmulator, offset: float) -> Iterator[Line]:
    for request in emulator.ledger.requests:
        command = request.command
        yield {
            "at": _format_time(request.at, offset),
            "chargebox": command and command.chargebox,
            "connector": command and command.connector,
            "transaction": command and command.transaction,
            "status": request.status,
            "code": request.code,
            "relayed": request.effect,
        }


def _find_charges(emulator: ThorEmulator, offset: float) -> Iterator[Line]:
    """Yields the charges that ended, those that a chargebox refused to stop, and what runs."""
    ledger = emulator.ledger
    running = {charge.transaction: charge for charge in emulator.charges.values()}
    for transaction in sorted({*ledger.ended, *ledger.refused, *running}):
        yield {
            "charge": transaction,
            "ended": _format_time(ledger.ended.get(transaction), offset),
            "refused": _format_time(ledger.refused.get(transaction), offset),
            "runs_for_thor": transaction in running,
        }


def _format_time(at: float | None, offset: float) -> str | None:
    """Returns the time of the loop as UTC; None without one, or before the emulator ran."""
    if at is None or at == -math.inf:
        return None
    return datetime.fromtimestamp(at + offset, UTC).isoformat(timespec="milliseconds")
