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

Answered = tuple[int, dict[str, str], bytes]


def http_status(error: ThorError) -> int:
    """404, 409, 422: final. 503: not done, ask again. 502, 504: never again before a look."""
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
    return 502  # the account, or a refusal that Thor does not document: not the caller's fault


async def stop_and_answer(thor: ThorClient, command: StopCharge) -> Answered:
    """Status, headers and JSON of the answer; 202, as a relayed stop has not yet happened."""
    try:
        outcome = await thor.stop_charge(command)
    except ThorError as error:
        status, headers = http_status(error), {}
        if status == 503 and error.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after))
        said = {"verdict": error.verdict, "code": error.code, "maybe_applied": error.maybe_applied}
        if error.maybe_applied:
            said["advice"] = "may have been applied: do not repeat it blindly"
        return status, headers, msgspec.json.encode(said)
    return 202, {}, msgspec.json.encode(outcome.record())
