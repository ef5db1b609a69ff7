"""Who may be sent: everyone, or single probes while there is no use in sending more."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from .._errors import AccountError, NotSentError, ThorError
from .._events import describe_cause
from .._models import StopOutcome

LOG = logging.getLogger("thor_async.worker")

Turn = Literal["send", "probe"]

_TRIED = {"connect", "dns", "tls"}


class Gate:
    """Holds commands back while Thor refuses the account, or seems down.

    Down is `LIMIT` outcomes in a row without an answer of Thor's own. Then one command at a time
    goes through as a probe, after 1, 2, 4 ... 15 s. Its success opens the gate. Each probe that
    the account is refused is an ERROR in the log. Seconds are the loop's.
    """

    LIMIT = 64
    _FIRST, _LONGEST = 1.0, 15.0

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._silent = 0
        self._delay = self._FIRST
        self._began = 0.0
        self._is_refused = self._is_turn = self._is_shut = False
        self._timer: asyncio.TimerHandle | None = None
        self._change = asyncio.Event()
        self.is_paused = False

    async def enter(self) -> Turn | None:
        """Waits until a command may be sent; None: the gate is shut, and it never may."""
        while not self._is_shut:
            if not self.is_paused:
                return "send"
            if self._is_turn:
                self._is_turn = False
                return "probe"
            await self._change.wait()
        return None

    def learn(self, outcome: StopOutcome, turn: Turn) -> None:
        """What the outcome of a command that was let through tells of Thor."""
        error = outcome.error
        if isinstance(error, AccountError):
            self._refused(error, turn)
        elif error is None or error.answered:
            self._heard(turn)
        elif isinstance(error, NotSentError) and error.reason not in _TRIED:
            self.pass_on(turn)
        else:
            self._silence(error, turn)

    def pass_on(self, turn: Turn) -> None:
        """The next may be the probe at once: the one that had the turn could not use it."""
        if turn == "probe" and self.is_paused:
            self._open_turn()

    def shut(self) -> None:
        """Lets nobody through any more."""
        self._is_shut = True
        self._stop_timer()
        self._wake()

    def _refused(self, error: AccountError, turn: Turn) -> None:
        if not self._is_refused or turn == "probe":
            LOG.error("paused, Thor refuses the account: %s; mend the key", error.message)
        self._is_refused = True
        self._pause(turn)

    def _heard(self, turn: Turn) -> None:
        self._silent = 0
        # What was on its way when the account was refused proves nothing of it now.
        if self.is_paused and (turn == "probe" or not self._is_refused):
            LOG.warning("resumed after %.3f s", self._loop.time() - self._began)
            self.is_paused = self._is_refused = False
            self._stop_timer()
            self._wake()

    def _silence(self, error: ThorError, turn: Turn) -> None:
        self._silent += 1
        if self.is_paused or self._silent >= self.LIMIT:
            if not self.is_paused:
                LOG.warning("paused, Thor seems down: %s", describe_cause(error))
            self._pause(turn)

    def _pause(self, turn: Turn) -> None:
        if not self.is_paused:
            self.is_paused, self._is_turn = True, False
            self._began = self._loop.time()
            self._delay = self._FIRST
        elif turn == "probe":
            self._delay = min(self._delay * 2, self._LONGEST)
        else:
            return
        self._stop_timer()
        self._timer = self._loop.call_later(self._delay, self._open_turn)

    def _open_turn(self) -> None:
        self._is_turn = True
        self._wake()

    def _wake(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
