"""Thor's wire, without a socket: a command to bytes, and an answer to an error or to none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from .._errors import (
    CODES,
    RejectedError,
    ServerError,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
)
from .._models import MASKED, StopCharge

ANSWER_LIMIT = 65_536
"""Bytes that are read of an answer to a stop, or of an error."""

_SHOWN = 200
_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_SECONDS = re.compile(r"[0-9]{1,9}")
_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)", re.ASCII)
_BEFORE_TEXT = b"\xef\xbb\xbf\xfe\xff\x00 \t\r\n\v\f"
_WORD_KEYS = ("message", "code", "error")


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is asked; `limit` is how many bytes of a 200 are read."""

    method: str
    url: str
    body: bytes | None
    limit: int

    def __repr__(self) -> str:
        """Without its body, which has an id_tag."""
        return f"Request({self.method} {self.url})"


class Answer(msgspec.Struct):
    """What came back: `body` is None when it did not arrive whole, or was over the limit."""

    status: int
    body: bytes | None = None
    content_type: str = ""
    retry_after: str | None = None


class _StopBody(msgspec.Struct, frozen=True, omit_defaults=True):
    chargebox: str
    connector: int
    id_tag: str
    # Never 0 on the wire: Thor's webhooks use it for "none".
    transaction: int | None = None


_encoder = msgspec.json.Encoder()


def ask_stop(base_url: str, command: StopCharge) -> Request:
    """A stop, as JSON of the wire's four fields; `transaction` only when it is known."""
    body = _StopBody(command.chargebox, command.connector, command.id_tag, command.transaction)
    return Request("POST", f"{base_url}/charges/stop", _encoder.encode(body), ANSWER_LIMIT)


def read_stop(answer: Answer, secrets: tuple[str, ...], now: float) -> ThorError | None:
    """What an answer to a stop means: None when it was relayed.

    `secrets` never appear in the error, even when the server echoes them; `now` is the wall clock
    in epoch seconds, for a Retry-After that is a date. The status decides between the verdicts, the
    code in the body only the class.
    """
    if answer.status == 200:
        return _read_ok(answer)
    return read_error(answer, secrets, now)


def read_error(answer: Answer, secrets: tuple[str, ...], now: float) -> ThorError:
    """What any other answer than a 200 means; see `read_stop`."""
    status = answer.status
    if not 400 <= status <= 599:
        return UnexpectedResponse(f"HTTP status {status} is none of Thor's", status=status)
    named, others = _strings(_find_text(answer.body))
    code = _find_code(named, others, secrets)
    said = code or (sanitize(named[0], secrets) if named else sanitize(_describe(answer, secrets)))
    return _error_class(status, code)(
        f"Thor answered {status}: {said}",
        status=status,
        code=code,
        retry_after=read_retry_after(answer.retry_after, now),
    )


def _read_ok(answer: Answer) -> ThorError | None:
    """A 200 is a relay whatever its body, unless it is a portal's page or was cut short."""
    if answer.body is None:
        return UnexpectedResponse("a 200 whose body did not arrive whole", status=200)
    is_page = answer.body.lstrip(_BEFORE_TEXT)[:1] == b"<"
    if is_page or "html" in answer.content_type.lower():
        return UnexpectedResponse("a 200 with an HTML page: a portal, not Thor", status=200)
    return None


def _error_class(status: int, code: str | None) -> type[RejectedError] | type[ServerError]:
    if status == 429:
        return TooManyRequests
    verdict = ServerError if status >= 500 else RejectedError
    named = CODES.get(code or "", verdict)
    # The word of a 429, or of a 5xx in a 4xx and the other way round, does not change the verdict.
    return named if issubclass(named, verdict) and named is not TooManyRequests else verdict


def _find_text(body: bytes | None) -> object:
    """The body as JSON, else as plain text, else None: nobody knows which of them Thor sends."""
    body = (body or b"").removeprefix(b"\xef\xbb\xbf").strip()
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        pass
    return body.decode("utf-8", "replace") if body[:1] not in b'<{["' else None


def _strings(text: object) -> tuple[list[str], list[str]]:
    """The strings in which a code may stand, first those where one is expected.

    That is the text itself, or what a JSON object has under the usual keys, also one level down, as
    in `{"error": {"code": ...}}`. Lists are not looked into: they may enumerate codes.
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
    """Thor's word as a whole token, never a part of a sentence; a known one before an unknown."""
    tokens = [token for token in map(str.strip, named) if _TOKEN.fullmatch(token)]
    known = [token for token in tokens if token in CODES]
    elsewhere = {value.strip() for value in others} & CODES.keys()
    if not known and len(elsewhere) == 1:
        return elsewhere.pop()
    new = [token for token in tokens if not any(secret in token for secret in secrets)]
    return next(iter(known + new), None)


def _describe(answer: Answer, secrets: tuple[str, ...]) -> str:
    if answer.body is None:
        return "a body that did not arrive whole"
    kind = f" of {sanitize(answer.content_type, secrets)}" if answer.content_type else ""
    return f"{len(answer.body)} bytes{kind} without a code"


def sanitize(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Text from outside, fit for a log line: no secret, no control characters, at most 200."""
    # The longest first: one may hold another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASKED)
        if "\\" in text or "\0" in text:
            text = re.sub("\0*".join(map(_any_form, secret)), MASKED, text)
    # Escapes only make it longer, so what is cut here is never seen.
    text = "".join(c if _is_plain(c) else ascii(c)[1:-1] for c in text[:_SHOWN])
    return text[:_SHOWN]


def _any_form(character: str) -> str:
    """A pattern for a character as it is, or as some JSON encoder may have escaped it."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escaped = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return f"(?:\\\\?{re.escape(character)}|(?i:{re.escape(escaped)}))"


def _is_plain(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def read_retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a Retry-After (RFC 9110 10.2.3), or None when there is none, or junk.

    A date that has passed is 0. Nine digits are thirty years: more is no wish to be waited for.
    """
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        return float(value)
    if not _DATE.match(value):
        return None
    try:
        date = parsedate_to_datetime(value)
        # The asctime form names no zone and means UTC, as every HTTP date does (RFC 9110 5.6.7).
        zoned = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, zoned.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
