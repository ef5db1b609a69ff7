"""A Thor to test against: a real HTTP server with charges, faults, and a record of the truth.

It listens on loopback and behaves as Thor's public documentation says. What that leaves open is
decided here and marked as the emulator's own. Nothing in it is for production.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import random
import time
from collections import defaultdict, deque
from itertools import chain
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from aiohttp.typedefs import Handler

    from .models import StopCharge, StopOutcome

__all__ = ["Answer", "Charge", "Faults", "Ledger", "Request", "StopBody", "ThorEmulator"]

_PREFIX = "/latest/integration"
_JSON = {"Content-Type": "application/json"}
_MODES = ("local", "remote", "api")
_STATUSES = {
    "ConnectorNotValid": 400,
    "NotInTransaction": 400,
    "WrongTransaction": 400,
    "AlreadyInTransaction": 400,
    "BadRequest": 400,  # the emulator's own: nobody knows Thor's answer to a malformed body
    "ChargeboxNotFree": 402,
    "APIKeyNotFound": 403,
    "RestAPINotEnabled": 403,
    "InvalidSourceIPAddr": 403,
    "ChargeboxNotActive": 403,
    "ChargeboxNotFound": 404,
    "TooManyRequests": 429,
    "InternalServerError": 500,
}


class Answer(msgspec.Struct, frozen=True):
    """One answer of the server, for `ThorEmulator.script` and `ThorEmulator.always`.

    With `effect` the charge is ended first, if the stop is one that Thor would obey. Then `delay`
    seconds pass, so that a client that gives up meanwhile has ended a charge without knowing.
    `drop` aborts the connection in place of answering. `code` is only for the ledger.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    effect: bool = False
    delay: float = 0.0
    drop: bool = False
    code: str | None = None

    def __post_init__(self) -> None:
        if not 100 <= self.status <= 999:
            raise ValueError(f"status {self.status} is none of HTTP's: give 100 to 999")
        if not 0 <= self.delay < math.inf:
            raise ValueError(f"delay {self.delay} is no time to wait: give seconds, 0 or more")


def _json(content: object) -> Answer:
    return Answer(200, msgspec.json.encode(content), _JSON)


def _refusal(code: str, status: int) -> Answer:
    return Answer(status, msgspec.json.encode({"message": code}), _JSON, code=code)


_REFUSALS = {code: _refusal(code, status) for code, status in _STATUSES.items()}
_RELAYED = Answer(200, b"{}", _JSON, effect=True)
_FAULTS = {
    "error_before": (_REFUSALS["InternalServerError"], Answer(502), Answer(503)),
    "error_after": (msgspec.structs.replace(_REFUSALS["InternalServerError"], effect=True),),
    "drop_before": (Answer(drop=True),),
    "drop_after": (Answer(drop=True, effect=True),),
    "throttle": (Answer(503, headers={"Retry-After": "1"}),),
}


def _answer(given: Answer | int | str) -> Answer:
    if isinstance(given, Answer):
        return given
    if isinstance(given, int):
        return Answer(given)
    if given not in _REFUSALS:
        raise ValueError(f"{given!r} is no code of Thor's: give one of {', '.join(_REFUSALS)}")
    return _REFUSALS[given]


class Faults(msgspec.Struct, frozen=True):
    """How often a stop request meets which fault, as probabilities from 0 to 1.

    `error_before` and `drop_before` strike before anything is checked or done; `error_after` and
    `drop_after` only in place of the 200 of a stop that did end its charge. An error is a 500
    `InternalServerError`, before the effect also a 502 or 503 without a code; a drop aborts the
    connection; `throttle` is a 503 with `Retry-After: 1`. `latency` is the range, in seconds, from
    which every request's own delay is drawn: it passes after receipt, before anything else.
    """

    error_before: float = 0.0
    error_after: float = 0.0
    drop_before: float = 0.0
    drop_after: float = 0.0
    throttle: float = 0.0
    latency: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def spread(cls, p: float) -> Faults:
        """The probability `p`, split evenly over errors and drops, before and after the effect."""
        _check_probability("p", p)
        return cls(error_before=p / 4, error_after=p / 4, drop_before=p / 4, drop_after=p / 4)

    def __post_init__(self) -> None:
        chances = {name: getattr(self, name) for name in _FAULTS}
        for name, chance in chances.items():
            _check_probability(name, chance)
        if (total := math.fsum(chances.values())) > 1:
            raise ValueError(f"the probabilities sum to {total}: lower them to at most 1 in all")
        shortest, longest = self.latency
        if not 0 <= shortest <= longest < math.inf:
            raise ValueError(f"latency {self.latency} is no range: give two numbers of seconds")


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} is no probability: give a number from 0 to 1")


