"""`thor-async check`: whether this machine can stop charges, found out without touching one."""

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
    (ServerError, "Thor itself is in trouble: check again later"),
    (UnexpectedResponse, "what answers there is not Thor: look at the address, and for a proxy"),
)
_NOT_SENT = {
    "dns": "no such host: look at the address and at this machine's DNS",
    "tls": "its certificate is not trusted: look at the address, and for a proxy that breaks TLS",
    "connect": "nobody answers there: look at the address, the network and the firewall",
}

Finding = tuple[bool, str]


def check(args: argparse.Namespace) -> int:
    """Prints a line for each finding, each bad one with its cure; 0 when all are good."""
    client = make_client(args)
    stops, lists = find_addresses(args)
    print(f"ok    stops go to {stops}, lists come from {lists}")
    return asyncio.run(_check(client))


async def _check(client: ThorClient) -> int:
    is_good = True
    async with client as thor:
        for step in (_running, _stop_nothing):
            good, text = await step(thor)
            print(f"{'ok   ' if good else 'FAIL '} {text}", flush=True)
            is_good = is_good and good
    return 0 if is_good else 1


async def _running(thor: ThorClient) -> Finding:
    try:
        charges = await thor.running_charges()
    except ThorError as error:
        return False, f"no list of running charges: {error}: {_cure(error)}"
    if not charges:
        return True, (
            "the list of running charges is empty: if some do run, it is another account's or "
            "another address's, and proves nothing"
        )
    return True, "; ".join(_describe(charges))


def _describe(charges: list[RunningCharge]) -> Iterator[str]:
    chargeboxes = {charge.chargebox for charge in charges}
    hidden = sum(charge.id_tag is None for charge in charges)
    yield f"{len(charges):,} charges run at {len(chargeboxes):,} chargeboxes"
    if hidden:
        yield f"of {hidden:,} the list hides the id_tag, which a stop needs: see running --tags"


async def _stop_nothing(thor: ThorClient) -> Finding:
    """Asks to stop a charge at a chargebox whose name was made up just now."""
    name = secrets.token_hex(8)
    try:
        await thor.stop_charge(StopCharge(f"check-{name}", 1, name))
    except ChargeboxNotFound:
        return True, "a stop at a chargebox that does not exist was answered ChargeboxNotFound"
    except ThorError as error:
        return False, f"a stop was not answered as it should be: {error.message}: {_cure(error)}"
    return False, (
        "a stop at a chargebox that does not exist was relayed: what answers there is not Thor"
    )


def _cure(error: ThorError) -> str:
    if isinstance(error, NotSentError):
        return _NOT_SENT.get(error.reason, "check again later")
    for kind, cure in _CURES:
        if isinstance(error, kind):
            return cure
    return "not what Thor documents: look at the address, and ask Thor's support"
