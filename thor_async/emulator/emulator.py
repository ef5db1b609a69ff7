"""The emulator: Thor's HTTP API for the emulated chargeboxes."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Self

from aiohttp import web

from .accounts import Accounts
from .answers import REFUSALS, RELAYED, ScriptedAnswer, as_answer, json_answer
from .chargers import ChargerFleet
from .charges import StartBody, StopBody, decode, matches
from .faults import Faults
from .ledger import LoggedRequest, Read
from .rate_limits import RateLimits
from .running_list import Lists, running_list
from .server import PREFIX, Server
from .threaded import in_own_thread

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from aiohttp.typedefs import Handler


class ThorEmulator(ChargerFleet, Accounts, Server):
    """Emulates Thor on a local port. `async with` starts and stops it, on the running loop.

    `with` does so in a thread of its own, for synchronous code. Its methods can then be called, and
    its attributes set, in any thread; `refuse` and `accept` can be awaited on any loop, also by
    `asyncio.run`. While requests are under way, do not change the items of `charges` and
    `chargeboxes` yourself. A function given to `notifications` is called in the emulator's thread:
    it must return at once, and must not wait for the emulator.

    It answers `charges/stop`, `charges/start`, `charges/running`, `chargeboxes` and
    `chargeboxes/{id}` below `base_url`. It listens on `host` and `port` (0: any free port), or on
    `sock`, a bound socket. A test may change these attributes while the emulator runs:

    - `api_key`; `enabled` (False: every request gets a 403); `source_ip`, the only address that is
      allowed (None: all);
    - `faults` of requests, and `lists`, the faults of the list of running charges;
    - `charges`, the running charges that Thor knows, by chargebox and connector;
    - `chargeboxes`, the chargeboxes that Thor knows, each with its known connectors;
    - `aliases`, the names that people know them by; the default is `Chargebox` and its identifier;
    - `behaviours` of the chargeboxes on a stop, by chargebox; None is the key for all others;
    - `next_transaction`, the number of the next charge that is started without one; a lower value
      makes the numbers fall, or reuses them;
    - `clock_offset`, the seconds by which Thor's clock is ahead of the clock of this machine;
    - `notifications`, the receiver of notifications, or None.

    `limits` are the rate limits of the account of `api_key`: see `RateLimits`. `set_limits` changes
    them, also while the emulator runs, and `add_account` adds an account with another key. At each
    start, all buckets are full. A request with a valid key takes its tokens before all checks, and
    a 429 precedes all faults.

    `offline` holds the chargeboxes between `go_offline` and `come_back`. `ledger` is the record of
    what really happened.

    A stop that Thor relays ends its charge before the 200 is sent, unless the `Behaviour` of the
    chargebox says otherwise. All times are in the loop's time. Timers that have not fired at the
    end of `async with` are cancelled.

    All random values come from `seed`. The faults of stops and starts depend on their order of
    receipt only; GETs, chargeboxes and notifications draw independently of them. As in a real back
    end, the work on a request goes on when its client leaves. Raises ValueError for bad settings.
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
        limits: RateLimits | None = None,
    ) -> None:
        _check_address(port, sock)
        ChargerFleet.__init__(self, seed)
        Accounts.__init__(self, self._clock, api_key, limits, source_ip, enabled)
        Server.__init__(self, host, port, sock)
        self.faults: Faults = faults or Faults()
        self.lists: Lists = Lists()
        self._get_rng = random.Random(f"gets {seed}")
        self._scripts: defaultdict[str | None, deque[ScriptedAnswer]] = defaultdict(deque)
        self._always: dict[str | None, ScriptedAnswer] = {}

    async def __aenter__(self) -> Self:
        await self._start_server(
            [
                web.post(f"{PREFIX}/charges/stop", self._handle_stop),
                web.post(f"{PREFIX}/charges/start", self._handle_start),
                web.get(f"{PREFIX}/charges/running", self._get_handler(self._running_charges)),
                web.get(f"{PREFIX}/chargeboxes", self._get_handler(self._all_chargeboxes)),
                web.get(f"{PREFIX}/chargeboxes/{{id}}", self._get_handler(self._one_chargebox)),
            ]
        )
        self._start_chargers()
        self._reset_limits()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self._stop_server()
        finally:
            await self._stop_chargers()

    @in_own_thread
    def script(self, *answers: ScriptedAnswer | int | str, chargebox: str | None = None) -> None:
        """Answer the next stop requests (of `chargebox`, if given) with `answers`, in order.

        A number is a status with an empty body. A string is a Thor code: it gets its documented
        status and the body `{"message": code}`; an unknown code raises ValueError. A scripted
        answer precedes every check, rate limit and fault, but its request takes tokens. The script
        of the chargebox precedes the common script, and both precede `always`.
        """
        self._scripts[chargebox].extend([as_answer(answer) for answer in answers])

    @in_own_thread
    def always(
        self, answer: ScriptedAnswer | int | str | None, chargebox: str | None = None
    ) -> None:
        """Answer every stop request (of `chargebox`, if given) with `answer`. None ends this."""
        if answer is None:
            self._always.pop(chargebox, None)
        else:
            self._always[chargebox] = as_answer(answer)

    async def _handle_stop(self, request: web.Request) -> web.Response:
        command = decode(await request.read(), StopBody)
        account_error = self._check_account(request)
        entry = LoggedRequest(command, account_error is None, asyncio.get_running_loop().time())
        self.ledger.requests.append(entry)
        throttled = self._throttle(request, command.chargebox if command else None)
        scripted = self._next_scripted(command)
        fault = None if scripted else self.faults.pick(self._rng)
        await self._wait_latency(self._rng)
        domain_error = self._check_body(command) if command else REFUSALS["BadRequest"]
        refusal = account_error or domain_error
        answer = scripted or throttled or _apply_fault(fault, refusal)
        if command and answer.effect and refusal is None:
            charge = self.charges[command.chargebox, command.connector]
            entry.effect = charge.transaction
            self._relay_stop(charge)
        await asyncio.sleep(answer.delay)
        return _complete(request, entry, answer)

    def _next_scripted(self, command: StopBody | None) -> ScriptedAnswer | None:
        own = command.chargebox if command else None
        for chargebox in (own, None):
            if script := self._scripts.get(chargebox):
                return script.popleft()
        return self._always.get(own) or self._always.get(None)

    async def _wait_latency(self, rng: random.Random) -> None:
        await asyncio.sleep(rng.uniform(*self.faults.latency))

    def _check_body(self, body: StopBody | StartBody) -> ScriptedAnswer | None:
        if body.chargebox not in self.chargeboxes:
            return REFUSALS["ChargeboxNotFound"]
        if body.connector <= 0:
            return REFUSALS["ConnectorNotValid"]
        charge = self.charges.get((body.chargebox, body.connector))
        if isinstance(body, StartBody):
            return REFUSALS["AlreadyInTransaction"] if charge else None
        if charge is None:
            return REFUSALS["NotInTransaction"]
        return None if matches(body, charge) else REFUSALS["WrongTransaction"]

    async def _handle_start(self, request: web.Request) -> web.Response:
        body = await request.read()
        throttled = self._throttle(request)
        await self._wait_latency(self._rng)
        refusal = throttled or self._check_account(request)
        return _response(refusal or self._start_remotely(body))

    def _start_remotely(self, body: bytes) -> ScriptedAnswer:
        command = decode(body, StartBody)
        if command is None:
            return REFUSALS["BadRequest"]
        if refusal := self._check_body(command):
            return refusal
        charge = self.start_charge(command.chargebox, command.connector, mode="api")
        return json_answer({"id_tag": charge.id_tag})

    def _get_handler(self, build_answer: Callable[[web.Request], ScriptedAnswer]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            path = request.path.removeprefix(f"{PREFIX}/")
            chargebox = request.query.get("chargebox", request.match_info.get("id"))
            entry = Read(path, chargebox, asyncio.get_running_loop().time())
            self.ledger.reads.append(entry)
            throttled = self._throttle(request)
            await self._wait_latency(self._get_rng)
            refusal = throttled or self._check_account(request)
            return _complete(request, entry, refusal or build_answer(request))

        return handle

    def _running_charges(self, request: web.Request) -> ScriptedAnswer:
        fault = self.lists.pick(self._get_rng)
        lag = self._get_rng.uniform(*self.lists.lag)
        charges = self._charges_ago(lag) if lag else self.charges.values()
        return running_list(charges, request.query.get("chargebox"), fault, self._get_rng)

    def _all_chargeboxes(self, request: web.Request) -> ScriptedAnswer:
        return json_answer([self._chargebox_item(name) for name in self.chargeboxes])

    def _one_chargebox(self, request: web.Request) -> ScriptedAnswer:
        name = request.match_info["id"]
        if name not in self.chargeboxes:
            return REFUSALS["ChargeboxNotFound"]
        return json_answer(self._chargebox_item(name))

    def _chargebox_item(self, name: str) -> dict[str, object]:
        connectors = sorted(self.chargeboxes[name])
        # The token lets tests find a client that keeps it.
        connector = {"power": 22000, "type": "IEC_62196_T2", "format": "SOCKET", "token": "secret"}
        return {
            "id": name,
            "alias": self.aliases.get(name, f"Chargebox {name}"),
            "active": True,
            "connected": name not in self.offline,
            "connectors": [connector] * len(connectors),
            "occupied_connectors": [n for n in connectors if (name, n) in self.charges],
            "reserved_connectors": [],
            "coordinates": {"latitude": 45.07, "longitude": 7.69},
            "last_heartbeat": self._thor_ms(),
            "timezone": "Europe/Rome",
        }


def _check_address(port: int, sock: socket.socket | None) -> None:
    if not 0 <= port <= 65535:
        raise ValueError(f"bad port {port}: give 0 to 65535; 0 is any free port")
    if sock is not None and port:
        raise ValueError(f"port {port} and sock exclude each other: bind sock to the port instead")


def _apply_fault(fault: ScriptedAnswer | None, refusal: ScriptedAnswer | None) -> ScriptedAnswer:
    """Returns the fault if it can occur: a fault after the effect needs a stop that is relayed."""
    if fault and (refusal is None or not fault.effect):
        return fault
    return refusal or RELAYED


def _complete(
    request: web.Request, entry: LoggedRequest | Read, answer: ScriptedAnswer
) -> web.Response:
    """Completes the ledger entry, and returns the response or aborts the connection."""
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
