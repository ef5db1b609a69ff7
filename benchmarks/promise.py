"""Counts broken promises under virtual time: `python -m benchmarks.promise --commands 1000000`.

Each episode has a small account, drivers, chargeboxes, clients and conditions drawn from its seed.
Commands are sent by every call of the client, in files that are killed and resumed, and by workers
that are killed and get messages again. The model of Thor knows which charge each command means: the
one that ran there, with that tag, at the time of the command. Each of these must not occur: a stop
that reaches a charge that its command does not mean; a result or a settlement that calls a charge
finished that still runs, or says more than is true; a command without a result.

The first request of a fresh command without `transaction`, `as_of` and `pin` stops what runs there
when it arrives: that is documented, and no violation. The public calls send such commands with
`max_attempts=1`, because a late retry of a 5xx could stop the next driver, which is documented too.
The calls of the worker and of the command line retry them. All repeats of commands without a
`transaction` have `as_of`, as a worker and a resumed file send them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import msgspec

import thor_async._client
from tests import virtual_time
from thor_async import (
    BatchGaveUp,
    Confirmation,
    RetryPolicy,
    StopCharge,
    StopOutcome,
    ThorClient,
    ThorError,
    Verdict,
    _calls,
)
from thor_async.worker import decide

from .promise_model import EPOCH, Call, Charge, Place, Thor, Transport, at

Result = StopOutcome | Confirmation
_PLACES = 60
_LIMIT = 20_000.0
_BATCHES = (
    "stop_many",
    "stop_stream",
    "stop_and_confirm_stream",
    "ensure_stopped_stream",
    "singles",
)
_SINGLES = ("stop_charge", "stop_and_confirm", "ensure_stopped")
_CLI_STREAMS: dict[str, Any] = {
    "stop_stream": _calls.stop_stream,
    "stop_and_confirm_stream": _calls.confirm_stream,
}


class Order(msgspec.Struct, eq=False):
    """One command through all its repeats, and the charge that it means."""

    place: Place
    command: StopCharge
    made: float
    meant: Charge | None
    calls: list[Call] = msgspec.field(default_factory=list)
    is_final: bool = False

    def next_call(self, is_repeat: bool, with_as_of: bool) -> tuple[StopCharge, Call]:
        """Returns the command as it is sent now; a repeat of a bare one has `as_of`."""
        command = self.command
        if is_repeat and with_as_of and command.transaction is None and command.as_of is None:
            command = msgspec.structs.replace(command, as_of=at(self.made))
        kind = "as_of" if command.as_of or is_repeat else "fresh"
        if command.transaction:
            kind = "transaction"
        call = Call(kind, self.meant, command.transaction)
        self.calls.append(call)
        return command, call


class Episode:
    """One account and everything that happens there, drawn from `seed`.

    Without `with_as_of`, repeats are sent as the first time, and without `pins_retries`, retries of
    worker and command line: this breaks the promise.
    """

    def __init__(self, seed: int, *, with_as_of: bool = True, pins_retries: bool = True) -> None:
        self.seed = seed
        self.with_as_of = with_as_of
        self.pins_retries = pins_retries
        self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.orders = 0

    async def run(self) -> None:
        self.thor = Thor(self.rng, _PLACES)
        self.loop = asyncio.get_running_loop()
        places = list(self.thor.places.values())
        self.rng.shuffle(places)
        with mock.patch.object(thor_async._client, "Transport", self.thor.take_pending):
            try:
                async with asyncio.timeout(_LIMIT):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._run_file(places[:25]))
                        group.create_task(self._run_file(places[25:40]))
                        group.create_task(self._run_worker(places[40:]))
            except TimeoutError:
                self.thor.violations.append("HANGS: calls do not end")

    # Commands

    def _order(self, place: Place) -> Order:
        rng, now = self.rng, self.loop.time()
        self.orders += 1
        current = place.current
        tag = current.id_tag if current else place.id_tag
        command = StopCharge(place.chargebox, place.connector, tag)
        meant = current
        choice = rng.random()
        if choice < 0.3 and place.charges:
            meant = place.charges[-1 if rng.random() < 0.9 else 0]
            command = msgspec.structs.replace(
                command, transaction=meant.transaction, id_tag=meant.id_tag
            )
        elif choice < 0.5:
            command = msgspec.structs.replace(command, as_of=at(now))
        if rng.random() < 0.05:
            command = msgspec.structs.replace(command, not_after=at(now + rng.uniform(0, 100)))
        self.thor.note(place, "COMMAND", command.transaction, command.as_of, "means", meant)
        return Order(place, command, now, meant)

    @contextlib.asynccontextmanager
    async def _clients(self, name: str) -> AsyncIterator[_Clients]:
        """Opens the clients of one process: the second one is for commands that are bare."""
        transport = self.thor.pending = Transport(self.thor, name)
        url = "http://127.0.0.1:1/x"
        client = ThorClient("key", base_url=url, retry=self._policy(True))
        bare = ThorClient("bare", base_url=url, retry=self._policy(False))
        try:
            async with client, bare:
                transport.listeners = [client.notify, bare.notify]
                yield _Clients(client, bare, transport)
        finally:
            transport.is_dead = True

    def _policy(self, repeats: bool) -> RetryPolicy:
        """Commands that are fresh and bare are sent once: see the docstring of this module."""
        attempts = 3 if repeats else 1
        with_more = repeats and self.rng.random() < 0.5
        return RetryPolicy(
            max_attempts=attempts,
            initial_delay=self.rng.choice((0.5, 4.0)),
            retry_not_sent=with_more,
            retry_throttled=with_more,
            random=self.rng.uniform,
            now=lambda: EPOCH + self.loop.time(),
        )

    # A file: runs that are killed, and resumed

    async def _run_file(self, places: Sequence[Place]) -> None:
        rng = self.rng
        await asyncio.sleep(rng.uniform(0, 60))
        orders = [self._order(place) for place in places]
        runs = rng.randint(1, 4)
        for number in range(runs):
            is_last = number == runs - 1
            kill_after = (
                None if is_last or rng.random() < 0.4 else rng.choice((0.1, 1.0, 9.0, 60.0))
            )
            pending = [order for order in orders if not order.is_final]
            if not pending:
                return
            async with self._clients(f"file run {number}") as clients:
                run = asyncio.create_task(self._run_batch(clients, pending, number > 0))
                done, _ = await asyncio.wait([run], timeout=kill_after)
                if not done:
                    run.cancel()
                    await asyncio.wait([run])
                    self.counts["killed runs"] += 1
                else:
                    self._require_results(pending, run.result())
            await asyncio.sleep(rng.choice((0.1, 5.0, 60.0)))

    def _require_results(self, pending: Sequence[Order], pulled: set[int]) -> None:
        for index in pulled:
            self.thor.violate(
                pending[index].place, "NO FINAL WORD: a command was pulled, and has no result"
            )

    async def _run_batch(
        self, clients: _Clients, orders: Sequence[Order], is_repeat: bool
    ) -> set[int]:
        """Sends the commands by one call; returns the indexes that were pulled and have no result.

        Marks what needs no repeat as final.
        """
        rng, client, transport = self.rng, clients.client, clients.transport
        calls, commands = [], []
        for order in orders:
            command, call = order.next_call(is_repeat, self.with_as_of)
            commands.append(command)
            calls.append(call)
            transport.calls[order.place.chargebox, order.place.connector] = call
        is_bare = any(call.kind == "fresh" for call in calls)
        name = rng.choice(_BATCHES)
        pin = rng.random() < 0.3
        by_cli = name in _CLI_STREAMS and rng.random() < 0.5
        if is_bare and not pin and not by_cli and not name.startswith("ensure"):
            client = clients.bare
        for order in orders:
            self.thor.note(order.place, transport.name, name, "pin" if pin else "")
        self.counts[name] += len(orders)
        pulled: set[int] = set()

        def source() -> Iterator[StopCharge]:
            for index, command in enumerate(commands):
                pulled.add(index)
                yield command

        def take(index: int, result: Result) -> None:
            pulled.discard(index)
            order = orders[index]
            self._check(order, calls[index], result)
            order.is_final |= result.next_step not in ("resend", "check")

        options: dict[str, Any] = {"give_up_after": rng.choice((0, 10.0, None))}
        if name == "singles":
            pulled.update(range(len(orders)))
            async with asyncio.TaskGroup() as group:
                for index, command in enumerate(commands):
                    group.create_task(self._run_single(client, command, pin, index, take))
        elif name == "stop_many":
            doubled = rng.random() < 0.3
            outcomes = await client.stop_many(
                commands * 2 if doubled else commands,
                within=rng.choice((None, 1.0, 30.0)),
                pin=pin,
                **options,
            )
            if len(outcomes) != len(commands) * (1 + doubled):
                self.thor.violations.append("stop_many: too few outcomes")
            for index, outcome in enumerate(outcomes):
                take(index % len(commands), outcome)
        else:
            if name != "stop_stream" or rng.random() < 0.5:
                options["within"] = rng.choice((5.0, 60.0, 300.0))
            if name != "ensure_stopped_stream":
                options["pin"] = pin
            open_stream = getattr(client, name)
            if by_cli:
                options = {"within": None, "pins_retries": self.pins_retries} | options
                open_stream = partial(_CLI_STREAMS[name], client._check_open())
            with contextlib.suppress(BatchGaveUp):
                async with open_stream(source(), **options) as stream:
                    async for result in stream:
                        take(_outcome(result).index, result)
        return pulled

    async def _run_single(
        self, client: ThorClient, command: StopCharge, pin: bool, index: int, take: Any
    ) -> None:
        name = self.rng.choice(_SINGLES)
        if index % 2:
            await asyncio.sleep(self.rng.uniform(0, 10))
        take(index, await self._stop(client, name, command, pin))

    async def _stop(self, client: ThorClient, name: str, command: StopCharge, pin: bool) -> Result:
        self.counts[name] += 1
        options: dict[str, Any] = {} if name == "ensure_stopped" else {"pin": pin}
        if name != "stop_charge":
            options["within"] = self.rng.choice((5.0, 60.0, 300.0))
        try:
            return await getattr(client, name)(command, **options)  # type: ignore[no-any-return]
        except ThorError as error:
            sent = error.command
            assert isinstance(sent, StopCharge)
            return StopOutcome(
                sent, 0, error.verdict, error, error.attempts, 0.0, error.maybe_applied
            )

    async def _stop_as_worker(
        self, client: ThorClient, name: str, command: StopCharge, pin: bool
    ) -> Result:
        options = {"pin": pin, "pins_retries": self.pins_retries}
        if name == "ensure_stopped":
            return await self._stop(client, name, command, pin)
        self.counts[name] += 1
        if name == "stop_charge":
            return await _calls.stop(client._check_open(), command, **options)
        within = self.rng.choice((5.0, 60.0, 300.0))
        return await _calls.confirm(client._check_open(), command, within, **options)

    # A worker: processes that are killed, and messages that are delivered again

    async def _run_worker(self, places: Sequence[Place]) -> None:
        stops = [asyncio.Event() for _ in range(2)]
        processes: list[_Process] = [_Process(), _Process()]
        servers = [
            asyncio.create_task(self._serve(process, stop, f"worker {number}"))
            for number, (process, stop) in enumerate(zip(processes, stops, strict=True))
        ]
        async with asyncio.TaskGroup() as group:
            for place in places:
                group.create_task(self._send_messages(place, processes))
        for stop in stops:
            stop.set()
        await asyncio.gather(*servers)

    async def _serve(self, process: _Process, stop: asyncio.Event, name: str) -> None:
        """Runs a process of the worker; kills and restarts it at random."""
        lives = 0
        while not stop.is_set():
            lives += 1
            async with self._clients(f"{name}.{lives}") as process.clients:
                process.is_up.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.rng.choice((5.0, 60.0, 600.0))):
                        await stop.wait()
                process.is_up.clear()
                for task in tuple(process.tasks):
                    task.cancel()
                if process.tasks:
                    await asyncio.wait(process.tasks)
            if not stop.is_set():
                await asyncio.sleep(self.rng.uniform(0.1, 5))

    async def _send_messages(self, place: Place, processes: list[_Process]) -> None:
        for _ in range(self.rng.randint(1, 3)):
            await asyncio.sleep(self.rng.choice((1.0, 20.0, 100.0)) * self.rng.random())
            await self._deliver(self._order(place), processes)

    async def _deliver(self, order: Order, processes: list[_Process]) -> None:
        """Delivers one message until a delivery settles it."""
        rng = self.rng
        deliveries = 0
        background: list[asyncio.Task[Any]] = []
        if rng.random() < 0.2:
            await asyncio.sleep(rng.uniform(0, 60))  # the message waits in its stream
        while deliveries < 40:
            process = rng.choice(processes)
            await process.is_up.wait()
            key = order.place.chargebox, order.place.connector
            if key in process.busy:
                await asyncio.sleep(1.0)
                continue
            deliveries += 1
            task = asyncio.create_task(self._handle(order, process, deliveries))
            process.tasks[task] = None
            task.add_done_callback(process.tasks.pop)
            # The broker delivers again after its ack wait, perhaps while the first goes on.
            await asyncio.wait([task], timeout=30.0 if rng.random() < 0.3 else None)
            if not task.done():
                background.append(task)
                self.counts["delivered twice at once"] += 1
                continue
            if task.cancelled():
                self.counts["killed deliveries"] += 1
                await asyncio.sleep(rng.choice((0.1, 30.0)))
                continue
            delay = task.result()
            if delay is None and rng.random() < 0.9:
                order.is_final = True
                break
            await asyncio.sleep(30.0 if delay is None else delay)  # None: the ack was lost
        if background:
            await asyncio.wait(background)
        if not order.is_final:
            self.thor.violate(order.place, "NO FINAL WORD: a message is delivered for ever")

    async def _handle(self, order: Order, process: _Process, deliveries: int) -> float | None:
        """Handles one delivery as a worker does; returns the delay of the next one, or None."""
        key = order.place.chargebox, order.place.connector
        process.busy.add(key)
        try:
            is_repeat = deliveries > 1 or self.loop.time() - order.made > 30
            command, call = order.next_call(is_repeat, self.with_as_of)
            clients = process.clients
            clients.transport.calls[key] = call
            name = self.rng.choice(_SINGLES)
            pin = self.rng.random() < 0.3
            self.thor.note(
                order.place,
                clients.transport.name,
                "delivery",
                deliveries,
                name,
                "pin" if pin else "",
            )
            result = await self._stop_as_worker(clients.client, name, command, pin)
        finally:
            process.busy.discard(key)
        self._check(order, call, result)
        settlement = decide(result, deliveries, random=self.rng.uniform)
        self.thor.note(order.place, "settled", settlement.action, settlement.reason)
        if settlement.action == "retry":
            return settlement.delay
        # A later delivery that goes on beside this one cannot be known here.
        known = order.calls[: order.calls.index(call) + 1]
        relayed = [charge for call in known for charge in call.relayed]
        if settlement.action == "dead_letter" and relayed and not settlement.maybe_applied:
            where = "" if call.relayed else " AT A REPEAT"
            self.thor.violate(order.place, f"DEAD LETTER{where} SAYS NOT APPLIED: {relayed}")
        return None

    # Checks

    def _check(self, order: Order, call: Call, result: Result) -> None:
        """Compares a result with what is true now."""
        outcome = _outcome(result)
        state = result.state if isinstance(result, Confirmation) else ""
        evidence = result.evidence if isinstance(result, Confirmation) else ""
        text = (
            f"{state} ({evidence}) {outcome.verdict} {outcome.error!r} "
            f"{getattr(outcome.error, 'reason', '')} maybe={outcome.maybe_applied} "
            f"-> {result.next_step}"
        )
        violate = self.thor.violate
        self.thor.note(order.place, "RESULT", text)
        self.counts[state or str(outcome.verdict)] += 1
        says_over = result.next_step == "done" and (
            bool(state) or outcome.verdict is not Verdict.RELAYED
        )
        if says_over or state == "stopped":
            charges = [order.meant, *call.relayed] if call.kind == "fresh" else [order.meant]
            for charge in charges:
                if charge is not None and charge.ended is None:
                    violate(order.place, f"SAYS FINISHED: {text}, but {charge}")
                    break
        if outcome.verdict is Verdict.NOT_SENT and call.received:
            violate(order.place, f"SAYS NOT SENT: {text}")
        if outcome.verdict is Verdict.REJECTED and not outcome.maybe_applied and call.relayed:
            violate(order.place, f"SAYS NOT APPLIED: {text}")
        is_unsafe = outcome.command.transaction is None and call.relayed
        if result.next_step == "resend" and is_unsafe:
            violate(order.place, f"SAYS RESEND of a stop that was relayed: {text}")


class _Clients(NamedTuple):
    client: ThorClient
    bare: ThorClient
    transport: Transport


class _Process:
    """One process of the worker, through all its lives."""

    clients: _Clients

    def __init__(self) -> None:
        self.is_up = asyncio.Event()
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in order, so that a seed repeats
        self.busy: set[tuple[str, int]] = set()


def _outcome(result: Result) -> StopOutcome:
    return result.outcome if isinstance(result, Confirmation) else result


def run_episode(seed: int, **options: bool) -> Episode:
    """Runs one episode. Its `thor.violations` are empty unless a promise was broken."""
    episode = Episode(seed, **options)
    random.seed(seed)  # for the jitter of the client's poll
    with asyncio.Runner(loop_factory=virtual_time.new_loop) as runner:
        runner.run(episode.run())
    return episode


def run_episodes(commands: int, first_seed: int = 0) -> Iterator[Episode]:
    """Runs episodes until `commands` commands were sent."""
    while commands > 0:
        episode = run_episode(first_seed)
        yield episode
        commands -= episode.orders
        first_seed += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first episode")
    parser.add_argument(
        "--show", type=int, default=1, help="violations of each kind to print in full"
    )
    args = parser.parse_args()
    started, commands, episodes = time.perf_counter(), 0, 0
    counts: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for episode in run_episodes(args.commands, args.seed):
        commands += episode.orders
        episodes += 1
        counts += episode.counts
        for violation in episode.thor.violations:
            kind = re.sub(r"<.*|[0-9]+", "", violation.partition(" at box")[0])
            broken[kind] += 1
            if broken[kind] <= args.show:
                print(f"seed {episode.seed}: {violation}\n", flush=True)
    seconds = time.perf_counter() - started
    print(f"{commands:,} commands in {episodes:,} episodes, {seconds:.0f} s")
    print(*(f"{count:,} {name}" for name, count in counts.most_common()), sep=", ")
    print(f"{broken.total()} violations")
    for kind, count in broken.most_common():
        print(f"{count:8,} {kind}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
