"""Stop any number of charges through Thor's API, and know what happened to each one."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from ._calls import ConfirmationStream, StopStream
    from ._client import ThorClient
    from ._config import Commands
    from ._confirm.tracker import Confirmation, ConfirmationRecord, State
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
        NotSentReason,
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
        PaceLowered,
        PaceRestored,
        RetryScheduled,
    )
    from ._models import NextStep, OutcomeRecord, StopCharge, StopOutcome
    from ._protocol.lists import Chargebox, Coordinates, RunningCharge
    from ._protocol.notifications import StartNotification, StopNotification
    from ._retry import RetryPolicy
    from ._stream import OutcomeStream
    from ._telemetry.emitter import OnEvent

__version__ = "0.2.0"

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
    "Commands",
    "Confirmation",
    "ConfirmationRecord",
    "ConfirmationStream",
    "ConnectionLost",
    "ConnectorNotValid",
    "Coordinates",
    "DomainError",
    "Event",
    "IndeterminateError",
    "InternalServerError",
    "InvalidSourceIPAddr",
    "NextStep",
    "NotInTransaction",
    "NotSentError",
    "NotSentReason",
    "OnEvent",
    "OutcomeRecord",
    "OutcomeStream",
    "PaceLowered",
    "PaceRestored",
    "RejectedError",
    "ResponseTimeout",
    "RestAPINotEnabled",
    "RetryPolicy",
    "RetryScheduled",
    "RunningCharge",
    "ServerError",
    "StartNotification",
    "State",
    "StopCharge",
    "StopNotification",
    "StopOutcome",
    "StopStream",
    "ThorClient",
    "ThorError",
    "TooManyRequests",
    "UnexpectedResponse",
    "Verdict",
    "WrongTransaction",
]

_MODULES = {
    "ConfirmationStream": "_calls",
    "StopStream": "_calls",
    "ThorClient": "_client",
    "Commands": "_config",
    "Confirmation": "_confirm.tracker",
    "ConfirmationRecord": "_confirm.tracker",
    "State": "_confirm.tracker",
    "APIKeyNotFound": "_errors",
    "AccountError": "_errors",
    "BatchGaveUp": "_errors",
    "ChargeboxNotFound": "_errors",
    "ConnectionLost": "_errors",
    "ConnectorNotValid": "_errors",
    "DomainError": "_errors",
    "IndeterminateError": "_errors",
    "InternalServerError": "_errors",
    "InvalidSourceIPAddr": "_errors",
    "NotInTransaction": "_errors",
    "NotSentError": "_errors",
    "NotSentReason": "_errors",
    "RejectedError": "_errors",
    "ResponseTimeout": "_errors",
    "RestAPINotEnabled": "_errors",
    "ServerError": "_errors",
    "ThorError": "_errors",
    "TooManyRequests": "_errors",
    "UnexpectedResponse": "_errors",
    "Verdict": "_errors",
    "WrongTransaction": "_errors",
    "AttemptFinished": "_events",
    "AttemptStarted": "_events",
    "BatchAbandoned": "_events",
    "BatchPaused": "_events",
    "BatchResumed": "_events",
    "CallFinished": "_events",
    "CallStarted": "_events",
    "Event": "_events",
    "PaceLowered": "_events",
    "PaceRestored": "_events",
    "RetryScheduled": "_events",
    "NextStep": "_models",
    "OutcomeRecord": "_models",
    "StopCharge": "_models",
    "StopOutcome": "_models",
    "Chargebox": "_protocol.lists",
    "Coordinates": "_protocol.lists",
    "RunningCharge": "_protocol.lists",
    "StartNotification": "_protocol.notifications",
    "StopNotification": "_protocol.notifications",
    "RetryPolicy": "_retry",
    "OutcomeStream": "_stream",
    "OnEvent": "_telemetry.emitter",
}
"""Where each name is: imported when it is first used, because aiohttp takes long to import."""

if not typing.TYPE_CHECKING:  # for which any name would exist

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
