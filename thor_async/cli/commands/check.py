"""`thor-async check`: checks whether this machine can stop charges, without touching one."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from thor_async import (
    APIKeyNotFound,
    ChargeboxNotFound,
    InvalidSourceIPAddr,
    NotSentError,
    RejectedError,
    RestAPINotEnabled,
    RunningCharge,
    ServerError,
    StopCharge,
    ThorClient,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
)

from ..client_factory import find_addresses, make_client
from ..output.printable import encode_line

_CURES: tuple[tuple[type[ThorError], str], ...] = (
    (APIKeyNotFound, "take the key from Thor's dashboard, page Development, and set it again"),
    (RestAPINotEnabled, "enable the integration in Thor's dashboard, page Development"),
    (
        InvalidSourceIPAddr,
        "enter the address from which this machine reaches Thor in the dashboard, page Development",
    ),
    (TooManyRequests, "wait a minute and check again"),
    (ServerError, "Thor has a fault: check again later"),
    (UnexpectedResponse, "the answer is not Thor's: check the address, and look for a proxy"),
)
_NOT_SENT_CURES = {
    "dns": "the host was not found: check the address and this machine's DNS",
    "tls": "its certificate is not trusted: check the address, and look for a proxy that breaks "
    "TLS",
    "proxy": "the proxy refuses: check its address, user and password, or ask who runs it",
    "connect": "no connection: check the address, the network and the firewall",
}
_PLAIN_HTTP = (
    "the port of {host} speaks http without encryption, not https: check the port, or put TLS in "
    "front of it"
)
_NOT_THOR = "a web server answered that is not Thor: check the host and the path of the address"
_TWO_HOSTS = (
    "note  these are two hosts, as in Thor's documentation, which does not say why: a list from "
    "one may not show the charges of the other; --base-url sets one address for both"
)


class Finding(msgspec.Struct, frozen=True):
    """Whether a check passed, and a sentence about it. `answered`: some server was reached."""

    check: str
    passed: bool
    text: str
    answered: bool = True


def run(args: argparse.Namespace) -> int:
    """Prints a line for each check, with the cure if it failed; 0 if all passed."""
    client = make_client(args)
    stops, lists = find_addresses(args)
    is_quiet = args.quiet or args.json
    if not is_quiet:
        print(f"ok    stops go to {stops}, lists come from {lists}")
        if urlsplit(stops).hostname != urlsplit(lists).hostname:
            print(_TWO_HOSTS, flush=True)
    findings = asyncio.run(_check(client, (lists, stops), is_quiet=is_quiet))
    all_passed = all(finding.passed for finding in findings)
    if args.json:
        result = {"ok": all_passed, "base_url": stops, "read_url": lists, "checks": findings}
        print(encode_line(result).decode(), end="")
        return 0 if all_passed else 1
    for finding in findings:
        if args.quiet and not finding.passed:
            _print(finding)
    if not any(finding.answered for finding in findings):
        print("FAIL  nobody was contacted: no request has left this machine")
    return 0 if all_passed else 1


async def _check(
    client: ThorClient, addresses: tuple[str, str], *, is_quiet: bool
) -> list[Finding]:
    findings = []
    async with client as thor:
        for check, address in zip((_check_list, _check_stop), addresses, strict=True):
            findings.append(await check(thor, address))
            if not is_quiet:
                _print(findings[-1])
    return findings


def _print(finding: Finding) -> None:
    print(f"{'ok   ' if finding.passed else 'FAIL '} {finding.text}", flush=True)


async def _check_list(thor: ThorClient, address: str) -> Finding:
    try:
        charges = await thor.running_charges()
    except ThorError as error:
        return _failed("list", "no list of running charges", error, address)
    if not charges:
        text = (
            "the list of running charges is empty: this proves nothing; if charges do run, the "
            "list is of another account or another address"
        )
        return Finding("list", True, text)
    return Finding("list", True, "; ".join(_describe(charges)))


def _describe(charges: list[RunningCharge]) -> Iterator[str]:
    chargeboxes = {charge.chargebox for charge in charges}
    hidden = sum(charge.id_tag is None for charge in charges)
    yield f"{len(charges):,} charges run at {len(chargeboxes):,} chargeboxes"
    if hidden:
        yield f"the list hides the id_tag of {hidden:,}, and a stop needs it: see running --tags"


async def _check_stop(thor: ThorClient, address: str) -> Finding:
    """Sends a stop for a chargebox with a random name, which does not exist."""
    name = secrets.token_hex(8)
    try:
        await thor.stop_charge(StopCharge(f"check-{name}", 1, name))
    except ChargeboxNotFound:
        text = "a stop at a chargebox that does not exist was answered ChargeboxNotFound"
        return Finding("stop", True, text)
    except ThorError as error:
        was_sent = not isinstance(error, NotSentError)
        what = "unexpected answer to a stop" if was_sent else "no stop could be sent"
        return _failed("stop", what, error, address)
    text = "a stop at a chargebox that does not exist was relayed: the answer is not Thor's"
    return Finding("stop", False, text)


def _failed(check: str, text: str, error: ThorError, address: str) -> Finding:
    """Returns the finding for an error; `text` says what there is not."""
    cure = _find_cure(error, address)
    if _speaks_plain_http(error):
        return Finding(check, False, f"{text}: {cure}", answered=False)
    is_sent = not isinstance(error, NotSentError)
    return Finding(check, False, f"{text}: {error.message}: {cure}", is_sent)


def _find_cure(error: ThorError, address: str) -> str:
    if isinstance(error, NotSentError):
        if _speaks_plain_http(error):
            return _PLAIN_HTTP.format(host=urlsplit(address).netloc)
        return _NOT_SENT_CURES.get(error.reason, "check again later")
    for kind, cure in _CURES:
        if isinstance(error, kind):
            return cure
    if isinstance(error, RejectedError) and not error.answered:
        return _NOT_THOR
    return "Thor does not document this: check the address, and ask Thor's support"


def _speaks_plain_http(error: ThorError) -> bool:
    """Returns whether the answer to a TLS greeting was no TLS: OpenSSL has several words for it."""
    if not isinstance(error, NotSentError) or error.reason != "tls":
        return False
    words = error.message.upper().replace(" ", "_")
    return any(word in words for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"))
