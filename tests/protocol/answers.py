"""Parses answers as the client does, with the secrets of the tests and a fixed time."""

from __future__ import annotations

import msgspec

from tests.conftest import KEY, TAG
from thor_async import ThorError
from thor_async._protocol.http_messages import Answer
from thor_async._protocol.stop import parse_stop_answer

SECRETS = (KEY, TAG)
NOW = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the time in the examples of RFC 9110."""


def parse(status: int, body: bytes | None = b"", content_type: str = "") -> ThorError | None:
    return parse_stop_answer(Answer(status, body, content_type), SECRETS, NOW)


def parse_error(body: bytes | None, status: int = 400, content_type: str = "") -> ThorError:
    error = parse(status, body, content_type)
    assert error is not None
    assert (error.status, error.retry_after) == (status, None)
    return error


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)
