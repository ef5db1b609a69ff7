"""Maps Thor's 4xx and 5xx answers to errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from .._errors import (
    CODES,
    AccountError,
    RejectedError,
    ServerError,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
)
from .http_messages import Answer
from .sanitize import sanitize

_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_SECONDS = re.compile(r"([0-9]{1,9})(?:\.([0-9]+))?")
_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)", re.ASCII)
_QUOTA = re.compile(r"limit exceeded\.?", re.IGNORECASE)
_WRONG_PATH = "Missing Authentication Token"
_WORD_KEYS = ("message", "code", "error")


def parse_error_answer(answer: Answer, secrets: tuple[str, ...], now: float) -> ThorError:
    """Returns the error for any answer but a 200.

    A 408 comes from a server or gateway that got no whole request in time, as far as it knows, so
    it is unexpected (RFC 9110 15.5.9); a 407 is the word of a proxy, so it has no code of Thor's.

    The status decides the verdict, the code in the body only the class. `secrets` never appear in
    the error, even if the server echoes them. `now` is the wall clock in epoch seconds, which a
    Retry-After with a date needs.
    """
    status = answer.status
    if status == 408 or not 400 <= status <= 599:
        return UnexpectedResponse(f"HTTP status {status} is none of Thor's", status=status)
    if status == 407:
        return RejectedError("a proxy answered 407: it wants a user and password", status=status)
    named, others = _find_strings(_decode_body(answer.body))
    code = _find_code(named, others, secrets)
    text = code or (sanitize(named[0], secrets) if named else sanitize(_describe(answer, secrets)))
    if text == _WRONG_PATH:
        text += ": a gateway's word for a path that it does not know, so check base_url"
    error = _error_class(status, code)(
        f"Thor answered {status}: {text}",
        status=status,
        code=code,
        retry_after=parse_retry_after(answer.retry_after, now),
    )
    if isinstance(error, TooManyRequests):
        error.is_quota = any(_QUOTA.fullmatch(word.strip()) for word in named)
    return error


def _error_class(status: int, code: str | None) -> type[RejectedError] | type[ServerError]:
    if status == 429:
        return TooManyRequests
    verdict = ServerError if status >= 500 else RejectedError
    named = CODES.get(code or "", verdict)
    # A code that belongs to another verdict does not change the verdict of the status.
    if named is verdict or named is TooManyRequests or not issubclass(named, verdict):
        # A gateway before Thor refuses a key in words of its own.
        return AccountError if status in (401, 403) else verdict
    return named


def _decode_body(body: bytes | None) -> object:
    """Returns the body as JSON, else as plain text, else None: Thor does not document its form."""
    body = (body or b"").removeprefix(b"\xef\xbb\xbf").strip()
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        pass
    return body.decode("utf-8", "replace") if body[:1] not in b'<{["' else None


def _find_strings(text: object) -> tuple[list[str], list[str]]:
    """Returns the strings that are expected to be a code, and other strings that may be one.

    Expected are the text itself, and the values of a JSON object's usual keys, also one level down
    as in `{"error": {"code": ...}}`. Lists are ignored, because they may enumerate codes.
    """
    if isinstance(text, str):
        return [text], []
    if not isinstance(text, dict):
        return [], []
    usual = [text.get(key) for key in _WORD_KEYS]
    usual += [value.get(key) for value in usual if isinstance(value, dict) for key in _WORD_KEYS]
    return _only_str(usual), _only_str(text.values())


def _only_str(values: Iterable[object]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _find_code(named: list[str], others: list[str], secrets: tuple[str, ...]) -> str | None:
    """Returns a code that is a whole string, never a part of a sentence; known codes first."""
    tokens = [token for token in map(str.strip, named) if _TOKEN.fullmatch(token)]
    known = [token for token in tokens if token in CODES]
    elsewhere = {value.strip() for value in others} & CODES.keys()
    if not known and len(elsewhere) == 1:
        return elsewhere.pop()
    new = [token for token in tokens if sanitize(token, secrets) == token]
    return next(iter(known + new), None)


def _describe(answer: Answer, secrets: tuple[str, ...]) -> str:
    if answer.body is None:
        return "a body that did not arrive whole"
    kind = f" of {sanitize(answer.content_type, secrets)}" if answer.content_type else ""
    return f"{len(answer.body)} bytes{kind} without a code"


def parse_request_id(answer: Answer, secrets: tuple[str, ...]) -> str | None:
    """Returns the id that the answer gives its request, cleaned as all text, or None."""
    return sanitize(answer.request_id, secrets) or None if answer.request_id else None


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Returns the seconds of a Retry-After (RFC 9110 10.2.3), or None if it is missing or invalid.

    A date in the past is 0. A fraction, which many servers send, is rounded up. More than nine
    digits before it (thirty years) are invalid.
    """
    if value is None:
        return None
    if seconds := _SECONDS.fullmatch(value):
        whole, fraction = seconds.groups("")
        # Digit by digit, because a float loses a small fraction.
        return float(int(whole) + bool(fraction.strip("0")))
    if not _DATE.match(value):
        return None
    try:
        date = parsedate_to_datetime(value)
        # The asctime form names no zone and means UTC, as every HTTP date does (RFC 9110 5.6.7).
        zoned = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, zoned.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
