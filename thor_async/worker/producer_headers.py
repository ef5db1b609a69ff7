"""The headers that a producer gives its command, and that its results carry on. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping

_RESULT_HEADERS = {
    "thor-reason",
    "thor-maybe-applied",
    "thor-deliveries",
    "thor-sequence",
    "thor-created",
    "thor-code",
    "thor-verdict",
    "thor-ref",
}
"""What a worker writes itself."""

# nats-py takes a message with such a header for a status of the server.
_STATUS_HEADERS = {"status", "description"}
_NAME = re.compile(r"[!-9;-~]+")
_MAX_BYTES = 2048


def find_producer_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the producer's own headers, as they can be sent on: such as `traceparent`.

    Leaves out those of NATS and of a worker, and, past 2 KiB, all others. What is not printable
    ASCII in a value is escaped.
    """
    found: dict[str, str] = {}
    size = 0
    for name, value in (headers or {}).items():
        if not _NAME.fullmatch(name) or _is_reserved(name.lower()):
            continue
        text = escape_header(value)
        size += len(name) + len(text) + 4
        if size > _MAX_BYTES:
            break
        found[name] = text
    return found


def escape_header(value: str) -> str:
    """Returns the value in printable ASCII: some clients drop all headers of another message."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in value)


def _is_reserved(name: str) -> bool:
    return name.startswith("nats-") or name in _STATUS_HEADERS or name in _RESULT_HEADERS
