import math

import msgspec

from thor_async import (
    ChargeboxNotFound,
    ConnectorNotValid,
    NotInTransaction,
    NotSentError,
    ResponseTimeout,
    StopCharge,
    ThorClient,
    ThorError,
    TooManyRequests,
    WrongTransaction,
)

HttpAnswer = tuple[int, dict[str, str], bytes]


def http_status(error: ThorError) -> int:
    """Returns the HTTP status. 404, 409, 422: final; 503: repeat; 502, 504: check the charge."""
    match error:
        case NotInTransaction() | NotSentError(reason="expired" | "not_running"):
            return 409
        case ResponseTimeout():
            return 504
        case _ if error.maybe_applied:
            return 502
        case WrongTransaction():
            return 409
        case ChargeboxNotFound():
            return 404
        case ConnectorNotValid():
            return 422
        case TooManyRequests() | NotSentError():
            return 503
    return 502  # the account, or an undocumented refusal: the caller cannot mend it


async def stop_and_answer(thor: ThorClient, command: StopCharge) -> HttpAnswer:
    """Sends a stop; returns status, headers and JSON. 202: relayed, the charge may still run."""
    try:
        outcome = await thor.stop_charge(command)
    except ThorError as error:
        status, headers = http_status(error), {}
        if status == 503 and error.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after))
        content = {
            "verdict": error.verdict,
            "code": error.code,
            "maybe_applied": error.maybe_applied,
        }
        if error.maybe_applied:
            content["advice"] = "check whether the charge still runs before you repeat the stop"
        return status, headers, msgspec.json.encode(content)
    return 202, {}, msgspec.json.encode(outcome.record())
