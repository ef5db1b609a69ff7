"""`thor-async check`: checks whether this machine can stop charges, without touching one."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from collections.abc import Iterator

from thor_async import (
    APIKeyNotFound,
    ChargeboxNotFound,
    InvalidSourceIPAddr,
    NotSentError,
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

Finding = tuple[bool, str]
"""Whether a check passed, and a sentence about it."""


def run(args: argparse.Namespace) -> int:
    """Prints a line for each check, with the cure if it failed; 0 if all passed."""
    client = make_client(args)
    stops, lists = find_addresses(args)
    print(f"ok    stops go to {stops}, lists come from {lists}")
    return asyncio.run(_check(client))


async def _check(client: ThorClient) -> int:
    all_passed = True
    async with client as thor:
        for check in (_check_list, _check_stop):
            passed, text = await check(thor)
            print(f"{'ok   ' if passed else 'FAIL '} {text}", flush=True)
            all_passed = all_passed and passed
    return 0 if all_passed else 1


async def _check_list(thor: ThorClient) -> Finding:
    try:
        charges = await thor.running_charges()
    except ThorError as error:
        return False, f"no list of running charges: {error}: {_find_cure(error)}"
    if not charges:
        return True, (
            "the list of running charges is empty: this proves nothing; if charges do run, the "
            "list is of another account or another address"
        )
    return True, "; ".join(_describe(charges))


def _describe(charges: list[RunningCharge]) -> Iterator[str]:
    chargeboxes = {charge.chargebox for charge in charges}
    hidden = sum(charge.id_tag is None for charge in charges)
    yield f"{len(charges):,} charges run at {len(chargeboxes):,} chargeboxes"
    if hidden:
        yield f"the list hides the id_tag of {hidden:,}, and a stop needs it: see running --tags"


async def _check_stop(thor: ThorClient) -> Finding:
    """Sends a stop for a chargebox with a random name, which does not exist."""
    name = secrets.token_hex(8)
    try:
        await thor.stop_charge(StopCharge(f"check-{name}", 1, name))
    except ChargeboxNotFound:
        return True, "a stop at a chargebox that does not exist was answered ChargeboxNotFound"
    except ThorError as error:
        return False, f"unexpected answer to a stop: {error.message}: {_find_cure(error)}"
    return False, (
        "a stop at a chargebox that does not exist was relayed: the answer is not Thor's"
    )


def _find_cure(error: ThorError) -> str:
    if isinstance(error, NotSentError):
        return _NOT_SENT_CURES.get(error.reason, "check again later")
    for kind, cure in _CURES:
        if isinstance(error, kind):
            return cure
    return "Thor does not document this: check the address, and ask Thor's support"
