"""What the server answers: Thor's own codes, and whatever a test scripts."""

from __future__ import annotations

import math

import msgspec

JSON = {"Content-Type": "application/json"}

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


class ScriptedAnswer(msgspec.Struct, frozen=True):
    """One answer of the server, for `ThorEmulator.script` and `ThorEmulator.always`.

    With `effect` the stop is handed to its chargebox first, if it is one that Thor would relay.
    Then `delay` seconds pass, so that a client that gives up meanwhile has ended a charge without
    knowing. `drop` aborts the connection in place of answering. `code` is only for the ledger.
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


def json_answer(content: object) -> ScriptedAnswer:
    return ScriptedAnswer(200, msgspec.json.encode(content), JSON)


def _refusal(code: str, status: int) -> ScriptedAnswer:
    return ScriptedAnswer(status, msgspec.json.encode({"message": code}), JSON, code=code)


REFUSALS = {code: _refusal(code, status) for code, status in _STATUSES.items()}
ERRORS = (REFUSALS["InternalServerError"], ScriptedAnswer(502), ScriptedAnswer(503))
RELAYED = ScriptedAnswer(200, b"{}", JSON, effect=True)


def as_answer(given: ScriptedAnswer | int | str) -> ScriptedAnswer:
    """A number is a bare status, a string a code of Thor's; ValueError for an unknown one."""
    if isinstance(given, ScriptedAnswer):
        return given
    if isinstance(given, int):
        return ScriptedAnswer(given)
    if given not in REFUSALS:
        raise ValueError(f"{given!r} is no code of Thor's: give one of {', '.join(REFUSALS)}")
    return REFUSALS[given]
