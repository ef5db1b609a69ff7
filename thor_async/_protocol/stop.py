"""Builds the request that stops a charge, and parses its answer."""

from __future__ import annotations

import msgspec

from .._errors import ThorError, UnexpectedResponse
from .._models import MaskedBytes, StopCharge
from .error_responses import parse_error_answer
from .http_messages import ANSWER_LIMIT, Answer, Request

_BEFORE_TEXT = b"\xef\xbb\xbf\xfe\xff\x00 \t\r\n\v\f"


class _StopBody(msgspec.Struct, frozen=True, omit_defaults=True):
    chargebox: str
    connector: int
    id_tag: str
    # Never 0 in a request: Thor's notifications use 0 for "none".
    transaction: int | None = None


_encoder = msgspec.json.Encoder()


def build_stop_request(base_url: str, command: StopCharge) -> Request:
    """Builds the request: JSON of four fields, without `transaction` when it is None."""
    body = MaskedBytes(
        _encoder.encode(
            _StopBody(command.chargebox, command.connector, command.id_tag, command.transaction)
        )
    )
    return Request("POST", f"{base_url}/charges/stop", body, ANSWER_LIMIT)


def parse_stop_answer(answer: Answer, secrets: tuple[str, ...], now: float) -> ThorError | None:
    """Returns the error that an answer to a stop means; None when it was relayed.

    A 200 is a relay whatever its body, unless it was cut short or is the page of a portal. For any
    other status see `parse_error_answer`, also for `secrets` and `now`.
    """
    if answer.status != 200:
        return parse_error_answer(answer, secrets, now)
    if answer.body is None:
        return UnexpectedResponse("a 200 whose body did not arrive whole", status=200)
    # Not by its content type: many servers call an empty body, or a plain OK, text/html.
    if answer.body.lstrip(_BEFORE_TEXT)[:1] == b"<":
        return UnexpectedResponse("a 200 with an HTML page: a portal, not Thor", status=200)
    return None
