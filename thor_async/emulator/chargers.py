"""The chargeboxes: their charges, and their reactions to a stop."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from . import webhooks
from .charges import MODES, Charge, matches
from .clock import Clock
from .ledger import Ledger
from .probabilities import check_probability, check_range
from .running_list import History
from .threaded import Threaded, in_own_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._models import StopCharge


class Behaviour(msgspec.Struct, frozen=True):
    """The reaction of a chargebox to a relayed stop, and the start of the next charge.

    The delay of each stop, from the relay until the chargebox acts, is drawn from the range
    `delay`, in seconds. The first `ignores` stops of each charge have no effect and no
    notification; math.inf: the chargebox never stops a charge. `refuses` is the probability that
    the chargebox refuses a stop that it does not ignore: the charge goes on. `next_driver` is
    the time in seconds from the end of a charge to the start of the next one there, with the same
    id_tag and a new transaction; None: no next charge starts. Raises ValueError for bad values.
    """

    delay: tuple[float, float] = (0.0, 0.0)
    refuses: float = 0.0
    next_driver: float | None = None
    ignores: float = 0

    def __post_init__(self) -> None:
        check_range("delay", self.delay)
        check_probability("refuses", self.refuses)
        if self.next_driver is not None and not 0 <= self.next_driver < math.inf:
            raise ValueError(
                f"next_driver {self.next_driver} is no duration: give seconds, 0 or more"
            )
        if not self.ignores >= 0:
            raise ValueError(f"ignores {self.ignores} is no number of stops: give 0 or more")


_DEFAULT_BEHAVIOUR = Behaviour()
# Seconds. A command means a charge that runs already: see `ThorEmulator.fill`.
_AGE_OF_FILLED = 3600


class ChargerFleet(Threaded):
    """The chargeboxes of one account: their real state, and the state that Thor knows.

    `ThorEmulator` documents the public attributes.
    """

    def __init__(self, seed: int) -> None:
        self.charges: dict[tuple[str, int], Charge] = {}
        self.chargeboxes: dict[str, set[int]] = {}
        self.aliases: dict[str, str] = {}
        self.behaviours: dict[str | None, Behaviour] = {}
        self.offline: set[str] = set()
        self.notifications: webhooks.Notifications | None = None
        self.ledger: Ledger = Ledger()
        self.next_transaction: int = 1
        self.clock_offset: float = 0.0
        self._rng = random.Random(seed)
        self._charger_rng = random.Random(f"chargeboxes {seed}")
        self._clock = Clock()
        self._webhook_sender = webhooks.WebhookSender(self._clock, seed)
        self._history = History()
        self._offline_actions: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._unreported_ends: dict[tuple[str, int], int] = {}
        self._ignored: Counter[tuple[str, int]] = Counter()

    def _start_chargers(self) -> None:
        self._clock.start()
        self._history = History()  # the previous one has the times of another loop
        self._webhook_sender.open()

    async def _stop_chargers(self) -> None:
        """Cancels the pending actions of the chargeboxes and the running notifications."""
        self._clock.stop()
        await self._webhook_sender.close()

    @in_own_thread
    def add_chargebox(self, chargebox: str) -> None:
        """Add a chargebox, without a charge, to those that Thor knows."""
        self.chargeboxes.setdefault(chargebox, set())

    @in_own_thread
    def start_charge(
        self,
        chargebox: str,
        connector: int,
        id_tag: str | None = None,
        transaction: int | None = None,
        *,
        mode: str = "local",
        date_started: datetime | None = None,
    ) -> Charge:
        """Start a charge and return it. A new chargebox is added.

        By default the tag is random, the transaction is `next_transaction`, and the charge begins
        now. `mode` is `local`, `remote` or `api`; the list of running charges has the tag of a
        local charge only. `date_started`, an aware datetime by Thor's clock, makes an older charge:
        also a list that lags shows it since then. Raises ValueError if a charge runs there already,
        or for a bad `connector`, `mode` or `date_started`.
        """
        if date_started is not None and date_started.utcoffset() is None:
            raise ValueError(f"date_started {date_started} has no time zone: add tzinfo=")
        if (chargebox, connector) in self.charges:
            raise ValueError(f"a charge runs at {chargebox!r}, {connector}: stop it first")
        if connector < 1 or mode not in MODES:
            raise ValueError(f"{connector=}, {mode=}: give 1 or more, and one of {MODES}")
        now_ms = self._thor_ms()
        began_ms = now_ms if date_started is None else round(date_started.timestamp() * 1000)
        charge = Charge(
            chargebox,
            connector,
            f"{self._rng.getrandbits(40):010X}" if id_tag is None else id_tag,
            self.next_transaction if transaction is None else transaction,
            mode,
            began_ms,
        )
        self.next_transaction = max(self.next_transaction, charge.transaction + 1)
        self.chargeboxes.setdefault(chargebox, set()).add(connector)
        self.charges[charge.place] = charge
        self._ignored.pop(charge.place, None)
        self._history.add_start(self._clock.now(), charge, (now_ms - began_ms) / 1000)
        self._notify(chargebox, webhooks.start_accepted(charge))
        return charge

    def fill(self, commands: Iterable[StopCharge]) -> None:
        """Start the charge that each command would stop, unless it runs already.

        Each charge began one hour ago. Raises ValueError if another charge runs there.
        """
        began = datetime.fromtimestamp(self._thor_ms() / 1000 - _AGE_OF_FILLED, UTC)
        for command in commands:
            charge = self.charges.get((command.chargebox, command.connector))
            if charge is None or not matches(command, charge):
                self.start_charge(
                    command.chargebox,
                    command.connector,
                    command.id_tag,
                    command.transaction,
                    date_started=began,
                )

    @in_own_thread
    def refuse_start(self, chargebox: str, connector: int, id_tag: str) -> None:
        """Let a chargebox refuse a driver's start. This only sends a notification."""
        self.add_chargebox(chargebox)
        self._notify(chargebox, webhooks.start_refused(chargebox, connector, id_tag))

    @in_own_thread
    def end_charge(self, chargebox: str, connector: int) -> None:
        """Let the driver end the charge that runs there. Raises ValueError if none runs."""
        charge = self._require_charge(chargebox, connector)
        self._end(charge, webhooks.stopped(charge, self._thor_ms()))

    @in_own_thread
    def unlock(self, chargebox: str, connector: int) -> None:
        """Unlock the connector, which ends the charge there. Raises ValueError if none runs."""
        charge = self._require_charge(chargebox, connector)
        self._end(charge, webhooks.unlocked(charge, self._thor_ms()))

    @in_own_thread
    def go_offline(self, chargebox: str) -> None:
        """Disconnect the chargebox: stops for it and notifications from it wait.

        The emulator's choice: Thor still answers a stop with 200, and still lists the charges.
        """
        self.add_chargebox(chargebox)
        self.offline.add(chargebox)

    @in_own_thread
    def come_back(self, chargebox: str) -> None:
        """Connect the chargebox again: it sends its notifications and receives its stops, in order.

        The delay of each waiting stop begins now.
        """
        self.offline.discard(chargebox)
        for action in self._offline_actions.pop(chargebox, []):
            self._when_online(chargebox, action)

    def _thor_ms(self) -> int:
        """Returns milliseconds since 1970 by Thor's clock."""
        return self._clock.epoch_ms() + round(self.clock_offset * 1000)

    def _charges_ago(self, seconds: float) -> Iterable[Charge]:
        return self._history.running_at(self._clock.now() - seconds, self.charges)

    def _when_online(self, chargebox: str, action: Callable[[], None]) -> None:
        if chargebox in self.offline:
            self._offline_actions[chargebox].append(action)
        else:
            action()

    def _notify(self, chargebox: str, message: webhooks.Message) -> None:
        def send() -> None:
            if self.notifications is not None:
                self._webhook_sender.send(self.notifications, message)

        self._when_online(chargebox, send)

    def _behaviour(self, chargebox: str) -> Behaviour:
        return self.behaviours.get(chargebox) or self.behaviours.get(None) or _DEFAULT_BEHAVIOUR

    def _require_charge(self, chargebox: str, connector: int) -> Charge:
        charge = self.charges.get((chargebox, connector))
        if charge is None or self._has_unreported_end(charge):
            raise ValueError(f"no charge runs at {chargebox!r}, {connector}: start it first")
        return charge

    def _find_current(self, charge: Charge) -> Charge | None:
        """Returns the charge as Thor knows it now: a test may have replaced or removed it."""
        current = self.charges.get(charge.place)
        return current if current and current.transaction == charge.transaction else None

    def _has_unreported_end(self, charge: Charge) -> bool:
        """Whether the charge has ended and Thor does not know it yet."""
        return self._unreported_ends.get(charge.place) == charge.transaction

    def _relay_stop(self, charge: Charge) -> None:
        self._when_online(charge.chargebox, partial(self._receive_stop, charge))

    def _receive_stop(self, charge: Charge) -> None:
        delay = self._charger_rng.uniform(*self._behaviour(charge.chargebox).delay)
        execute = partial(self._execute_stop, charge)
        if delay:
            self._clock.later(delay, partial(self._when_online, charge.chargebox, execute))
        else:
            execute()

    def _execute_stop(self, relayed: Charge) -> None:
        """Ends the charge, or ignores the stop, or refuses.

        The emulator's choice: a stop of a charge that is over has no effect.
        """
        charge = self._find_current(relayed)
        if charge is None or self._has_unreported_end(charge):
            return
        behaviour = self._behaviour(charge.chargebox)
        if self._ignored[charge.place] < behaviour.ignores:
            self._ignored[charge.place] += 1
            return
        date = self._thor_ms()
        if self._charger_rng.random() < behaviour.refuses:
            self.ledger.refused[charge.transaction] = self._clock.now()
            self._notify(charge.chargebox, webhooks.stop_refused(charge, date))
        else:
            self._end(charge, webhooks.stopped(charge, date))

    def _end(self, charge: Charge, message: webhooks.Message) -> None:
        self.ledger.ended[charge.transaction] = self._clock.now()
        self._unreported_ends[charge.place] = charge.transaction
        self._when_online(charge.chargebox, partial(self._report_end, charge, message))
        delay = self._behaviour(charge.chargebox).next_driver
        if delay is not None:
            start_next = partial(self._start_next, charge)
            self._clock.later(delay, partial(self._when_online, charge.chargebox, start_next))

    def _report_end(self, charge: Charge, message: webhooks.Message) -> None:
        """Removes the charge from those that Thor knows, and notifies."""
        self._unreported_ends.pop(charge.place, None)
        if self._find_current(charge):
            del self.charges[charge.place]
        self._history.add_end(self._clock.now(), charge)
        self._notify(charge.chargebox, message)

    def _start_next(self, previous: Charge) -> None:
        if previous.place not in self.charges:
            self.start_charge(
                previous.chargebox, previous.connector, previous.id_tag, mode=previous.mode
            )