class Charge(msgspec.Struct, frozen=True):
    """A running charge; `date_started` is epoch milliseconds, `energy` watt-hours."""

    chargebox: str
    connector: int
    id_tag: str
    transaction: int
    mode: str
    date_started: int
    energy: float = 0.0

    def item(self) -> dict[str, object]:
        """This charge as the list of running charges shows it."""
        return {
            "id": self.transaction,
            "chargebox": self.chargebox,
            "connector": self.connector,
            "date_started": self.date_started,
            "energy": self.energy,
            "id_tag": self.id_tag if self.mode == "local" else None,
            "type": self.mode,
            "user": None,
            "payment": None,
        }


class StopBody(msgspec.Struct, frozen=True, gc=False):
    """What a stop request says; other properties are allowed and ignored."""

    chargebox: str
    connector: int
    id_tag: str
    transaction: int | None = None


class _StartBody(msgspec.Struct, frozen=True, gc=False):
    chargebox: str
    connector: int


_Body = TypeVar("_Body", StopBody, _StartBody)


def _decode(body: bytes, type_: type[_Body]) -> _Body | None:
    try:
        return msgspec.json.decode(body, type=type_)
    except (ValueError, RecursionError):
        return None


def _ends(command: StopBody | StopCharge, charge: Charge) -> bool:
    numbers = (None, charge.transaction)
    return command.id_tag == charge.id_tag and command.transaction in numbers


class Request(msgspec.Struct, gc=False):
    """One stop request that was fully received: what it said, and what came of it.

    `command` is None for a malformed body, `status` while unanswered and for ever when dropped or
    when the client had left, `code` where the answer carried none. `authorized` says that key,
    account and source IP were right; `effect` is the transaction that this request ended. `at` is
    the time of receipt by the loop's clock.
    """

    command: StopBody | None
    authorized: bool
    at: float
    status: int | None = None
    code: str | None = None
    effect: int | None = None


class _Tally(msgspec.Struct):
    """What the requests with the same fields came to."""

    received: int = 0
    relayed: int = 0
    rejected: int = 0
    effects: int = 0

    def add(self, request: Request) -> None:
        status = request.status or 0
        self.received += 1
        self.relayed += status == 200
        self.rejected += 400 <= status < 500
        self.effects += request.effect is not None

    def overclaims(self, outcomes: Sequence[StopOutcome]) -> list[StopOutcome]:
        """The lies among the outcomes of these requests, by the rules of `Ledger.overclaims`."""
        relayed = [outcome for outcome in outcomes if outcome.verdict == "relayed"]
        lies = relayed[self.relayed :]
        if any(o.verdict == "indeterminate" or o.maybe_applied for o in outcomes):
            return lies
        rejected = [outcome for outcome in outcomes if outcome.verdict == "rejected"]
        not_sent = [outcome for outcome in outcomes if outcome.verdict == "not_sent"]
        refused = self.rejected if relayed or rejected else 0
        lies += rejected[: max(0, self.effects - len(relayed))]
        lies += not_sent[: max(0, self.received - refused - len(relayed))]
        return lies


