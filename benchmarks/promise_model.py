"""A model of Thor for `benchmarks.promise`: drivers, chargeboxes, stops and lists, without HTTP.

It stands in for the transport of a client. Its random values come from one seed.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from thor_async import ConnectionLost, NotSentError, ResponseTimeout, ThorError
from thor_async._protocol.http_messages import Answer, Request
from thor_async._transport.deadlines import Deadlines

EPOCH = 1_750_000_000
OK = Answer(200, b"{}")
CUT, LIE = "cut", "lie"
_decode = msgspec.json.decode
_encode = msgspec.json.encode


def refusal(code: str, status: int = 400) -> Answer:
    return Answer(status, _encode({"message": code}))


NOT_IN_TRANSACTION, WRONG_TRANSACTION = refusal("NotInTransaction"), refusal("WrongTransaction")
_ERRORS = (refusal("InternalServerError", 500), Answer(502), Answer(503))
_ACCOUNT = refusal("RestAPINotEnabled", 403)
_THROTTLED = Answer(429, b"{}", retry_after="2")


class Regime(NamedTuple):
    """The conditions of one episode. Probabilities are from 0 to 1, times are in seconds.

    `lag` is the range of the lag of each list. `fault` is the probability that a stop request
    fails, and `list_fault` that a list fails, is cut, or lies. `account` and `outage` are spans of
    time in which Thor refuses the account, or does not answer.
    """

    lag: tuple[float, float]
    fault: float
    list_fault: float
    offset: float
    numbers: str
    outage: tuple[float, float]
    account: tuple[float, float]
    notified: float
    eager: float


_NEVER = (math.inf, math.inf)
_LAGS = ((0.0, 0.0), (0.0, 0.0), (0.0, 12.0), (0.0, 4.0), (5.0, 5.0), (12.0, 12.0))


def draw_regime(rng: random.Random) -> Regime:
    begin = rng.uniform(0, 300)
    span = (begin, begin + rng.choice((3.0, 40.0, 120.0)))
    trouble = rng.random()
    return Regime(
        lag=rng.choice(_LAGS),
        fault=rng.choice((0.0, 0.05, 0.3)),
        list_fault=rng.choice((0.0, 0.05, 0.3)),
        offset=rng.choice((0.0, -1.0, 1.0, rng.uniform(-1, 1))),
        numbers=rng.choice(("rise", "fall", "reuse")),
        outage=span if trouble < 0.15 else _NEVER,
        account=span if 0.15 < trouble < 0.2 else _NEVER,
        notified=rng.choice((0.0, 0.0, 0.9)),
        eager=rng.choice((0.0, 0.3, 0.9)),
    )


class Charge(msgspec.Struct, eq=False):
    """One charge; `began` and `ended` are loop times. `row` is its row in the running list."""

    place: Place
    id_tag: str
    transaction: int
    began: float
    row: dict[str, Any]
    ended: float | None = None
    ignored: int = 0

    def __repr__(self) -> str:
        ended = "runs" if self.ended is None else f"ended {self.ended:.2f}"
        return f"<{self.transaction} tag {self.id_tag} began {self.began:.2f} {ended}>"


class Place(msgspec.Struct, eq=False):
    """One connector, its reaction to stops, its charges, and what happened there."""

    chargebox: str
    connector: int
    id_tag: str
    delay: tuple[float, float]
    refuses: float
    ignores: float
    charges: list[Charge]
    events: list[tuple[Any, ...]]

    @property
    def current(self) -> Charge | None:
        last = self.charges[-1] if self.charges else None
        return last if last is not None and last.ended is None else None

    def running_at(self, time: float) -> Charge | None:
        for charge in reversed(self.charges):
            if charge.began <= time:
                return charge if charge.ended is None or charge.ended > time else None
        return None


class Call(msgspec.Struct, eq=False):
    """The requests of one command in one run. `relayed` are the charges that they reached.

    `first` is the charge that ran when the first request came that could have an effect.
    """

    kind: str
    meant: Charge | None
    transaction: int | None
    received: int = 0
    first: Charge | None = None
    has_first: bool = False
    relayed: list[Charge] = msgspec.field(default_factory=list)

    def receive(self, current: Charge | None, *, may_have_effect: bool) -> None:
        """Counts a request, which comes while `current` runs."""
        self.received += 1
        if may_have_effect and not self.has_first:
            self.first, self.has_first = current, True


class Thor:
    """The account: its places, and Thor's answers. Create it while the loop runs."""

    def __init__(self, rng: random.Random, places: int) -> None:
        self.rng = rng
        self.regime = draw_regime(rng)
        self.loop = asyncio.get_running_loop()
        self.violations: list[str] = []
        self.transports: list[Transport] = []
        self.pending: Transport | None = None
        self._number = 100_000
        self._numbers: dict[str, int] = {}
        self.places = {
            (place.chargebox, place.connector): place
            for place in (self._add_place(number) for number in range(places))
        }

    def take_pending(self, *_: object) -> Transport:
        """Returns the transport of the client that is being opened."""
        assert self.pending is not None
        return self.pending

    def later(self, seconds: float, callback: Any, *args: Any) -> None:
        self.loop.call_later(seconds, callback, *args)

    def violate(self, place: Place, what: str) -> None:
        events = "\n".join(
            f"    {time:10.3f} {' '.join(map(str, rest))}" for time, *rest in place.events
        )
        self.violations.append(
            f"{what} at {place.chargebox}, {place.connector}\n{events}\n"
            f"    now {self.loop.time():.3f} {self.regime}"
        )

    def note(self, place: Place, *event: Any) -> None:
        place.events.append((self.loop.time(), *event))

    # Drivers and chargeboxes

    def _add_place(self, number: int) -> Place:
        rng = self.rng
        kind = rng.random()
        place = Place(
            chargebox=f"box-{number // 2}",
            connector=number % 2 + 1,
            id_tag=f"tag-{number}",
            delay=rng.choice(((0.0, 0.0), (0.5, 3.0), (3.0, 20.0))),
            refuses=0.5 if kind < 0.15 else 0.0,
            ignores=rng.choice((1, 2, math.inf)) if 0.15 < kind < 0.35 else 0,
            charges=[],
            events=[],
        )
        now = self.loop.time()
        if rng.random() < 0.5:
            self._begin(place, now - 7200)
            place.charges[-1].ended = now - rng.choice((2.0, 8.0, 600.0))
        if rng.random() < 0.85:
            last = place.charges[-1].ended if place.charges else now - 7000
            assert last is not None
            self._begin(place, min(now, last + rng.choice((0.5, 1.0, 5.0, 60.0))))
        else:
            self.later(rng.uniform(0, 60), self._begin_now, place)
        return place

    def _next_number(self, chargebox: str) -> int:
        """Numbers that are reused are so on different chargeboxes only."""
        if self.regime.numbers == "reuse":
            self._numbers[chargebox] = self._numbers.get(chargebox, 50) + self.rng.choice((1, 2))
            return self._numbers[chargebox]
        self._number += 1 if self.regime.numbers == "rise" else -1
        return self._number

    def _begin_now(self, place: Place) -> None:
        if place.current is None:
            self._begin(place, self.loop.time())

    def _begin(self, place: Place, began: float) -> None:
        rng = self.rng
        number = self._next_number(place.chargebox)
        tag = place.id_tag if rng.random() < 0.85 else f"{place.id_tag}-other"
        odd = rng.random()
        row = {
            "id": number if odd > 0.02 else rng.choice((0, None)),
            "chargebox": place.chargebox,
            "connector": place.connector,
            "date_started": round((EPOCH + began + self.regime.offset) * 1000)
            if not 0.02 < odd < 0.04
            else None,
            "energy": 1.0,
            "id_tag": tag if rng.random() < 0.7 else None,
            "type": "local",
        }
        charge = Charge(place, tag, number, began, row)
        place.charges.append(charge)
        self.note(
            place,
            "begins",
            number,
            tag,
            f"at {began:.3f}",
            row["id"],
            row["id_tag"],
            row["date_started"],
        )
        self.later(rng.choice((8.0, 30.0, 120.0, 1000.0)) * rng.uniform(0.5, 3), self._end, charge)

    def _end(self, charge: Charge) -> None:
        place, rng = charge.place, self.rng
        if charge.ended is not None:
            return
        charge.ended = self.loop.time()
        self.note(place, "ends", charge.transaction)
        self._notify(place, charge.transaction, True)
        gap = rng.choice((0.5, 2.0, 8.0)) if rng.random() < self.regime.eager else 100.0
        self.later(gap * rng.uniform(0.5, 2), self._begin_now, place)

    def _notify(self, place: Place, transaction: int, is_end: bool) -> None:
        if self.rng.random() >= self.regime.notified:
            return
        message = {
            "type": "stop_transaction",
            "accepted": True,
            "unlocked": False,
            "chargebox": place.chargebox,
            "idTag": place.id_tag,
            "connector": place.connector,
            "transaction_id": transaction,
            "kwh": 1,
            "time": 10,
        }
        if not is_end:
            message |= {"accepted": False, "transaction_id": 0, "msg": "stop"}
            del message["type"]
        body = _encode(message)
        for _ in range(self.rng.choice((1, 1, 2))):
            self.later(self.rng.choice((0.1, 1.0, 20.0)), self._deliver, body)

    def _deliver(self, body: bytes) -> None:
        for transport in self.transports:
            for notify in () if transport.is_dead else transport.listeners:
                notify(body)

    def _receive_stop(self, charge: Charge) -> None:
        place = charge.place
        self.later(self.rng.uniform(*place.delay), self._execute, charge)

    def _execute(self, charge: Charge) -> None:
        place = charge.place
        if charge.ended is not None:
            return
        if charge.ignored < place.ignores:
            charge.ignored += 1
            self.note(place, "ignores a stop of", charge.transaction)
        elif self.rng.random() < place.refuses:
            self.note(place, "refuses to stop", charge.transaction)
            self._notify(place, charge.transaction, False)
        else:
            self._end(charge)

    # Answers

    def answer_stop(self, body: dict[str, Any], call: Call | None, client: str) -> Answer:
        """Handles a stop, and checks that it reaches a charge that its command means."""
        place = self.places[body["chargebox"], body["connector"]]
        transaction, charge = body.get("transaction"), place.current
        if call is not None:
            call.receive(charge, may_have_effect=True)
        if self.regime.account[0] <= self.loop.time() < self.regime.account[1]:
            answer = _ACCOUNT
        elif charge is None:
            answer = NOT_IN_TRANSACTION
        elif charge.id_tag != body["id_tag"] or transaction not in (None, charge.transaction):
            answer = WRONG_TRANSACTION
        else:
            answer = OK
        self.note(
            place,
            client,
            "stop received, transaction",
            transaction,
            "->",
            answer.status,
            (answer.body or b"").decode(),
        )
        if answer is OK:
            assert charge is not None
            self._check_relay(place, charge, transaction, call)
            self._receive_stop(charge)
        return answer

    def _check_relay(
        self, place: Place, charge: Charge, transaction: int | None, call: Call | None
    ) -> None:
        if call is None:
            self.violate(place, "a stop that no call explains")
            return
        if call.kind == "as_of" and transaction is None:
            self.violate(place, "a command with as_of was sent without a transaction")
        if call.kind == "fresh":
            # Documented: the first request of a fresh command stops what runs there now.
            if charge is not call.first:
                self.violate(
                    place, f"STOPPED THE NEXT: {charge} by a retry, {call.first} ran at the first"
                )
        elif charge is not call.meant:
            self.violate(place, f"STOPPED ANOTHER: {charge}, but {call.kind} means {call.meant}")
        call.relayed.append(charge)

    def answer_list(self, chargebox: str | None, last_was_lie: bool) -> Answer:
        """Answers a client. No two lies come one after the other: no client could find out."""
        rng, regime = self.rng, self.regime
        if regime.account[0] <= self.loop.time() < regime.account[1]:
            return _ACCOUNT
        time = self.loop.time() - rng.uniform(*regime.lag)
        rows = []
        for place in self.places.values():
            charge = place.running_at(time)
            if charge is not None and chargebox in (None, place.chargebox):
                rows.append(charge.row)
        if rng.random() >= regime.list_fault:
            return Answer(200, _encode({"count": len(rows), "items": rows}))
        kind = rng.choice(("error", "cut", "empty", "partial", "foreign"))
        if kind == "error" or last_was_lie:
            return rng.choice(_ERRORS)
        if kind == "cut":
            shown = rows[: rng.randrange(len(rows))] if rows else [{}]
            return Answer(200, _encode({"count": len(rows), "items": shown}), CUT)
        if kind == "partial":
            rows = [row for row in rows if rng.random() < 0.5]
        else:
            rows = [] if kind == "empty" else [{"id": 7, "chargebox": "x", "connector": 1}]
        return Answer(200, _encode({"count": len(rows), "items": rows}), LIE)

    def answer_chargeboxes(self) -> Answer:
        names = {place.chargebox for place in self.places.values()}
        return Answer(200, _encode([{"id": name} for name in sorted(names)]))


