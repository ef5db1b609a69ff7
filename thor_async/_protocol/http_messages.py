"""A request to Thor, its headers with the API key, and its answer, as values."""

from __future__ import annotations

from typing import Any

import msgspec

ANSWER_LIMIT = 65_536
"""Bytes that are read of an answer to a stop, or of an error answer."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request to Thor. Of a 200 answer at most `limit` bytes are read."""

    method: str
    url: str
    body: bytes | None
    limit: int

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Leaves out the body, which contains an id_tag."""
        return [("method", self.method), ("url", self.url)]

    def __repr__(self) -> str:
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
    request_id: str | None = None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Leaves out all text, because the server may echo a key or an id_tag in it."""
        return [("status", self.status)]

    def __repr__(self) -> str:
        return f"Answer({self.status})"
