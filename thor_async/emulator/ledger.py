"""The truth, to compare with what a client was told."""

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
    """One stop request that was fully received: what it said, and what came of it.

    `command` is None for a malformed body, `status` while unanswered and for ever when dropped or
    when the client had left, `code` where the answer carried none. `authorized` says that key,
    account and source IP were right; `effect` is the transaction whose stop this request handed to
    the chargebox: whether that obeyed is in `Ledger.ended` and `Ledger.refused`. `at` is the time
    of receipt by the loop's clock.
    """

    command: StopBody | None
    authorized: bool
    at: float
    status: int | None = None
    code: str | None = None
    effect: int | None = None


class Read(msgspec.Struct, gc=False):
    """One GET that was received: its path below the base address, and the chargebox it asked for.

    `chargebox` is None for all; `at` is the time of receipt by the loop's clock, `status` None
    while unanswered and for ever when the client had left.
    """

    path: str
    chargebox: str | None
    at: float
    status: int | None = None


class _Tally(msgspec.Struct):
    """What the requests with the same fields came to."""

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
    """The truth about every stop request that was fully received, and about every charge.

    `requests` and `reads`, the GETs, are in order of receipt. One is entered before anything is
    done with it and its entry is filled in at the end, so one whose client leaves, or that is cut
    off by the end of the server, is in here too. `ended` says when the charge of a transaction
    really ended, whatever Thor or a list knows of it; `refused`, when its chargebox last refused
    to stop it. Both are by the loop's clock, -inf for what happened before the emulator ran.
    """

    def __init__(self) -> None:
        self.requests: list[LoggedRequest] = []
        self.reads: list[Read] = []
        self.ended: dict[int, float] = {}
        self.refused: dict[int, float] = {}

    @property
    def effects(self) -> list[LoggedRequest]:
        """The requests that handed a stop to a chargebox, each with its transaction in `effect`."""
        return [request for request in self.requests if request.effect is not None]

    def overclaims(self, outcomes: Iterable[StopOutcome]) -> list[StopOutcome]:
        """The outcomes whose verdict is better than the truth; empty if the client was honest.

        `relayed` claims that a request with the command's fields was answered 200; `not_sent`, that
        none was received; `rejected` without `maybe_applied`, that none had an effect, which is to
        be handed to a chargebox, whatever that made of it. Nothing on the wire tells commands with
        equal fields apart, so these are counted together:

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
