"""Translates what aiohttp, or something in a session, raises into errors of this package."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace

from .._errors import (
    ConnectionLost,
    NotSentError,
    NotSentReason,
    ResponseTimeout,
    ThorError,
    UnexpectedResponse,
)
from .._protocol.sanitize import sanitize

_KNOWN_MODULES = {"aiohttp", "builtins", "socket", "ssl"}
_SESSION_MODULE = aiohttp.ClientSession.__module__


class NoConnectionError(aiohttp.ClientConnectionError):
    """Any failure before a request was sent: its text has no secret, `reason` is the error's."""

    def __init__(
        self, message: str, *, reason: NotSentReason = "connect", status: int | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.reason, self.status = message, reason, status


def describe_failed_connect(failure: Exception) -> NoConnectionError:
    """Returns the error for what a connector raised, with the type of it only.

    The exception itself may hold the request, and so the key; its text may be anything.
    """
    if isinstance(failure, aiohttp.ClientHttpProxyError):
        status = failure.status
        return NoConnectionError(refused_by_proxy(status), reason="proxy", status=status)
    return NoConnectionError(f"could not connect ({type(failure).__name__})")


def refused_by_proxy(status: int) -> str:
    hint = {403: ": it forbids this host", 407: ": check its user and password"}.get(status, "")
    return f"the proxy answered {status}{hint}"


def translate(failure: Exception, connector: aiohttp.BaseConnector | None) -> ThorError:
    """Returns the error that an exception means which a session with `connector` raised."""
    error = _translate_connect(failure)
    if error is None:
        origin, called = _find_origin(failure)
        if _is_before_connection(called, connector):
            error = _translate_connect(origin) or _translate_connect(
                describe_failed_connect(origin)
            )
    if error is not None:
        return error
    match failure:
        case TimeoutError():
            return ResponseTimeout("no answer in time")
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError() | OSError():
            return ConnectionLost(_add_reason("the connection was lost", failure))
        case aiohttp.ClientError() | HttpProcessingError() | ValueError():
            return UnexpectedResponse(f"not HTTP as it should be ({type(failure).__name__})")
    return ConnectionLost(f"the session failed ({type(failure).__name__})")


def _translate_connect(failure: Exception) -> NotSentError | None:  # noqa: PLR0911 - a table
    """Returns the error for what aiohttp raises only before it has a connection; else None."""
    match failure:
        case NoConnectionError():
            return NotSentError(failure.message, reason=failure.reason, status=failure.status)
        case aiohttp.ClientHttpProxyError():
            return _translate_connect(describe_failed_connect(failure))
        case aiohttp.ClientConnectorDNSError():
            return NotSentError(_add_reason("no address for the host", failure), reason="dns")
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return NotSentError(_add_reason("no safe connection", failure), reason="tls")
        case aiohttp.ConnectionTimeoutError():
            return NotSentError("could not connect in time", reason="connect")
        case aiohttp.ClientConnectorError():
            return NotSentError(_add_reason("could not connect", failure), reason="connect")
    return None


def _add_reason(message: str, failure: Exception) -> str:
    """Adds only the reason of a failure: its whole text may print the request.

    Of an exception that is neither Python's nor aiohttp's it adds the type, not a word of it.
    """
    origin = getattr(failure, "os_error", None) or _find_origin(failure)[0]
    if type(origin).__module__.partition(".")[0] not in _KNOWN_MODULES:
        return f"{message} ({type(origin).__name__})"
    reason = getattr(failure, "certificate_error", None) or getattr(failure, "strerror", None)
    return f"{message}: {sanitize(str(reason))}" if reason else message


def _is_before_connection(called: CodeType | None, connector: aiohttp.BaseConnector | None) -> bool:
    """Whether a session had certainly no connection for its request when it made this call.

    A resolver, a connector or a hook of a trace can raise anything. What the session had called
    tells where: its connector, or the hooks for the start of a request.
    """
    connect = getattr(type(connector).connect, "__code__", None) if connector else None
    return called is not None and called in (Trace.send_request_start.__code__, connect)


def _find_origin(failure: Exception) -> tuple[Exception, CodeType | None]:
    """Returns the first exception in the session behind a failure, and what it had called then.

    A session raises another class for an OSError, and its hooks for failed requests may raise in
    the place of the failure that they were told of.
    """
    while True:
        session, called = _find_call(failure.__traceback__)
        is_replaced = called in (None, Trace.send_request_exception.__code__)
        handled = _find_handled(failure, session) if session and is_replaced else None
        if handled is None:
            return failure, called
        failure = handled


def _find_call(traceback: TracebackType | None) -> tuple[FrameType | None, CodeType | None]:
    """Returns the outermost frame of a session, and the code that the session had called."""
    session = None
    for frame in _frames(traceback):
        if frame.f_globals.get("__name__") == _SESSION_MODULE:
            session = session or frame
        elif session is not None:
            return session, frame.f_code
    return session, None


def _find_handled(failure: BaseException, session: FrameType | None) -> Exception | None:
    """Returns the exception that was handled in this frame of a session."""
    handled = failure.__context__
    while handled is not None:
        if handled.__traceback__ is not None and handled.__traceback__.tb_frame is session:
            return handled if isinstance(handled, Exception) else None
        handled = handled.__context__
    return None


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