class Transport:
    """The transport of one client. `calls` are its commands, by chargebox and connector."""

    session = SimpleNamespace(closed=False)

    def __init__(self, thor: Thor, name: str) -> None:
        self.name = name
        self.calls: dict[tuple[str, int], Call] = {}
        self.is_dead = False
        self.looks = 0
        self.stops = 0
        self.last_was_lie: dict[str, bool] = {}
        self.listeners: Sequence[Callable[[bytes], object]] = ()
        self._thor = thor
        thor.transports.append(self)

    async def close(self) -> None: ...

    async def send(
        self, request: Request, key: str, seconds: float, deadlines: Deadlines
    ) -> Answer | ThorError:
        thor = self._thor
        if self.is_dead:
            thor.violations.append(f"{self.name} sends after its end")
        try:
            with deadlines.limit(seconds):
                return await self._exchange(request, key)
        except TimeoutError:
            return ResponseTimeout("no answer in time")

    async def _exchange(self, request: Request, key: str) -> Answer | ThorError:
        thor, rng = self._thor, self._thor.rng
        there = rng.uniform(0.005, 0.2) if rng.random() < 0.97 else rng.uniform(0.2, 15.0)
        outage = thor.regime.outage
        if outage[0] <= thor.loop.time() < outage[1]:
            await asyncio.sleep(there)
            return NotSentError("connection refused", reason="connect")
        answered: asyncio.Future[Answer | ThorError] = thor.loop.create_future()
        if request.body is None:
            self.looks += 1
            thor.later(there, self._receive_get, request.url, key, answered)
        else:
            self.stops += 1
            body = _decode(request.body)
            call = self.calls.get((body["chargebox"], body["connector"]))
            fault = rng.randrange(9) if rng.random() < thor.regime.fault else None
            if fault == 0:
                await asyncio.sleep(there)
                return NotSentError("connection refused", reason="connect")
            thor.later(there, self._receive_stop, body, call, fault, answered)
        return await answered

    def _receive_get(
        self, url: str, key: str, answered: asyncio.Future[Answer | ThorError]
    ) -> None:
        _, _, query = url.partition("?chargebox=")
        is_charges = "/charges/running" in url
        thor = self._thor
        if not is_charges:
            self._reply(answered, thor.answer_chargeboxes())
            return
        answer = thor.answer_list(query or None, self.last_was_lie.get(key, False))
        self._reply(answered, answer)
        if answer.status == 200 and answer.content_type != CUT:
            is_lie = answer.content_type == LIE

            def note(done: asyncio.Future[Answer | ThorError]) -> None:
                # Only a true list that arrives ends the lie.
                if is_lie or not done.cancelled():
                    self.last_was_lie[key] = is_lie

            answered.add_done_callback(note)

    def _receive_stop(
        self,
        body: dict[str, Any],
        call: Call | None,
        fault: int | None,
        answered: asyncio.Future[Answer | ThorError],
    ) -> None:
        """Faults 1 to 4 are those before the effect, from 5 on after it."""
        thor, rng = self._thor, self._thor.rng
        if fault is None or fault > 4:
            answer: Answer | ThorError = thor.answer_stop(body, call, self.name)
        else:
            if call is not None:
                current = thor.places[body["chargebox"], body["connector"]].current
                call.receive(current, may_have_effect=fault != 2)
            answer = rng.choice(_ERRORS)
        if fault in (4, 8):
            return  # the answer never comes
        if fault in (3, 7):
            answer = ConnectionLost("the connection was lost")
        elif fault == 2:
            answer = _THROTTLED
        elif fault in (5, 6) and answer is OK:
            answer = _ERRORS[0] if fault == 5 else Answer(200, b"<html>", "text/html")
        self._reply(answered, answer)

    def _reply(
        self, answered: asyncio.Future[Answer | ThorError], answer: Answer | ThorError
    ) -> None:
        def reply() -> None:
            if not answered.done():
                answered.set_result(answer)

        self._thor.later(self._thor.rng.uniform(0.005, 0.2), reply)


def at(time: float) -> datetime:
    """Returns the time of day at a loop time, by the clock of the client."""
    return datetime.fromtimestamp(EPOCH + time, UTC)
