"""How a command gets into NATS: addresses, credentials and certificates."""

from __future__ import annotations

import argparse
import os
import ssl
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from faststream.nats.security import NatsCredentials, NatsNKey, NatsSecurity, NatsUserPassword

from thor_async._models import MaskedText

from .errors import UsageError

_SCHEMES = {"nats", "tls", "ws", "wss"}


class NatsLogin(NamedTuple):
    """Addresses of one cluster, and one way to log in, or none."""

    servers: list[str]
    tls: ssl.SSLContext | None
    creds: str | None
    nkey: str | None
    user: str | None
    password: MaskedText | None

    def make_security(self) -> NatsSecurity:
        """Returns the same for a broker of FastStream."""
        try:
            if self.creds is not None:
                return NatsCredentials(self.creds, ssl_context=self.tls)
            if self.nkey is not None:
                return NatsNKey(self.nkey, ssl_context=self.tls)
        except ImportError:
            raise UsageError(
                "--nats-creds and --nats-nkey need the package nkeys: pip install nkeys"
            ) from None
        if self.user is not None and self.password is not None:
            return NatsUserPassword(self.user, self.password, ssl_context=self.tls)
        return NatsSecurity(ssl_context=self.tls)

    def make_options(self) -> dict[str, Any]:
        """Returns the same for `nats.connect`."""
        self.make_security()  # tells of a missing package
        options = {
            "servers": self.servers,
            "tls": self.tls,
            "user_credentials": self.creds,
            "nkeys_seed": self.nkey,
            "user": self.user,
            "password": self.password,
        }
        return {name: value for name, value in options.items() if value is not None}


def find_login(args: argparse.Namespace) -> NatsLogin:
    """Reads the options and the environment. Raises UsageError for what cannot be used."""
    user, password = os.environ.get("NATS_USER"), _find_password(args)
    if (user is None) != (password is None):
        raise UsageError(
            "NATS needs user and password: set NATS_USER, and NATS_PASSWORD or "
            "--nats-password-file FILE"
        )
    if sum(way is not None for way in (args.nats_creds, args.nats_nkey, user)) > 1:
        raise UsageError(
            "give one way to log in to NATS: --nats-creds, --nats-nkey, or NATS_USER and its "
            "password"
        )
    for path in (args.nats_creds, args.nats_nkey):
        if path is not None:
            _check_readable(path)
    tls = _make_tls(args)
    return NatsLogin(find_servers(args), tls, args.nats_creds, args.nats_nkey, user, password)


def find_servers(args: argparse.Namespace) -> list[str]:
    """Returns the addresses of --nats, else of NATS_URL. Raises UsageError for an unusable one."""
    if args.nats is not None:
        name, texts = "--nats", args.nats
    else:
        name, texts = "NATS_URL", [os.environ.get("NATS_URL", "")]
    servers = [server for text in texts for server in text.split(",") if server]
    if not servers:
        raise UsageError("give the address of NATS: --nats nats://host:4222, or NATS_URL")
    for server in servers:
        parts = _split_address(server)
        if parts is None:
            raise UsageError(
                f"{name} must be an address like nats://host:4222; a user and a password in it "
                "must be without blanks, commas and /?#[]"
            )
        if "@" in parts.netloc and args.nats is not None:
            raise UsageError(
                "--nats must hold no user and no password, because all users of this machine "
                "could read them: set NATS_USER and NATS_PASSWORD, or give --nats-creds FILE"
            )
    return servers


def show_servers(args: argparse.Namespace) -> str:
    """Returns the addresses without their users and passwords."""
    found = [_split_address(server) for server in find_servers(args)]
    return ",".join(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" for parts in found if parts
    )


def _split_address(address: str) -> SplitResult | None:
    """Returns the parts of a usable address.

    NATS takes user and password as they are, so no character can be written as `%5D`.
    """
    if not address.isprintable() or " " in address:
        return None
    try:
        parts = urlsplit(address if "://" in address else f"nats://{address}")
        is_usable = bool(parts.hostname) and parts.port != 0 and parts.scheme in _SCHEMES
    except ValueError:
        # Its text quotes the address.
        return None
    has_path = parts.path not in {"", "/"} and not parts.scheme.startswith("ws")
    return parts if is_usable and not (has_path or parts.query or parts.fragment) else None


def _find_password(args: argparse.Namespace) -> MaskedText | None:
    if args.nats_password_file is None:
        password = os.environ.get("NATS_PASSWORD")
        return None if password is None else MaskedText(password)
    text = MaskedText(_check_readable(args.nats_password_file))
    return MaskedText(text.removesuffix("\n").removesuffix("\r"))


def _check_readable(path: str) -> MaskedText:
    """Returns the text of a file. Raises UsageError if it cannot be read."""
    try:
        return MaskedText(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        # The error holds the content of the file, so UsageError is raised after this block.
        pass
    raise UsageError(f"cannot read {path}: it is not text")


def _make_tls(args: argparse.Namespace) -> ssl.SSLContext | None:
    if args.nats_key is not None and args.nats_cert is None:
        raise UsageError("--nats-key needs --nats-cert FILE")
    if args.nats_ca is None and args.nats_cert is None:
        return None
    try:
        context = ssl.create_default_context(cafile=args.nats_ca)
        if args.nats_cert is not None:
            # Without a password for the key, OpenSSL would ask for it on the terminal.
            context.load_cert_chain(args.nats_cert, args.nats_key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
        raise UsageError(
            f"cannot use --nats-ca, --nats-cert or --nats-key: {reason or type(error).__name__}"
        ) from None
    return context
