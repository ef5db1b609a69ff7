"""Stop any number of charges through Thor's API, and know what happened to each one."""

from ._client import ThorClient
from ._confirm.tracker import Confirmation, ConfirmationRecord
from ._errors import (
    AccountError,
    APIKeyNotFound,
    BatchGaveUp,
    ChargeboxNotFound,
    ConnectionLost,
    ConnectorNotValid,
    DomainError,
    IndeterminateError,
    InternalServerError,
    InvalidSourceIPAddr,
    NotInTransaction,
    NotSentError,
    RejectedError,
    ResponseTimeout,
    RestAPINotEnabled,
    ServerError,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
    Verdict,
    WrongTransaction,
)
from ._events import (
    AttemptFinished,
    AttemptStarted,
    BatchAbandoned,
    BatchPaused,
    BatchResumed,
    CallFinished,
    CallStarted,
    Event,
    RetryScheduled,
)
from ._models import OutcomeRecord, StopCharge, StopOutcome
from ._protocol.lists import Chargebox, Coordinates, RunningCharge
from ._protocol.notifications import StartNotification, StopNotification
from ._retry import RetryPolicy
from ._stream import OutcomeStream

__version__ = "0.1.0"

__all__ = [
    "APIKeyNotFound",
    "AccountError",
    "AttemptFinished",
    "AttemptStarted",
    "BatchAbandoned",
    "BatchGaveUp",
    "BatchPaused",
    "BatchResumed",
    "CallFinished",
    "CallStarted",
    "Chargebox",
    "ChargeboxNotFound",
    "Confirmation",
    "ConfirmationRecord",
    "ConnectionLost",
    "ConnectorNotValid",
    "Coordinates",
    "DomainError",
    "Event",
    "IndeterminateError",
    "InternalServerError",
    "InvalidSourceIPAddr",
    "NotInTransaction",
    "NotSentError",
    "OutcomeRecord",
    "OutcomeStream",
    "RejectedError",
    "ResponseTimeout",
    "RestAPINotEnabled",
    "RetryPolicy",
    "RetryScheduled",
    "RunningCharge",
    "ServerError",
    "StartNotification",
    "StopCharge",
    "StopNotification",
    "StopOutcome",
    "ThorClient",
    "ThorError",
    "TooManyRequests",
    "UnexpectedResponse",
    "Verdict",
    "WrongTransaction",
]