class Ledger:
    """The truth about every stop request that was fully received, in order of receipt.

    A request is entered before anything is done with it and its entry is filled in at the end, so
    one whose client leaves, or that is cut off by the end of the server, is in here too.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []

    @property
    def effects(self) -> list[Request]:
        """The requests that ended a charge, each with its transaction in `effect`."""
        return [request for request in self.requests if request.effect is not None]

    def overclaims(self, outcomes: Iterable[StopOutcome]) -> list[StopOutcome]:
        """The outcomes whose verdict is better than the truth; empty if the client was honest.

        `relayed` claims that a request with the command's fields was answered 200; `not_sent`, that
        none was received; `rejected` without `maybe_applied`, that none had an effect. Nothing on
        the wire tells commands with equal fields apart, so these are counted together:

        - each `relayed` needs a 200 of its own;
        - a `relayed` without `maybe_applied` explains one request that may have had an effect, a
          `rejected` without it none; both explain any number of 4xx answers;
        - what they leave unexplained convicts as many `not_sent` (by requests) and `rejected` (by
          effects); which of the equal ones is arbitrary;
        - an outcome that is `indeterminate` or has `maybe_applied` may explain any number of
          requests and effects, so beside one these two cannot be convicted.

        So pass all outcomes of the commands concerned, and look once nothing is in flight.
        """
        tallies: defaultdict[StopBody, _Tally] = defaultdict(_Tally)
        for request in self.requests:
            if request.command is not None:
                tallies[request.command].add(request)
        groups: defaultdict[StopBody, list[StopOutcome]] = defaultdict(list)
        for outcome in outcomes:
            said = outcome.command
            fields = StopBody(said.chargebox, said.connector, said.id_tag, said.transaction)
            groups[fields].append(outcome)
        lies = [tallies[fields].overclaims(group) for fields, group in groups.items()]
        return list(chain.from_iterable(lies))


class ThorEmulator:
    """A Thor on a local port, started and stopped by `async with`.

    It answers `charges/stop`, `charges/start`, `charges/running`, `chargeboxes` and
    `chargeboxes/{id}` below `base_url`, on `host` and `port` (0: any free one) or on `sock`, a
    bound socket. `api_key`, `enabled` (else 403), `source_ip` (the only one let in) and `faults`
    are attributes that may be changed while it runs, as are `charges` (the running ones, by
    chargebox and connector) and `chargeboxes` (the known ones, with their known connectors).
    `ledger` holds the truth about the stop requests.

    One random generator with `seed` decides everything random, in order of receipt: the same
    requests in the same order meet the same faults. A client that leaves does not stop the work on
    its request, as with any real back end. Raises ValueError for bad settings.
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
        self.api_key = api_key
        self.enabled = enabled
        self.source_ip = source_ip
        self.faults = faults or Faults()
        self.charges: dict[tuple[str, int], Charge] = {}
        self.chargeboxes: dict[str, set[int]] = {}
        self.ledger = Ledger()
        self._host, self._port, self._sock = host, port, sock
        self._random = random.Random(seed)
        self._last_transaction = 0
        self._scripts: defaultdict[str | None, deque[Answer]] = defaultdict(deque)
        self._always: dict[str | None, Answer] = {}
        self._handlers: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._site: web.BaseSite | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._track])
        app.router.add_post(f"{_PREFIX}/charges/stop", self._stop)
        app.router.add_post(f"{_PREFIX}/charges/start", self._guarded(self._start))
        app.router.add_get(f"{_PREFIX}/charges/running", self._guarded(self._running))
        app.router.add_get(f"{_PREFIX}/chargeboxes", self._guarded(self._all_chargeboxes))
        app.router.add_get(f"{_PREFIX}/chargeboxes/{{id}}", self._guarded(self._one_chargebox))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await self._listen(runner, self._sock)
        self._runner = runner
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.refuse()
        await self._started().cleanup()
        self._runner = None

    @property
    def base_url(self) -> str:
        """The address to give to the client as its `base_url`; also while it refuses."""
        self._started()
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}{_PREFIX}"

    async def refuse(self) -> None:
        """Go away as a crashed server does, until `accept`.

        New connections are refused, open ones aborted, requests in work abandoned where they are.
        """
        server = self._started().server
        site, self._site = self._site, None
        if site is None or server is None:
            return
        # A timer's turn comes after the accepts of its round. A connection half accepted when its
        # listener closes would stay open with nobody to close it (asyncio's `_attach` fails).
        await asyncio.sleep(0.001)
        await site.stop()
        # What was accepted, or has just arrived, takes a few turns of the loop to be seen.
        await _turns()
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await _turns()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def accept(self) -> None:
        """Come back after `refuse`, on the same port."""
        runner = self._started()
        if self._site is None:
            await self._listen(runner)

    async def _listen(self, runner: web.AppRunner, sock: socket.socket | None = None) -> None:
        by_name = web.TCPSite(runner, self._host, self._port)
        site = by_name if sock is None else web.SockSite(runner, sock)
        await site.start()
        self._site = site
        self._host, self._port = runner.addresses[0][:2]

    def _started(self) -> web.AppRunner:
        if self._runner is None:
            raise RuntimeError("the emulator is not running: use it inside `async with`")
        return self._runner

    def add_chargebox(self, chargebox: str) -> None:
        """Make a chargebox known, with nothing running there yet."""
        self.chargeboxes.setdefault(chargebox, set())

    def start_charge(
        self,
        chargebox: str,
        connector: int,
        id_tag: str | None = None,
        transaction: int | None = None,
        *,
        mode: str = "local",
    ) -> Charge:
        """Start a charge, at a chargebox that becomes known by this, and return it.

        By default the tag is random and the transaction the next free number. `mode` is `local`,
        `remote` or `api`; only a local charge shows its tag in the list. Raises ValueError if a
        charge runs there already.
        """
        if (chargebox, connector) in self.charges:
            raise ValueError(f"a charge runs at {chargebox!r}, {connector}: stop it first")
        if connector < 1 or mode not in _MODES:
            raise ValueError(f"{connector=}, {mode=}: give 1 or more, and one of {_MODES}")
        charge = Charge(
            chargebox,
            connector,
            f"{self._random.getrandbits(40):010X}" if id_tag is None else id_tag,
            self._last_transaction + 1 if transaction is None else transaction,
            mode,
            int(time.time() * 1000),
        )
        self._last_transaction = max(self._last_transaction, charge.transaction)
        self.chargeboxes.setdefault(chargebox, set()).add(connector)
        self.charges[chargebox, connector] = charge
        return charge

    def fill(self, commands: Iterable[StopCharge]) -> None:
        """Start for every command the charge that it would stop, unless that runs already.

        Raises ValueError if another charge runs there.
        """
        for command in commands:
            there = self.charges.get((command.chargebox, command.connector))
            if there is None or not _ends(command, there):
                self.start_charge(
                    command.chargebox, command.connector, command.id_tag, command.transaction
                )

    def script(self, *answers: Answer | int | str, chargebox: str | None = None) -> None:
        """Answer the next stop requests, or the next ones of `chargebox`, with these, in order.

        A number is a bare status with an empty body, a string a code with its documented status
        and the body `{"message": code}` (ValueError for an unknown one). A script comes before
        every check and fault, a chargebox's own before the common one, and both before `always`.
        """
        self._scripts[chargebox].extend([_answer(given) for given in answers])

    def always(self, answer: Answer | int | str | None, chargebox: str | None = None) -> None:
        """Answer every stop request, or every one of `chargebox`, with this; None ends it."""
        if answer is None:
            self._always.pop(chargebox, None)
        else:
            self._always[chargebox] = _answer(answer)

    @web.middleware
    async def _track(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = request.task
        self._handlers.add(task)
        try:
            return await handler(request)
        except ConnectionError:
            # The client left before its request was whole: nobody is there to answer.
            return web.Response()
        finally:
            self._handlers.discard(task)

    async def _stop(self, request: web.Request) -> web.Response:
        command = _decode(await request.read(), StopBody)
        denied = self._denied(request)
        entry = Request(command, denied is None, asyncio.get_running_loop().time())
        self.ledger.requests.append(entry)
        scripted = self._scripted(command)
        fault = None if scripted else self._fault()
        await self._latency()
        refusal = denied or (self._refusal(command) if command else _REFUSALS["BadRequest"])
        answer = scripted or _chosen(fault, refusal)
        if command and answer.effect and refusal is None:
            entry.effect = self.charges.pop((command.chargebox, command.connector)).transaction
        await asyncio.sleep(answer.delay)
        return _finish(request, entry, answer)

    def _scripted(self, command: StopBody | None) -> Answer | None:
        own = command.chargebox if command else None
        for chargebox in (own, None):
            if script := self._scripts.get(chargebox):
                return script.popleft()
        return self._always.get(own) or self._always.get(None)

    def _fault(self) -> Answer | None:
        roll = self._random.random()
        for name, answers in _FAULTS.items():
            roll -= getattr(self.faults, name)
            if roll < 0:
                return self._random.choice(answers)
        return None

    async def _latency(self) -> None:
        await asyncio.sleep(self._random.uniform(*self.faults.latency))

    def _denied(self, request: web.Request) -> Answer | None:
        if request.headers.get("X-Api-Key") != self.api_key:
            return _REFUSALS["APIKeyNotFound"]
        if not self.enabled:
            return _REFUSALS["RestAPINotEnabled"]
        if self.source_ip not in (None, request.remote):
            return _REFUSALS["InvalidSourceIPAddr"]
        return None

    def _refusal(self, body: StopBody | _StartBody) -> Answer | None:
        if body.chargebox not in self.chargeboxes:
            return _REFUSALS["ChargeboxNotFound"]
        if body.connector <= 0:
            return _REFUSALS["ConnectorNotValid"]
        charge = self.charges.get((body.chargebox, body.connector))
        if isinstance(body, _StartBody):
            return _REFUSALS["AlreadyInTransaction"] if charge else None
        if charge is None:
            return _REFUSALS["NotInTransaction"]
        return None if _ends(body, charge) else _REFUSALS["WrongTransaction"]

    def _guarded(self, answer: Callable[[web.Request, bytes], Answer]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            await self._latency()
            return _response(self._denied(request) or answer(request, body))

        return handle

    def _start(self, request: web.Request, body: bytes) -> Answer:
        wanted = _decode(body, _StartBody)
        if wanted is None:
            return _REFUSALS["BadRequest"]
        if refusal := self._refusal(wanted):
            return refusal
        charge = self.start_charge(wanted.chargebox, wanted.connector, mode="api")
        return _json({"id_tag": charge.id_tag})

    def _running(self, request: web.Request, body: bytes) -> Answer:
        wanted = request.query.get("chargebox")
        charges = self.charges.values()
        items = [charge.item() for charge in charges if wanted in (None, charge.chargebox)]
        return _json({"count": len(items), "items": items, "users": {}})

    def _all_chargeboxes(self, request: web.Request, body: bytes) -> Answer:
        return _json([self._chargebox(name) for name in self.chargeboxes])

    def _one_chargebox(self, request: web.Request, body: bytes) -> Answer:
        name = request.match_info["id"]
        known = name in self.chargeboxes
        return _json(self._chargebox(name)) if known else _REFUSALS["ChargeboxNotFound"]

    def _chargebox(self, name: str) -> dict[str, object]:
        connectors = sorted(self.chargeboxes[name])
        # The token is there so that a client that keeps it can be caught.
        connector = {"power": 22000, "type": "IEC_62196_T2", "format": "SOCKET", "token": "secret"}
        return {
            "id": name,
            "alias": f"Chargebox {name}",
            "active": True,
            "connected": True,
            "connectors": [connector] * len(connectors),
            "occupied_connectors": [n for n in connectors if (name, n) in self.charges],
            "reserved_connectors": [],
            "coordinates": {"latitude": 45.07, "longitude": 7.69},
            "last_heartbeat": int(time.time() * 1000),
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


def _chosen(fault: Answer | None, refusal: Answer | None) -> Answer:
    """What is answered without a script: a fault after the effect needs an effect."""
    if fault and (refusal is None or not fault.effect):
        return fault
    return refusal or _RELAYED


def _finish(request: web.Request, entry: Request, answer: Answer) -> web.Response:
    """Enter what the client is about to get, and hand it to aiohttp, or abort the connection."""
    transport = request.transport
    if transport is not None and answer.drop:
        transport.abort()
    elif transport is not None and not transport.is_closing():
        entry.status, entry.code = answer.status, answer.code
    return _response(answer)


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
