"""Stop any number of charges through Thor's API, and know what happened to each one."""

from .client import ThorClient
from .errors import (
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
from .events import (
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
from .fanout import OutcomeStream
from .lists import Chargebox, Coordinates, RunningCharge
from .models import OutcomeRecord, StopCharge, StopOutcome
from .notifications import StartNotification, StopNotification
from .retry import RetryPolicy
from .watch import Confirmation, ConfirmationRecord

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
