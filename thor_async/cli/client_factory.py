"""Makes the client of a command from its arguments and the environment."""

from __future__ import annotations

import argparse
import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from thor_async import RetryPolicy, ThorClient
from thor_async._config import resolve_addresses
from thor_async._telemetry.emitter import OnEvent

from .errors import UsageError
from .key_file import KeyFile, read_key
from .terminal import ask_for_key


def find_addresses(args: argparse.Namespace) -> tuple[str, str]:
    """Returns the addresses of stops and of lists. Raises UsageError for an unusable address."""
    try:
        addresses = resolve_addresses(
            args.base_url, args.read_url, allow_http=True, has_proxy=args.proxy is not None
        )
    except ValueError as error:
        raise UsageError(_with_option_names(args, error)) from None
    for address in addresses:
        is_here = is_loopback(address) and args.proxy is None
        if urlsplit(address).scheme == "http" and not is_here:
            to = " to the proxy" if args.proxy is not None else ""
            raise UsageError(f"{address} would send the API key in the clear{to}: use https")
    return addresses


def _with_option_names(args: argparse.Namespace, error: ValueError) -> str:
    """Returns the text of an error with the names of options in place of those of arguments."""
    base = "THOR_BASE_URL" if args.base_url is None else "--base-url"
    names = {"base_url": base, "read_url": "--read-url", "proxy": "--proxy"}
    name, blank, rest = str(error).partition(" ")
    return f"{names.get(name, name)}{blank}{rest}"


def is_loopback(address: str) -> bool:
    """Returns whether an address is on this machine."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_client(
    args: argparse.Namespace, on_event: OnEvent = None, *, key_file: KeyFile | None = None
) -> ThorClient:
    """Makes a client with the key and the settings of a command.

    `key_file` is the key of a command that reads it again when it has changed. Raises UsageError
    for a setting that cannot be used. Asks for a missing key on the terminal.
    """
    settings = {name: getattr(args, name, None) for name in ("max_in_flight", "max_rate")}
    find_addresses(args)  # a bad address is reported before the question for the key
    try:
        return ThorClient(
            _find_key(args) if key_file is None else key_file,
            base_url=args.base_url,
            read_url=args.read_url,
            proxy=args.proxy,
            retry=_make_policy(args),
            on_event=on_event,
            **{name: value for name, value in settings.items() if value is not None},
        )
    except ValueError as error:
        raise UsageError(_with_option_names(args, error)) from None


def find_key_file(args: argparse.Namespace) -> KeyFile | None:
    """Returns the key file of a command, if it has one that can be read now."""
    if args.api_key_file is None:
        return None
    key_file = KeyFile(args.api_key_file)
    try:
        key_file()
    except OSError as error:
        raise UsageError(
            f"cannot read {args.api_key_file} ({error.strerror}): give the file with the API key"
        ) from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    return key_file


def _make_policy(args: argparse.Namespace) -> RetryPolicy:
    # The commands that take a rate limit may last as long as it needs.
    policy = RetryPolicy(retry_throttled=hasattr(args, "max_rate"))
    attempts = getattr(args, "attempts", None)
    return policy if attempts is None else msgspec.structs.replace(policy, max_attempts=attempts)


def _find_key(args: argparse.Namespace) -> str:
    if args.api_key_file is not None:
        return _read_key(args.api_key_file)
    return os.environ.get("THOR_API_KEY") or _ask_once(args)


def _ask_once(args: argparse.Namespace) -> str:
    """Asks for the key, or returns the answer: a command may make more than one client."""
    if not hasattr(args, "typed_key"):
        key = ask_for_key()
        # A function, because the repr of `args` would show the key.
        args.typed_key = lambda: key
    typed: str = args.typed_key()
    return typed


def _read_key(path: str) -> str:
    try:
        return read_key(Path(path))
    except OSError as error:
        raise UsageError(
            f"cannot read {path} ({error.strerror}): give the file with the API key"
        ) from None
