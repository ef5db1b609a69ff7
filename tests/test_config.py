"""The settings that a client refuses, before any I/O, and without showing the key."""

from __future__ import annotations

import asyncio
import inspect
import math
import ssl
import sys
import traceback
from functools import partial
from typing import Any

import pytest
import yarl
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import KEY, shown
from thor_async import RetryPolicy, StopCharge, ThorClient
from thor_async._config import (
    READ_ADDRESS,
    STOP_ADDRESS,
    check_address,
    check_max_in_flight,
    check_proxy,
    check_seconds,
    check_ssl,
    resolve_addresses,
    resolve_key,
)

SECRET = "s3cret"
EXAMPLE = "https://thor.example/latest"


def unverified(*, mode: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = mode
    return context


@pytest.mark.parametrize("key", ["k", KEY, "!", "~", "".join(map(chr, range(0x21, 0x7F)))])
def test_a_printable_key_is_taken_as_it_is(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THOR_API_KEY", key)
    for source in (key, lambda: key, None):
        resolved = resolve_key(source)
        current = resolved if isinstance(resolved, str) else resolved()
        assert current == key
        assert key == "***" or repr(current) == repr([current])[1:-1] == "'***'"


BLANKS = (
    "the API key must be printable ASCII without blanks: "
    "look for a line end or a blank that was copied with it"
)
BAD_KEYS = [
    ("", "no API key: pass api_key= or set THOR_API_KEY"),
    (KEY.encode(), "the API key must be a str, not a bytes"),
    ([KEY], "the API key must be a str, not a list"),
    (5, "the API key must be a str, not a int"),
    (f"{KEY}\n", BLANKS),
    (f" {KEY}", BLANKS),
    (f"{KEY} x", BLANKS),
    (f"{KEY}\t", BLANKS),
    (f"{KEY}\x00", BLANKS),
    (f"{KEY}\x7f", BLANKS),
    (f"{KEY}é", BLANKS),
    (f"{KEY}\ud800", BLANKS),
]


@pytest.mark.parametrize(("key", "message"), BAD_KEYS)
def test_a_bad_key_is_refused_when_the_client_is_built(key: Any, message: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        ThorClient(key)
    assert str(caught.value) == message
    assert KEY not in shown(caught.value)


@pytest.mark.parametrize(("key", "message"), BAD_KEYS)
def test_the_bad_key_of_a_callable_is_refused_when_it_is_used(key: Any, message: str) -> None:
    take = resolve_key(lambda: key)
    assert callable(take)
    with pytest.raises(ValueError, match="API key") as caught:
        take()
    assert str(caught.value) == message
    assert KEY not in shown(caught.value)


@pytest.mark.parametrize("value", ["", f"{KEY} "])
def test_a_bad_key_of_the_environment_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THOR_API_KEY", value)
    with pytest.raises(ValueError, match="API key") as caught:
        ThorClient()
    assert KEY not in shown(caught.value)
    assert ThorClient("another")


def test_without_a_key_the_cure_is_named() -> None:
    message = "^no API key: pass api_key= or set THOR_API_KEY$"
    with pytest.raises(ValueError, match=message):
        ThorClient()
    with pytest.raises(ValueError, match=message):
        resolve_key(lambda: None)()  # type: ignore[arg-type, operator, return-value]


def test_a_key_function_is_called_for_each_use_and_not_before() -> None:
    keys = iter(["one", "two"])
    take = resolve_key(lambda: next(keys))
    assert callable(take)
    assert (take(), take()) == ("one", "two")


@pytest.mark.parametrize(
    ("base_url", "read_url", "environment", "expected"),
    [
        (None, None, None, (STOP_ADDRESS, READ_ADDRESS)),
        (None, None, "", (STOP_ADDRESS, READ_ADDRESS)),
        (EXAMPLE, None, None, (EXAMPLE, EXAMPLE)),
        (None, "https://read.example", None, (STOP_ADDRESS, "https://read.example")),
        (EXAMPLE, "https://read.example", None, (EXAMPLE, "https://read.example")),
        (None, None, EXAMPLE, (EXAMPLE, EXAMPLE)),
        (None, "https://read.example", EXAMPLE, (EXAMPLE, "https://read.example")),
        ("https://stop.example", None, EXAMPLE, ("https://stop.example", "https://stop.example")),
    ],
)
def test_a_given_base_url_alone_serves_both(
    base_url: str | None,
    read_url: str | None,
    environment: str | None,
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if environment is not None:
        monkeypatch.setenv("THOR_BASE_URL", environment)
    assert resolve_addresses(base_url, read_url, allow_http=False) == expected


def test_the_default_addresses_are_the_documented_ones() -> None:
    assert STOP_ADDRESS == "https://dev.api.thor.tools/latest/integration"
    assert READ_ADDRESS == "https://api.thor.tools/latest/integration"


@pytest.mark.parametrize("name", ["base_url", "read_url"])
def test_the_message_names_the_bad_address(name: str) -> None:
    settings: dict[str, Any] = {name: "http://thor.example"}
    with pytest.raises(ValueError, match=f"^{name} 'http://thor.example' would send"):
        ThorClient(KEY, **settings)


def test_a_bad_address_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THOR_BASE_URL", "thor.example")
    with pytest.raises(ValueError, match=r"not 'thor\.example'"):
        ThorClient(KEY)


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("https://thor.example", "https://thor.example"),
        ("https://thor.example/", "https://thor.example"),
        ("https://thor.example/a/X//", "https://thor.example/a/X"),
        ("https://thor.example:8443/a", "https://thor.example:8443/a"),
        ("https://thor.example:65535", "https://thor.example:65535"),
        ("HTTPS://Thor.example", "https://Thor.example"),
        ("https://192.0.2.1/x", "https://192.0.2.1/x"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://straße.example", "https://straße.example"),
        ("http://localhost:8080/x", "http://localhost:8080/x"),
        ("http://LOCALHOST", "http://LOCALHOST"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.255.255.254", "http://127.255.255.254"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_https_and_http_on_loopback_are_taken(address: str, taken: str) -> None:
    assert check_address("base_url", address, allow_http=False) == taken


@pytest.mark.parametrize(
    "address",
    [
        "http://thor.example",
        "http://10.0.0.1/x",
        "http://126.255.255.255",
        "http://128.0.0.1",
        "http://0.0.0.0",
        "http://[::2]",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "http://127.1",
    ],
)
def test_http_elsewhere_must_be_allowed(address: str) -> None:
    with pytest.raises(ValueError, match="in the clear") as caught:
        check_address("base_url", address, allow_http=False)
    assert str(caught.value) == (
        f"base_url {address!r} would send the API key in the clear: use https, "
        "or pass allow_http=True"
    )
    assert check_address("base_url", address, allow_http=True) == address
    assert ThorClient(KEY, base_url=address, allow_http=True)


@pytest.mark.parametrize(
    "address",
    [
        "",
        " ",
        "thor.example",
        "thor.example:443",
        "//thor.example",
        "/latest",
        "https:",
        "https://",
        "https:///latest",
        "https:thor.example",
        "ftp://thor.example",
        "ws://localhost",
        "file:///etc/hosts",
        "https://thor.example:0x1",
        "https://thor.example:65536",
        "https://thor.example:-1",
        "https://thor.example:port",
        "https://[::1",
        "https://thor..example",
        f"https://{'a' * 64}.example",
        "https://thor.example/a b",
        " https://thor.example",
        "https://thor.example\n",
        "https://thor\x00.example",
        "https://\u202ethor.example",
        b"https://thor.example",
        5,
        yarl.URL(EXAMPLE),
    ],
)
def test_what_is_no_address_is_refused_and_shown(address: object) -> None:
    for allow_http in (False, True):
        with pytest.raises(ValueError, match="base_url must") as caught:
            check_address("base_url", address, allow_http=allow_http)
        assert str(caught.value) == (
            f"base_url must be an address like {STOP_ADDRESS}, not {address!r}"
        )


@pytest.mark.parametrize(
    "address",
    [
        f"https://user:{SECRET}@thor.example",
        f"https://{SECRET}@thor.example",
        f"https://:{SECRET}@thor.example",
        f"https://thor.example/?key={SECRET}",
        f"https://thor.example#{SECRET}",
        f"ftp://{SECRET}@thor.example",
        f"//{SECRET}@thor.example",
        f"http://{SECRET}@localhost",
    ],
)
def test_user_query_and_fragment_are_refused_and_not_shown(address: str) -> None:
    with pytest.raises(ValueError, match="leave user and query out") as caught:
        check_address("base_url", address, allow_http=True)
    assert str(caught.value) == (
        "base_url must be scheme, host and path only: leave user and query out"
    )
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        f"https://user:{SECRET}@thor.example:port",
        f"https://user:{SECRET}@thor.example:65536",
        f"https://user:{SECRET}@[::1",
        f"https://user:a {SECRET}@thor.example",
        f"user:{SECRET}@thor.example",
        f"https://thor.example/a b?key={SECRET}",
        f"https://thor.example:port#{SECRET}",
    ],
)
def test_what_may_be_a_secret_in_a_malformed_address_is_not_shown_either(address: str) -> None:
    with pytest.raises(ValueError, match="base_url must") as caught:
        check_address("base_url", address, allow_http=True)
    assert str(caught.value) == f"base_url must be an address like {STOP_ADDRESS}"
    assert SECRET not in shown(caught.value)


@settings(deadline=None, derandomize=True, max_examples=1_000)
@given(st.text(st.sampled_from("ab1.:-_%\\[]/<|^é"), min_size=1, max_size=8))
def test_an_address_that_is_taken_is_one_that_requests_can_use(host: str) -> None:
    try:
        address = check_address("base_url", f"https://{host}", allow_http=False)
    except ValueError:
        return
    assert yarl.URL(f"{address}/charges/stop").host


@pytest.mark.parametrize(
    "proxy",
    ["http://proxy.example:3128", "https://proxy.example", "http://user:pass@proxy.example:3128"],
)
def test_a_proxy_is_taken_as_it_is(proxy: str) -> None:
    assert check_proxy(proxy) == proxy
    assert ThorClient(KEY, proxy=proxy)


def test_no_proxy_is_none() -> None:
    assert check_proxy(None) is None


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "proxy.example:3128",
        f"socks5://user:{SECRET}@proxy.example",
        f"http://user:{SECRET}@",
        f"http://user:{SECRET}@proxy.example:port",
        f"http://user:{SECRET} @proxy.example",
        5,
        b"http://proxy.example",
    ],
)
def test_a_bad_proxy_is_refused_and_never_shown(proxy: Any) -> None:
    with pytest.raises(ValueError, match="proxy must") as caught:
        ThorClient(KEY, proxy=proxy)
    assert str(caught.value) == "proxy must be an address like http://proxy.example:3128"
    assert SECRET not in shown(caught.value)


def test_a_verifying_context_is_taken() -> None:
    context = ssl.create_default_context()
    assert check_ssl(context) is context
    assert check_ssl(None) is None


@pytest.mark.parametrize(
    "context",
    [
        False,
        True,
        "cert.pem",
        unverified(mode=ssl.CERT_NONE),
        unverified(mode=ssl.CERT_OPTIONAL),
        unverified(mode=ssl.CERT_REQUIRED),
    ],
)
def test_verification_cannot_be_switched_off(context: Any) -> None:
    with pytest.raises(ValueError, match="ssl must") as caught:
        ThorClient(KEY, ssl=context)
    assert str(caught.value) == (
        "ssl must be None or an SSLContext that verifies certificate and host name, not "
        f"{context!r}: for a private authority pass ssl.create_default_context(cafile=...)"
    )


@pytest.mark.parametrize("value", [5e-324, 0.001, 1, 30.0, sys.float_info.max])
def test_seconds_above_0_are_taken(value: float) -> None:
    assert check_seconds("timeout", value) == value
    assert type(check_seconds("timeout", value)) is float


@pytest.mark.parametrize("name", ["timeout", "attempt_timeout"])
@pytest.mark.parametrize(
    "value", [0, 0.0, -0.001, -1, math.nan, math.inf, -math.inf, True, False, "30", None]
)
def test_what_is_no_time_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        ThorClient(KEY, **{name: value})
    assert str(caught.value) == f"{name} must be seconds above 0, not {value!r}"


@pytest.mark.parametrize("name", ["timeout", "attempt_timeout"])
def test_a_time_that_no_float_can_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be seconds above 0"):
        ThorClient(KEY, **{name: 10**400})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, 32, 10_000])
