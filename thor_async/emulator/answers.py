"""The answers of the emulator: Thor's documented codes, and the answers that a test scripts."""

from __future__ import annotations

import math

import msgspec

JSON = {"Content-Type": "application/json"}

_STATUSES = {
    "ConnectorNotValid": 400,
    "NotInTransaction": 400,
    "WrongTransaction": 400,
    "AlreadyInTransaction": 400,
    "BadRequest": 400,  # the emulator's choice: Thor's answer to a malformed body is not documented
    "ChargeboxNotFree": 402,
    "APIKeyNotFound": 403,
    "RestAPINotEnabled": 403,
    "InvalidSourceIPAddr": 403,
    "ChargeboxNotActive": 403,
    "ChargeboxNotFound": 404,
    "TooManyRequests": 429,
    "Limit Exceeded": 429,  # not Thor's: the quota of AWS's API Gateway
    "InternalServerError": 500,
}


class ScriptedAnswer(msgspec.Struct, frozen=True):
    """One answer of the server, for `ThorEmulator.script` and `ThorEmulator.always`.

    With `effect`, the emulator first relays the stop to its chargebox, if Thor would relay it. Then
    it waits `delay` seconds before it answers: a client that gives up in this time has ended a
    charge without knowing. `drop` aborts the connection and sends no answer. `code` is recorded in
    the ledger and has no other effect. Raises ValueError for a bad `status` or `delay`.
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
            raise ValueError(f"status {self.status} is no HTTP status: give 100 to 999")
        if not 0 <= self.delay < math.inf:
            raise ValueError(f"delay {self.delay} is no duration: give seconds, 0 or more")


def json_answer(content: object) -> ScriptedAnswer:
    return ScriptedAnswer(200, msgspec.json.encode(content), JSON)


def _refusal(code: str, status: int) -> ScriptedAnswer:
    return ScriptedAnswer(status, msgspec.json.encode({"message": code}), JSON, code=code)


REFUSALS = {code: _refusal(code, status) for code, status in _STATUSES.items()}
ERRORS = (REFUSALS["InternalServerError"], ScriptedAnswer(502), ScriptedAnswer(503))
RELAYED = ScriptedAnswer(200, b"{}", JSON, effect=True)


def as_answer(answer: ScriptedAnswer | int | str) -> ScriptedAnswer:
    """Converts a bare status or a Thor code to an answer. Raises ValueError for an unknown code."""
    if isinstance(answer, ScriptedAnswer):
        return answer
    if isinstance(answer, int):
        return ScriptedAnswer(answer)
    if answer not in REFUSALS:
        raise ValueError(f"{answer!r} is no Thor code: give one of {', '.join(REFUSALS)}")
    return REFUSALS[answer]
