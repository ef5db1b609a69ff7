"""The accounts that may use the emulator: their keys, their checks and their rate limits."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from .answers import REFUSALS, ScriptedAnswer
from .rate_limits import AccountLimiter, RateLimits
from .threaded import Threaded, in_own_thread

if TYPE_CHECKING:
    from aiohttp import web

    from .clock import Clock


class Accounts(Threaded):
    """The account of `api_key`, and those of `add_account`. They share all charges.

    `ThorEmulator` documents the public attributes.
    """

    def __init__(
        self,
        clock: Clock,
        api_key: str,
        limits: RateLimits | None,
        source_ip: str | None,
        enabled: bool,
    ) -> None:
        _check_key(api_key)
        if source_ip is not None:
            ipaddress.ip_address(source_ip)
        self.api_key = api_key
        self.source_ip = source_ip
        self.enabled = enabled
        self._limiter_clock = clock
        self._own_limiter = AccountLimiter(limits or RateLimits(), clock)
        self._other_limiters: dict[str, AccountLimiter] = {}

    @in_own_thread
    def add_account(self, api_key: str, limits: RateLimits | None = None) -> None:
        """Add an account with a key and limits of its own; by default it has no limits.

        All accounts share the charges, `source_ip` and `enabled`. Raises ValueError for a bad key,
        or if an account has it already.
        """
        _check_key(api_key)
        if self._find_limiter(api_key):
            raise ValueError("an account with this api_key exists already: use set_limits")
        limiter = AccountLimiter(limits or RateLimits(), self._limiter_clock)
        self._other_limiters[api_key] = limiter

    @in_own_thread
    def set_limits(self, limits: RateLimits, api_key: str | None = None) -> None:
        """Change the rate limits, from now on, of the first account or of that of `api_key`.

        Each bucket keeps its tokens, up to the new burst, and the quota keeps its count. Raises
        ValueError if no account has this key.
        """
        limiter = self._own_limiter if api_key is None else self._find_limiter(api_key)
        if limiter is None:
            raise ValueError("no account has this api_key: add it with add_account")
        limiter.change(limits)

    def _reset_limits(self) -> None:
        for limiter in (self._own_limiter, *self._other_limiters.values()):
            limiter.reset()

    def _find_limiter(self, api_key: str | None) -> AccountLimiter | None:
        if api_key == self.api_key:
            return self._own_limiter
        return self._other_limiters.get(api_key) if api_key else None

    def _throttle(
        self, request: web.Request, chargebox: str | None = None
    ) -> ScriptedAnswer | None:
        """Takes the tokens of a request; returns its refusal if there are too few.

        `chargebox` is that of a stop. A request without a valid key belongs to no account.
        """
        limiter = self._find_limiter(request.headers.get("X-Api-Key"))
        return limiter.check(chargebox) if limiter else None

    def _check_account(self, request: web.Request) -> ScriptedAnswer | None:
        if self._find_limiter(request.headers.get("X-Api-Key")) is None:
            return REFUSALS["APIKeyNotFound"]
        if not self.enabled:
            return REFUSALS["RestAPINotEnabled"]
        if self.source_ip not in (None, request.remote):
            return REFUSALS["InvalidSourceIPAddr"]
        return None


def _check_key(api_key: str) -> None:
    if not api_key or not all("!" <= character <= "~" for character in api_key):
        raise ValueError(f"bad api_key {api_key!r}: give printable ASCII without blanks")
