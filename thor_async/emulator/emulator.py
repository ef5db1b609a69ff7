"""The API of Thor, in front of a fleet of chargeboxes."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Self

from aiohttp import web

from .chargers import ChargerFleet
from .charges import StartBody, StopBody, decode, ends
from .faults import Faults
from .ledger import LoggedRequest, Read
from .running_list import Lists, running_list
from .scripted_answers import REFUSALS, RELAYED, ScriptedAnswer, as_answer, json_answer
from .server import PREFIX, Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from aiohttp.typedefs import Handler


class ThorEmulator(ChargerFleet, Server):
    """A Thor on a local port, started and stopped by `async with`.

    It answers `charges/stop`, `charges/start`, `charges/running`, `chargeboxes` and
    `chargeboxes/{id}` below `base_url`, on `host` and `port` (0: any free one) or on `sock`, a
    bound socket. These attributes may be changed while it runs: `api_key`, `enabled` (else 403),
    `source_ip` (the only one let in) and `faults`; `lists`, how the running list lies;
    `charges` (the running ones as Thor knows them, by chargebox and connector) and `chargeboxes`
    (the known ones, with their known connectors); `behaviours`, how these take a stop, by
    chargebox, None for all others; `notifications`, where Thor tells of starts and ends. `offline`
    are the chargeboxes between `go_offline` and `come_back`. `ledger` holds the truth.

    A stop that Thor relays ends its charge before the 200 is sent, unless the `Behaviour` of its
    chargebox says otherwise. Everything is timed by the loop's clock. What is due after the end of
    `async with` never happens.

    Everything random comes from `seed`: the faults of stops and starts in their order of receipt,
    and, independent of these, what befalls GETs, chargeboxes and notifications. A client that
    leaves does not stop the work on its request, as with any real back end. Raises ValueError for
    bad settings.
    """

    def __init__(
        self,
        *,
        api_key: str = "emulator-key",
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
        faults: Faults | None = None,
        seed: int = 0,
        source_ip: str | None = None,
        enabled: bool = True,
    ) -> None:
        _check_settings(api_key, port, sock, source_ip)
        ChargerFleet.__init__(self, seed)
        Server.__init__(self, host, port, sock)
        self.api_key = api_key
        self.enabled = enabled
        self.source_ip = source_ip
        self.faults = faults or Faults()
        self.lists = Lists()
        self._get_dice = random.Random(f"gets {seed}")
        self._scripts: defaultdict[str | None, deque[ScriptedAnswer]] = defaultdict(deque)
        self._always: dict[str | None, ScriptedAnswer] = {}

    async def __aenter__(self) -> Self:
        await self._open(
            [
                web.post(f"{PREFIX}/charges/stop", self._stop),
                web.post(f"{PREFIX}/charges/start", self._start),
                web.get(f"{PREFIX}/charges/running", self._get(self._running)),
                web.get(f"{PREFIX}/chargeboxes", self._get(self._all_chargeboxes)),
                web.get(f"{PREFIX}/chargeboxes/{{id}}", self._get(self._one_chargebox)),
            ]
        )
        self._begin()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self._close()
        finally:
            await self._halt()

    def script(self, *answers: ScriptedAnswer | int | str, chargebox: str | None = None) -> None:
        """Answer the next stop requests, or the next ones of `chargebox`, with these, in order.

        A number is a bare status with an empty body, a string a code with its documented status
        and the body `{"message": code}` (ValueError for an unknown one). A script comes before
        every check and fault, a chargebox's own before the common one, and both before `always`.
        """
        self._scripts[chargebox].extend([as_answer(given) for given in answers])

    def always(
        self, answer: ScriptedAnswer | int | str | None, chargebox: str | None = None
    ) -> None:
        """Answer every stop request, or every one of `chargebox`, with this; None ends it."""
        if answer is None:
            self._always.pop(chargebox, None)
        else:
            self._always[chargebox] = as_answer(answer)

    async def _stop(self, request: web.Request) -> web.Response:
        command = decode(await request.read(), StopBody)
        denied = self._denied(request)
        entry = LoggedRequest(command, denied is None, asyncio.get_running_loop().time())
        self.ledger.requests.append(entry)
        scripted = self._scripted(command)
        fault = None if scripted else self.faults.pick(self._random)
        await self._latency(self._random)
        refusal = denied or (self._refusal(command) if command else REFUSALS["BadRequest"])
        answer = scripted or _chosen(fault, refusal)
        if command and answer.effect and refusal is None:
            charge = self.charges[command.chargebox, command.connector]
            entry.effect = charge.transaction
            self._relay(charge)
        await asyncio.sleep(answer.delay)
        return _finish(request, entry, answer)

    def _scripted(self, command: StopBody | None) -> ScriptedAnswer | None:
        own = command.chargebox if command else None
        for chargebox in (own, None):
            if script := self._scripts.get(chargebox):
                return script.popleft()
        return self._always.get(own) or self._always.get(None)

    async def _latency(self, dice: random.Random) -> None:
        await asyncio.sleep(dice.uniform(*self.faults.latency))

    def _denied(self, request: web.Request) -> ScriptedAnswer | None:
        if request.headers.get("X-Api-Key") != self.api_key:
            return REFUSALS["APIKeyNotFound"]
        if not self.enabled:
            return REFUSALS["RestAPINotEnabled"]
        if self.source_ip not in (None, request.remote):
            return REFUSALS["InvalidSourceIPAddr"]
        return None

    def _refusal(self, body: StopBody | StartBody) -> ScriptedAnswer | None:
        if body.chargebox not in self.chargeboxes:
            return REFUSALS["ChargeboxNotFound"]
        if body.connector <= 0:
            return REFUSALS["ConnectorNotValid"]
        charge = self.charges.get((body.chargebox, body.connector))
        if isinstance(body, StartBody):
            return REFUSALS["AlreadyInTransaction"] if charge else None
        if charge is None:
            return REFUSALS["NotInTransaction"]
        return None if ends(body, charge) else REFUSALS["WrongTransaction"]

    async def _start(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self._latency(self._random)
        return _response(self._denied(request) or self._started_by(body))

    def _started_by(self, body: bytes) -> ScriptedAnswer:
        wanted = decode(body, StartBody)
        if wanted is None:
            return REFUSALS["BadRequest"]
        if refusal := self._refusal(wanted):
            return refusal
        charge = self.start_charge(wanted.chargebox, wanted.connector, mode="api")
        return json_answer({"id_tag": charge.id_tag})

    def _get(self, answer: Callable[[web.Request], ScriptedAnswer]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            path = request.path.removeprefix(f"{PREFIX}/")
            wanted = request.query.get("chargebox", request.match_info.get("id"))
            entry = Read(path, wanted, asyncio.get_running_loop().time())
            self.ledger.reads.append(entry)
            await self._latency(self._get_dice)
            return _finish(request, entry, self._denied(request) or answer(request))

        return handle

    def _running(self, request: web.Request) -> ScriptedAnswer:
        lie = self.lists.pick(self._get_dice)
        lag = self._get_dice.uniform(*self.lists.lag)
        charges = self._charges_ago(lag) if lag else self.charges.values()
        return running_list(charges, request.query.get("chargebox"), lie, self._get_dice)

    def _all_chargeboxes(self, request: web.Request) -> ScriptedAnswer:
        return json_answer([self._chargebox(name) for name in self.chargeboxes])

    def _one_chargebox(self, request: web.Request) -> ScriptedAnswer:
        name = request.match_info["id"]
        known = name in self.chargeboxes
        return json_answer(self._chargebox(name)) if known else REFUSALS["ChargeboxNotFound"]

    def _chargebox(self, name: str) -> dict[str, object]:
        connectors = sorted(self.chargeboxes[name])
        # The token is there so that a client that keeps it can be caught.
        connector = {"power": 22000, "type": "IEC_62196_T2", "format": "SOCKET", "token": "secret"}
        return {
            "id": name,
            "alias": f"Chargebox {name}",
            "active": True,
            "connected": name not in self.offline,
            "connectors": [connector] * len(connectors),
            "occupied_connectors": [n for n in connectors if (name, n) in self.charges],
            "reserved_connectors": [],
            "coordinates": {"latitude": 45.07, "longitude": 7.69},
            "last_heartbeat": self._clock.epoch_ms(),
            "timezone": "Europe/Rome",
        }


def _check_settings(
    api_key: str, port: int, sock: socket.socket | None, source_ip: str | None
) -> None:
    if not api_key or not all("!" <= character <= "~" for character in api_key):
        raise ValueError(f"api_key {api_key!r} fits no header: give printable ASCII without blanks")
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is no port: give 0 to 65535, 0 for any free one")
    if sock is not None and port:
        raise ValueError(f"port {port} and sock exclude each other: bind sock to the port instead")
    if source_ip is not None:
        ipaddress.ip_address(source_ip)


def _chosen(fault: ScriptedAnswer | None, refusal: ScriptedAnswer | None) -> ScriptedAnswer:
    """What is answered without a script: a fault after the effect needs an effect."""
    if fault and (refusal is None or not fault.effect):
        return fault
    return refusal or RELAYED


def _finish(
    request: web.Request, entry: LoggedRequest | Read, answer: ScriptedAnswer
) -> web.Response:
    """Enter what the client is about to get, and hand it to aiohttp, or abort the connection."""
    transport = request.transport
    if transport is not None and answer.drop:
        transport.abort()
    elif transport is not None and not transport.is_closing():
        entry.status = answer.status
        if isinstance(entry, LoggedRequest):
            entry.code = answer.code
    return _response(answer)


def _response(answer: ScriptedAnswer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