def test_a_positive_number_in_flight_is_taken(value: int) -> None:
    assert check_max_in_flight(value) == value


@pytest.mark.parametrize("value", [0, -1, True, 1.0, math.inf, math.nan, "32", None])
def test_what_is_no_number_in_flight_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="max_in_flight") as caught:
        ThorClient(KEY, max_in_flight=value)
    assert str(caught.value) == f"max_in_flight must be an int of at least 1, not {value!r}"


@pytest.mark.parametrize("retry", [3, None, RetryPolicy])
def test_a_policy_is_a_retry_policy(retry: Any) -> None:
    with pytest.raises(ValueError, match="retry must be a RetryPolicy"):
        ThorClient(KEY, retry=retry)


@pytest.mark.parametrize("name", ["base_url", "read_url"])
def test_a_key_given_as_an_address_by_mistake_is_not_shown(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an address like") as caught:
        ThorClient(KEY, **{name: KEY})  # type: ignore[arg-type]
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("address", ["http://localhost:8080", "http://127.0.0.1/x", "http://[::1]"])
@pytest.mark.parametrize("name", ["base_url", "read_url"])
def test_through_a_proxy_loopback_is_not_this_machine(address: str, name: str) -> None:
    at: dict[str, Any] = {
        "base_url": "https://thor.example",
        "read_url": "https://thor.example",
        name: address,
    }
    proxy = "http://proxy.example:3129"
    with pytest.raises(ValueError, match=f"{name} .* in the clear to the proxy: use https, or "):
        ThorClient(KEY, **at, proxy=proxy)
    ThorClient(KEY, **at, proxy=proxy, allow_http=True)
    ThorClient(KEY, **at)


@pytest.mark.parametrize(
    ("names", "is_refused"),
    [
        (None, False),
        (["http/1.1"], False),
        (["h2c", "http/1.1"], False),
        (["h2"], True),
        (["h2", "http/1.1"], True),
        (["http/1.1", "h2"], True),
        (["a" * 40, "h3", "h2"], True),
    ],
)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_context_that_offers_http2_is_refused(
    names: list[str] | None, is_refused: bool, version: str
) -> None:
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if names is not None:
        context.set_alpn_protocols(names)
    if not is_refused:
        assert check_ssl(context) is context
        return
    with pytest.raises(ValueError, match=r"ssl offers HTTP/2 \(h2\)"):
        ThorClient(KEY, ssl=context)


def test_a_context_for_servers_offers_nothing() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    assert check_ssl(context) is context


async def test_a_key_function_may_be_async_or_return_something_to_await() -> None:
    async def vault() -> str:
        await asyncio.sleep(0)
        return KEY

    for source in (vault, partial(vault), lambda: asyncio.ensure_future(vault())):
        ask = resolve_key(source)
        assert callable(ask)
        found = ask()
        assert inspect.isawaitable(found)
        assert repr([await found]) == "['***']"


@pytest.mark.parametrize(("key", "message"), BAD_KEYS)
async def test_the_bad_key_of_an_async_function_is_refused(key: Any, message: str) -> None:
    async def vault() -> Any:
        return key

    ask = resolve_key(vault)
    assert callable(ask)
    found = ask()
    assert inspect.isawaitable(found)
    with pytest.raises(ValueError, match="API key") as caught:
        await found
    assert str(caught.value) == message
    assert KEY not in shown(caught.value)


def test_the_arguments_of_a_key_function_are_in_no_repr() -> None:
    assert SECRET not in repr(resolve_key(partial(str, SECRET)))


async def test_a_cancellation_by_the_key_function_itself_is_a_failure_and_no_cancellation() -> None:
    async def vault() -> str:
        raise asyncio.CancelledError

    ask = resolve_key(vault)
    assert callable(ask)
    found = ask()
    assert inspect.isawaitable(found)
    with pytest.raises(RuntimeError, match="was cancelled, and not by the call"):
        await found


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("key", [f"{KEY}\n", KEY.encode(), [KEY]])
async def test_no_local_variable_shows_a_key_that_is_refused(key: Any, is_async: bool) -> None:
    kept = [key] * 3

    async def task() -> Any:
        return kept.pop()

    def take() -> Any:
        return asyncio.ensure_future(task()) if is_async else kept.pop()

    async with ThorClient(take, base_url="http://127.0.0.1:1") as thor:
        with pytest.raises(ValueError, match="API key") as late:
            await thor.stop_charge(StopCharge("A", 1, "tag"))
    refused: list[ValueError] = [late.value]
    for build in (ThorClient, lambda key: ThorClient("k").with_options(api_key=key)):
        with pytest.raises(ValueError, match="API key") as early:
            build(kept.pop())
        refused.append(early.value)
    for error in refused:
        traces = traceback.TracebackException.from_exception(error, capture_locals=True)
        # Without the frames of this test, the caller.
        ours = [frame for frame in traces.stack if "test_config" not in frame.filename]
        assert ours
        assert not any(KEY in value for frame in ours for value in (frame.locals or {}).values())
