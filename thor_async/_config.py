"""What a client is built from, checked before any I/O: key, addresses, numbers, TLS."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import sys
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

STOP_ADDRESS = "https://dev.api.thor.tools/latest/integration"
READ_ADDRESS = "https://api.thor.tools/latest/integration"

ApiKey = str | Callable[[], str] | None

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_KEY = re.compile(r"[\x21-\x7e]+")


def resolve_key(api_key: ApiKey) -> Callable[[], str]:
    """A function that returns the checked key; ValueError, without the key, when it is bad.

    A string, or `THOR_API_KEY`, is checked now; what a callable returns, each time it is used.
    """
    if callable(api_key):
        source = api_key
        return lambda: check_key(source())
    key = check_key(os.environ.get("THOR_API_KEY") if api_key is None else api_key)
    return lambda: key


def check_key(key: object) -> str:
    """The key itself, if a header can carry it."""
    if key is None or key == "":
        raise ValueError("no API key: pass api_key= or set THOR_API_KEY")
    if type(key) is not str:
        raise ValueError(f"the API key must be a str, not a {type(key).__name__}")
    if not _KEY.fullmatch(key):
        raise ValueError(
            "the API key must be printable ASCII without blanks: "
            "look for a line end or a blank that was copied with it"
        )
    return key


def resolve_addresses(
    base_url: str | None, read_url: str | None, *, allow_http: bool
) -> tuple[str, str]:
    """The addresses for stops and for reads; a given `base_url` alone serves both."""
    if base_url is None:
        base_url = os.environ.get("THOR_BASE_URL") or None
    if read_url is None:
        read_url = READ_ADDRESS if base_url is None else base_url
    stop = STOP_ADDRESS if base_url is None else base_url
    return (
        check_address("base_url", stop, allow_http=allow_http),
        check_address("read_url", read_url, allow_http=allow_http),
    )


def check_address(name: str, address: object, *, allow_http: bool) -> str:
    """The address without a last slash; ValueError unless the key is safe on the way to it."""
    parts = _split(address)
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not shown: any of these may be a secret.
        raise ValueError(f"{name} must be scheme, host and path only: leave user and query out")
    host = parts.hostname
    if not host or parts.scheme not in ("https", "http") or not _is_host(host):
        # Not shown where a user, a query, or the key by mistake could be in it.
        is_plain = type(address) is not str or re.fullmatch(r"[^@?#]*[.:/\s][^@?#]*|", address)
        sight = f", not {address!r}" if is_plain else ""
        raise ValueError(f"{name} must be an address like {STOP_ADDRESS}{sight}")
    if parts.scheme == "http" and not (allow_http or _is_loopback(host)):
        raise ValueError(
            f"{name} {address!r} would send the API key in the clear: use https, "
            "or pass allow_http=True"
        )
    return parts.geturl().rstrip("/")


def check_proxy(proxy: object) -> str | None:
    """An address of an HTTP proxy; what it holds of user and password is never shown."""
    if proxy is None:
        return None
    parts = _split(proxy)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("proxy must be an address like http://proxy.example:3128")
    return parts.geturl()


def _split(address: object) -> SplitResult:
    """The parts of an address that every parser reads alike; empty ones for any other."""
    nothing = SplitResult("", "", "", "", "")
    if type(address) is not str or not address.isprintable() or " " in address:
        return nothing
    try:
        parts = urlsplit(address)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return nothing
    host = parts.hostname or ""
    # Nothing beside a host in brackets: there urlsplit takes more than others do.
    place = parts.netloc.rpartition("@")[2].lower()
    return parts if place in (f"{host}{port}", f"[{host}]{port}") else nothing


def _is_host(host: str) -> bool:
    try:
        return _NAME.fullmatch(host.encode("idna").decode()) is not None or _ip(host) is not None
    except UnicodeError:
        return False


def _is_loopback(host: str) -> bool:
    ip = _ip(host)
    return host == "localhost" if ip is None else ip.is_loopback


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def check_seconds(name: str, value: object) -> float:
    """A positive, finite number of seconds."""
    if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:  # type: ignore[operator]
        raise ValueError(f"{name} must be seconds above 0, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def check_max_in_flight(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"max_in_flight must be an int of at least 1, not {value!r}")
    return value


def check_ssl(context: object) -> ssl.SSLContext | None:
    """A context that verifies; there is no way to switch verification off."""
    if context is None:
        return None
    if isinstance(context, ssl.SSLContext):  # noqa: SIM102 - mypy follows only this
        if context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname:
            return context
    raise ValueError(
        f"ssl must be None or an SSLContext that verifies certificate and host name, not "
        f"{context!r}: for a private authority pass ssl.create_default_context(cafile=...)"
    )
