"""How a command gets at Thor: the address, the key, the client, and who must agree first."""

from __future__ import annotations

import argparse
import getpass
import io
import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from thor_async import RetryPolicy, ThorClient
from thor_async._config import resolve_addresses
from thor_async._telemetry.emitter import OnEvent

from .errors import UsageError

TERMINAL = "/dev/tty"


def find_addresses(args: argparse.Namespace) -> tuple[str, str]:
    """Where stops would go, and lists come from. Raises BadInput for what no client would take."""
    try:
        return resolve_addresses(args.base_url, args.read_url, allow_http=False)
    except ValueError as error:
        raise UsageError(str(error)) from None


def make_client(args: argparse.Namespace, on_event: OnEvent = None) -> ThorClient:
    """A client with the key and the settings that were given."""
    settings = {"max_in_flight": getattr(args, "max_in_flight", None)}
    attempts = getattr(args, "attempts", None)
    if attempts is not None:
        settings["retry"] = RetryPolicy(max_attempts=attempts)
    given = {name: value for name, value in settings.items() if value is not None}
    find_addresses(args)  # before anyone is asked for a key
    try:
        return ThorClient(
            _find_key(args),
            base_url=args.base_url,
            read_url=args.read_url,
            on_event=on_event,
            **given,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def is_loopback(address: str) -> bool:
    """Whether it leads to this machine only."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def agree(
    address: str, charges: int, chargeboxes: Callable[[], int], args: argparse.Namespace
) -> None:
    """Has the number of charges typed before any is stopped that is not an emulator's.

    Raises BadInput when that did not happen, or when it is more than `--at-most`.
    """
    if args.at_most is not None and charges > args.at_most:
        raise UsageError(f"{charges:,} charges are more than --at-most {args.at_most:,}")
    if is_loopback(address) or args.yes or not charges:
        return
    with _terminal("give --yes --at-most N to stop them without being asked") as terminal:
        print(
            f"This stops {charges:,} charges at {chargeboxes():,} chargeboxes through {address}.\n"
            "Type the number of charges to go on: ",
            end="",
            file=terminal,
            flush=True,
        )
        typed = terminal.readline().strip().replace(",", "")
    if typed != str(charges):
        raise UsageError("nothing was sent: that was not the number of charges")


def _find_key(args: argparse.Namespace) -> str:
    if args.api_key_file is not None:
        return _read_key(args.api_key_file)
    key = os.environ.get("THOR_API_KEY")
    if key:
        return key
    _terminal("set THOR_API_KEY, or give --api-key-file", problem="no API key").close()
    try:
        return getpass.getpass("Thor's API key: ")
    except EOFError:
        raise UsageError("no API key: set THOR_API_KEY, or give --api-key-file") from None


def _read_key(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UsageError(
            f"cannot read {path} ({error.strerror}): give the file of the key"
        ) from None
    except UnicodeDecodeError:
        # As below: the error carries the content.
        pass
    raise UsageError(f"{path} does not hold an API key: it must be printable ASCII")


def _terminal(cure: str, problem: str = "nobody to ask on a terminal") -> TextIO:
    """The terminal itself, as standard input may be the file and standard output the outcomes."""
    try:
        return io.TextIOWrapper(io.FileIO(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY), "w+"))
    except OSError:
        raise UsageError(f"{problem}: {cure}") from None
