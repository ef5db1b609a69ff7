"""Checks settings and inputs before any I/O: key, addresses, numbers, TLS, commands."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ipaddress
import os
import re
import ssl
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from urllib.parse import SplitResult, urlsplit

import msgspec

from ._models import InvalidKeyError, MaskedText, StopCharge
from ._retry import RetryPolicy
from ._telemetry.emitter import EventEmitter

STOP_ADDRESS = "https://dev.api.thor.tools/latest/integration"
READ_ADDRESS = "https://api.thor.tools/latest/integration"

KeyFunction = Callable[[], str | Awaitable[str]]
GivenKey = str | KeyFunction | None
Commands = Iterable[StopCharge] | AsyncIterable[StopCharge]

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
# RFC 7301: extension 16, its size, the size of its list of names.
_ALPN = re.compile(rb"\x00\x10\x00(.)\x00(.)", re.DOTALL)
_HTTP2 = b"\x02h2"
_KEY = re.compile(r"[\x21-\x7e]+")


ApiKey = MaskedText | Callable[[], MaskedText | Awaitable[MaskedText]]
"""The key, or a function that returns the current one or something to await for it."""


class ClientConfig(msgspec.Struct, frozen=True):
    """The checked settings of a client. All durations are seconds."""

    key: ApiKey
    base_url: str
    read_url: str
    policy: RetryPolicy
    timeout: float
    attempt_timeout: float
    max_rate: float | None
    emitter: EventEmitter


def resolve_key(api_key: GivenKey) -> ApiKey:
    """Returns the checked key, or a function that returns it.

    A string, or `THOR_API_KEY`, is checked now; the result of a callable, plain or async, is
    checked each time it is used. Raises ValueError, which never shows the key.
    """
    try:
        if callable(api_key):
            function = api_key
            # No partial: its repr would show the arguments of another partial, a vault's token.
            return lambda: _ask_for_key(function)
        return check_key(os.environ.get("THOR_API_KEY") if api_key is None else api_key)
    finally:
        # Here and below: a traceback with local variables would show it.
        del api_key


def _ask_for_key(function: KeyFunction) -> MaskedText | Awaitable[MaskedText]:
    found = function()
    try:
        return _await_key(found) if inspect.isawaitable(found) else check_key(found)
    finally:
        del found


async def _await_key(found: Awaitable[object]) -> MaskedText:
    try:
        return check_key(await found)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    finally:
        # The repr of a future shows its result.
        del found
    raise RuntimeError("the api_key function was cancelled, and not by the call")


def check_key(key: object) -> MaskedText:
    """Returns the key, masked in its repr, if a header can carry it."""
    if type(key) is str and _KEY.fullmatch(key):
        return MaskedText(key)
    if key is None or key == "":
        fault = "no API key: pass api_key= or set THOR_API_KEY"
    elif type(key) is not str:
        fault = f"the API key must be a str, not a {type(key).__name__}"
    else:
        fault = (
            "the API key must be printable ASCII without blanks: "
            "look for a line end or a blank that was copied with it"
        )
    del key
    raise InvalidKeyError(fault)


def resolve_addresses(
    base_url: str | None, read_url: str | None, *, allow_http: bool, has_proxy: bool = False
) -> tuple[str, str]:
    """Returns the addresses for stops and for lists; a given `base_url` alone serves both.

    Through a proxy even loopback is another host's.
    """
    if base_url is None:
        base_url = os.environ.get("THOR_BASE_URL") or None
    if read_url is None:
        read_url = READ_ADDRESS if base_url is None else base_url
    stop = STOP_ADDRESS if base_url is None else base_url
    return (
        check_address("base_url", stop, allow_http=allow_http, has_proxy=has_proxy),
        check_address("read_url", read_url, allow_http=allow_http, has_proxy=has_proxy),
    )


def check_address(name: str, address: object, *, allow_http: bool, has_proxy: bool = False) -> str:
    """Returns the address without a last slash; ValueError if the key is not safe on the way."""
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
    is_safe = allow_http or (_is_loopback(host) and not has_proxy)
    if parts.scheme == "http" and not is_safe:
        way = " to the proxy" if has_proxy else ""
        raise ValueError(
            f"{name} {address!r} would send the API key in the clear{way}: use https, "
            "or pass allow_http=True"
        )
    return parts.geturl().rstrip("/")


def check_proxy(proxy: object) -> str | None:
    """Returns the address of an HTTP proxy. No message shows its user and password."""
    if proxy is None:
        return None
    parts = _split(proxy)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("proxy must be an address like http://proxy.example:3128")
    return parts.geturl()


def _split(address: object) -> SplitResult:
    """Splits an address that all parsers read alike; any other gives empty parts."""
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
    """Returns a positive, finite number of seconds; ValueError for anything else."""
    if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:  # type: ignore[operator]
        raise ValueError(f"{name} must be seconds above 0, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def check_retry(policy: object) -> RetryPolicy:
    if not isinstance(policy, RetryPolicy):
        raise ValueError(f"retry must be a RetryPolicy, not {policy!r}")  # noqa: TRY004
    return policy


def check_max_rate(value: object) -> float | None:
    """Returns a positive, finite number of requests a second, or None; else ValueError."""
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:  # type: ignore[operator]
        raise ValueError(f"max_rate must be requests a second above 0, or None, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def check_max_in_flight(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"max_in_flight must be an int of at least 1, not {value!r}")
    return value


def check_ssl(context: object) -> ssl.SSLContext | None:
    """Returns a context that verifies and offers HTTP/1 only; ValueError for any other."""
    if context is None:
        return None
    if isinstance(context, ssl.SSLContext):  # noqa: SIM102 - mypy follows only this
        if context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname:
            if _offers_http2(context):
                raise ValueError(
                    "ssl offers HTTP/2 (h2) to the server, which this client does not speak: "
                    'leave set_alpn_protocols out, or give it ["http/1.1"]'
                )
            return context
    raise ValueError(
        f"ssl must be None or an SSLContext that verifies certificate and host name, not "
        f"{context!r}: for a private authority pass ssl.create_default_context(cafile=...)"
    )


def _offers_http2(context: ssl.SSLContext) -> bool:
    """Looks into the first message of a handshake: a context does not tell what it offers."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    for found in _ALPN.finditer(hello):
        size, listed = found[1][0], found[2][0]
        if size == listed + 2 and _HTTP2 in hello[found.end() : found.end() + listed]:
            return True
    return False


def check_command(command: object, index: int) -> StopCharge:
    """Returns the command; TypeError, which names its place in the input, for anything else."""
    if not isinstance(command, StopCharge):
        raise TypeError(
            f"command {index} must be a StopCharge, not a {type(command).__name__}: "
            "build it with StopCharge(chargebox=..., connector=..., id_tag=...)"
        )
    return command


def check_batch(commands: object, within: object, give_up_after: object) -> None:
    """Raises TypeError or ValueError for what cannot be a batch and its limits."""
    if isinstance(commands, StopCharge) or not isinstance(commands, Iterable | AsyncIterable):
        raise TypeError(
            f"commands must be an iterable of StopCharge, not a {type(commands).__name__}: "
            "put a single one into a list, or use stop_charge"
        )
    if within is not None:
        check_seconds("within", within)
    if give_up_after is not None and give_up_after != 0:
        check_seconds("give_up_after", give_up_after)
