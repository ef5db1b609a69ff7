"""Tells where an HTTP/1 answer ends."""

from __future__ import annotations

import re

_HEAD_END = b"\r\n\r\n"
_STATUS_AT = len(b"HTTP/1.1 ")
_FRAMING = re.compile(
    rb"\r\n(?:content-length:[ \t]*([0-9]{1,9})|transfer-encoding:[ \t]*chunked)[ \t]*(?=\r\n)",
    re.IGNORECASE,
)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")


def ends_exactly(received: bytes | bytearray) -> bool:
    """Whether the bytes are certainly one whole answer and nothing behind it.

    False also where that cannot be told from the bytes alone: without one clear length, or with
    trailers. `received` begins with a status line; interim answers (1xx) may come first.
    """
    start = 0
    while (end := received.find(_HEAD_END, start)) >= 0:
        if received[start + _STATUS_AT : start + _STATUS_AT + 1] != b"1":
            break
        start = end + len(_HEAD_END)
    else:
        return False
    body = end + len(_HEAD_END)
    lengths = _FRAMING.findall(received, start, end + 2)
    if len(lengths) != 1:
        return False
    if lengths[0]:
        return body + int(lengths[0]) == len(received)
    return _ends_with_last_chunk(received, body)


def _ends_with_last_chunk(received: bytes | bytearray, position: int) -> bool:
    while chunk := _CHUNK.match(received, position):
        position = chunk.end()
        size = int(chunk[1], 16)
        if not size:
            return received[position:] == b"\r\n"
        position += size + 2
    return False
