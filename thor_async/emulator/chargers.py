"""The chargeboxes, what runs there, and how they take a stop."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from . import webhooks
from .charges import MODES, Charge, ends
from .clock import Clock
from .ledger import Ledger
from .probabilities import check_probability, check_range
from .running_list import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._models import StopCharge


class Behaviour(msgspec.Struct, frozen=True):
    """How a chargebox takes a stop that Thor relays to it, and who comes after.

    `delay` is the range of seconds from which is drawn how long each stop takes from the relay
    until the chargebox acts; `refuses` the probability that it then refuses, and the charge goes
    on. `next_driver` is how many seconds after the end of a charge the next one starts there, with
    the same id_tag and a new transaction; None: nobody comes. Raises ValueError for bad ones.
    """

    delay: tuple[float, float] = (0.0, 0.0)
    refuses: float = 0.0
    next_driver: float | None = None

    def __post_init__(self) -> None:
        check_range("delay", self.delay)
        check_probability("refuses", self.refuses)
        if self.next_driver is not None and not 0 <= self.next_driver < math.inf:
            raise ValueError(f"next_driver {self.next_driver} is no time: give seconds, 0 or more")


_PROMPT = Behaviour()


class ChargerFleet:
    """The chargeboxes of one account, as Thor knows them and as they really are.

    Its attributes are told of in `ThorEmulator`.
    """

    def __init__(self, seed: int) -> None:
        self.charges: dict[tuple[str, int], Charge] = {}
        self.chargeboxes: dict[str, set[int]] = {}
        self.behaviours: dict[str | None, Behaviour] = {}
        self.offline: set[str] = set()
        self.notifications: webhooks.Notifications | None = None
        self.ledger = Ledger()
        self._random = random.Random(seed)
        self._whims = random.Random(f"chargeboxes {seed}")
        self._clock = Clock()
        self._post = webhooks.WebhookSender(self._clock, seed)
        self._history = History()
        self._last_transaction = 0
        self._waiting: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._unreported: dict[tuple[str, int], int] = {}

    def _begin(self) -> None:
        self._clock.start()
        self._history = History()  # the one before has the times of another loop
        self._post.open()

    async def _halt(self) -> None:
        """Drops all that chargeboxes have still to do, and every notification under way."""
        self._clock.stop()
        await self._post.close()

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
        if connector < 1 or mode not in MODES:
            raise ValueError(f"{connector=}, {mode=}: give 1 or more, and one of {MODES}")
        charge = Charge(
            chargebox,
            connector,
            f"{self._random.getrandbits(40):010X}" if id_tag is None else id_tag,
            self._last_transaction + 1 if transaction is None else transaction,
            mode,
            self._clock.epoch_ms(),
        )
        self._last_transaction = max(self._last_transaction, charge.transaction)
        self.chargeboxes.setdefault(chargebox, set()).add(connector)
        self.charges[charge.place] = charge
        self._history.started(self._clock.now(), charge)
        self._tell(chargebox, webhooks.start_accepted(charge))
        return charge

    def fill(self, commands: Iterable[StopCharge]) -> None:
        """Start for every command the charge that it would stop, unless that runs already.

        Raises ValueError if another charge runs there.
        """
        for command in commands:
            there = self.charges.get((command.chargebox, command.connector))
            if there is None or not ends(command, there):
                self.start_charge(
                    command.chargebox, command.connector, command.id_tag, command.transaction
                )

    def refuse_start(self, chargebox: str, connector: int, id_tag: str) -> None:
        """Let a chargebox refuse a driver's start: all that comes of it is a notification."""
        self.add_chargebox(chargebox)
        self._tell(chargebox, webhooks.start_refused(chargebox, connector, id_tag))

    def end_charge(self, chargebox: str, connector: int) -> None:
        """Let the driver end the charge that runs there. Raises ValueError if none does."""
        charge = self._running_at(chargebox, connector)
        self._end(charge, webhooks.stopped(charge, self._clock.epoch_ms()))

    def unlock(self, chargebox: str, connector: int) -> None:
        """Unlock the connector, which ends the charge there. Raises ValueError if none runs."""
        charge = self._running_at(chargebox, connector)
        self._end(charge, webhooks.unlocked(charge, self._clock.epoch_ms()))

    def go_offline(self, chargebox: str) -> None:
        """Cut the chargebox off: what Thor relays to it, and what it has to tell, waits.

        The emulator's own: Thor still answers 200 to a stop, and its list still shows what ran.
        """
        self.add_chargebox(chargebox)
        self.offline.add(chargebox)

    def come_back(self, chargebox: str) -> None:
        """Connect the chargebox again: it tells what happened meanwhile and takes what waits.

        Everything goes in its order, and each stop takes its delay from now on.
        """
        self.offline.discard(chargebox)
        for act in self._waiting.pop(chargebox, []):
            self._when_online(chargebox, act)

    def _charges_ago(self, seconds: float) -> Iterable[Charge]:
        return self._history.running(self._clock.now() - seconds, self.charges)

    def _when_online(self, chargebox: str, act: Callable[[], None]) -> None:
        if chargebox in self.offline:
            self._waiting[chargebox].append(act)
        else:
            act()

    def _tell(self, chargebox: str, message: webhooks.Message) -> None:
        def send() -> None:
            if self.notifications is not None:
                self._post.send(self.notifications, message)

        self._when_online(chargebox, send)

    def _behaviour(self, chargebox: str) -> Behaviour:
        return self.behaviours.get(chargebox) or self.behaviours.get(None) or _PROMPT

    def _running_at(self, chargebox: str, connector: int) -> Charge:
        charge = self.charges.get((chargebox, connector))
        if charge is None or self._is_over(charge):
            raise ValueError(f"no charge runs at {chargebox!r}, {connector}: start it first")
        return charge

    def _known(self, charge: Charge) -> Charge | None:
        """This charge as Thor knows it now, if it still does: `charges` may have been changed."""
        there = self.charges.get(charge.place)
        return there if there and there.transaction == charge.transaction else None

    def _is_over(self, charge: Charge) -> bool:
        """Whether it ended without Thor knowing it yet."""
        return self._unreported.get(charge.place) == charge.transaction

    def _relay(self, charge: Charge) -> None:
        """Hand a stop of this charge to its chargebox."""
        self._when_online(charge.chargebox, partial(self._receive, charge))

    def _receive(self, charge: Charge) -> None:
        delay = self._whims.uniform(*self._behaviour(charge.chargebox).delay)
        if delay:
            act = partial(self._when_online, charge.chargebox, partial(self._obey, charge))
            self._clock.later(delay, act)
        else:
            self._obey(charge)

    def _obey(self, relayed: Charge) -> None:
        """Or refuse. The emulator's own: a stop of what is over by now is ignored."""
        charge = self._known(relayed)
        if charge is None or self._is_over(charge):
            return
        date = self._clock.epoch_ms()
        if self._whims.random() < self._behaviour(charge.chargebox).refuses:
            self.ledger.refused[charge.transaction] = self._clock.now()
            self._tell(charge.chargebox, webhooks.stop_refused(charge, date))
        else:
            self._end(charge, webhooks.stopped(charge, date))

    def _end(self, charge: Charge, message: webhooks.Message) -> None:
        self.ledger.ended[charge.transaction] = self._clock.now()
        self._unreported[charge.place] = charge.transaction
        self._when_online(charge.chargebox, partial(self._report_end, charge, message))
        wait = self._behaviour(charge.chargebox).next_driver
        if wait is not None:
            plug_in = partial(self._plug_in, charge)
            self._clock.later(wait, partial(self._when_online, charge.chargebox, plug_in))

    def _report_end(self, charge: Charge, message: webhooks.Message) -> None:
        """Now Thor knows."""
        self._unreported.pop(charge.place, None)
        if self._known(charge):
            del self.charges[charge.place]
        self._history.ended(self._clock.now(), charge)
        self._tell(charge.chargebox, message)

    def _plug_in(self, last: Charge) -> None:
        if last.place not in self.charges:
            self.start_charge(last.chargebox, last.connector, last.id_tag, mode=last.mode)
