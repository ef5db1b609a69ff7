"""The ledger: what really happened, to compare with the outcomes of a client."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from .charges import StopBody

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._models import StopOutcome


class LoggedRequest(msgspec.Struct, gc=False):
    """One stop request that was fully received, its answer and its effect.

    `command` is None for a malformed body. `status` is None until the answer is sent; it stays
    None when the connection was dropped or the client had left. `code` is None for an answer
    without a code. `authorized` means that key, account and source IP were right. `effect` is the
    transaction whose stop this request relayed to the chargebox; `Ledger.ended` and
    `Ledger.refused` say whether the chargebox obeyed. `at` is the time of receipt, in the loop's
    time.
    """

    command: StopBody | None
    authorized: bool
    at: float
    status: int | None = None
    code: str | None = None
    effect: int | None = None


class Read(msgspec.Struct, gc=False):
    """One GET that was received: its path below the base address, and the requested chargebox.

    `chargebox` is None when all were requested. `at` is the time of receipt, in the loop's time.
    `status` is None until the answer is sent; it stays None when the client had left.
    """

    path: str
    chargebox: str | None
    at: float
    status: int | None = None


class _RequestCounts(msgspec.Struct):
    """Counts of the requests with equal fields."""

    received: int = 0
    relayed: int = 0
    rejected: int = 0
    effects: int = 0

    def add(self, request: LoggedRequest) -> None:
        status = request.status or 0
        self.received += 1
        self.relayed += status == 200
        self.rejected += 400 <= status < 500
        self.effects += request.effect is not None

    def overclaims(self, outcomes: Sequence[StopOutcome]) -> list[StopOutcome]:
        """Returns the overclaims among the outcomes of these requests: see `Ledger.overclaims`."""
        relayed = [outcome for outcome in outcomes if outcome.verdict == "relayed"]
        overclaims = relayed[self.relayed :]
        if any(o.verdict == "indeterminate" or o.maybe_applied for o in outcomes):
            return overclaims
        rejected = [outcome for outcome in outcomes if outcome.verdict == "rejected"]
        not_sent = [outcome for outcome in outcomes if outcome.verdict == "not_sent"]
        explained_4xx = self.rejected if relayed or rejected else 0
        overclaims += rejected[: max(0, self.effects - len(relayed))]
        overclaims += not_sent[: max(0, self.received - explained_4xx - len(relayed))]
        return overclaims


class Ledger:
    """The record of every stop request that was fully received, and of every charge.

    `requests` and `reads` (the GETs) are in order of receipt. The emulator adds an entry before it
    handles the request and completes it at the end. So a request whose client leaves, or that the
    end of the server cuts off, has an entry too. `ended` is the time when the charge of a
    transaction really ended, also while Thor does not know it yet; `refused` is the time when its
    chargebox last refused to stop it. Both are in the loop's time, -inf before the emulator ran.
    """

    def __init__(self) -> None:
        self.requests: list[LoggedRequest] = []
        self.reads: list[Read] = []
        self.ended: dict[int, float] = {}
        self.refused: dict[int, float] = {}

    @property
    def effects(self) -> list[LoggedRequest]:
        """The requests that relayed a stop to a chargebox. `effect` is its transaction."""
        return [request for request in self.requests if request.effect is not None]

    @property
    def throttled(self) -> list[LoggedRequest]:
        """The stop requests of `requests` that were answered 429."""
        return [request for request in self.requests if request.status == 429]

    @property
    def throttled_reads(self) -> list[Read]:
        """The GETs of `reads` that were answered 429."""
        return [read for read in self.reads if read.status == 429]

    def overclaims(self, outcomes: Iterable[StopOutcome]) -> list[StopOutcome]:
        """Returns the outcomes whose verdict is better than the truth; none for an honest client.

        `relayed` claims that a request with the command's fields was answered 200. `not_sent`
        claims that no such request was received. `rejected` without `maybe_applied` claims that no
        such request had an effect, that is, was relayed to a chargebox (which may have refused).
        Commands with equal fields look the same on the wire, so they are counted together:

        - Each `relayed` needs a 200 of its own.
        - A `relayed` without `maybe_applied` explains one request that may have had an effect; a
          `rejected` without it explains no effect. Both explain any number of 4xx answers.
        - Each request that stays unexplained makes one `not_sent` an overclaim, each unexplained
          effect one `rejected`. Among equal outcomes, the choice is arbitrary.
        - An outcome that is `indeterminate` or has `maybe_applied` may explain any number of
          requests and effects. Beside it, no `not_sent` and no `rejected` is an overclaim.

        So pass all outcomes of the commands, and call this when nothing is in flight.
        """
        counts: defaultdict[StopBody, _RequestCounts] = defaultdict(_RequestCounts)
        for request in self.requests:
            if request.command is not None:
                counts[request.command].add(request)
        groups: defaultdict[StopBody, list[StopOutcome]] = defaultdict(list)
        for outcome in outcomes:
            command = outcome.command
            body = StopBody(
                command.chargebox, command.connector, command.id_tag, command.transaction
            )
            groups[body].append(outcome)
        overclaims = [counts[body].overclaims(group) for body, group in groups.items()]
        return list(chain.from_iterable(overclaims))
