"""A request to Thor, its headers with the API key, and its answer, as values."""

from __future__ import annotations

import msgspec

ANSWER_LIMIT = 65_536
"""Bytes that are read of an answer to a stop, or of an error answer."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request to Thor. Of a 200 answer at most `limit` bytes are read."""

    method: str
    url: str
    body: bytes | None
    limit: int

    def __repr__(self) -> str:
        """Leaves out the body, which contains an id_tag."""
        return f"Request({self.method} {self.url})"


def build_headers(key: str) -> dict[str, str]:
    """Returns the headers of every request; `key` is the API key."""
    return {
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "X-Api-Key": key,
    }


class Answer(msgspec.Struct):
    """An answer from Thor. `body` is None if it was cut short or longer than the limit."""

    status: int
    body: bytes | None = None
    content_type: str = ""
    retry_after: str | None = None
