"""Where an answer ends, told from its bytes alone."""

from __future__ import annotations

import pytest

from thor_async._protocol.framing import ends_exactly

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
WHOLE = [
    HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"Content-Length: 2\r\n\r\n{}",
    HEAD + b"content-length:2\r\nX-A: b\r\n\r\n{}",
    HEAD + b"X-A: b\r\nCONTENT-LENGTH: \t002 \r\n\r\n{}",
    HEAD + b"Content-Length: 4\r\n\r\n\r\n\r\n",
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2;a=b\r\n{}\r\n0a\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
    INTERIM + HEAD + b"Content-Length: 2\r\n\r\n{}",
    INTERIM * 3 + CHUNKED + b"0\r\n\r\n",
]
NOT_TOLD = [
    b"",
    HEAD,
    HEAD + b"\r\n",
    INTERIM,
    HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
    HEAD + b"Content-Length: +2\r\n\r\n{}",
    HEAD + b"Content-Length: 0000000002\r\n\r\n{}",
    HEAD + b"X-Content-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Length: 2\n\n{}",
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n{}\r\n0\r\nA: b\r\n\r\n",
    CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n{}\r\nx\r\n",
]


@pytest.mark.parametrize("answer", WHOLE)
def test_a_whole_answer_ends_at_its_last_byte_and_nowhere_else(answer: bytes) -> None:
    assert ends_exactly(answer)
    assert ends_exactly(bytearray(answer))
    for end in range(len(answer)):
        assert not ends_exactly(answer[:end])
    for behind in (b"\r\n", b"H", b"HTTP/1.1 2", answer, b"0\r\n\r\n"):
        assert not ends_exactly(answer + behind)


@pytest.mark.parametrize("answer", NOT_TOLD)
def test_an_end_that_the_bytes_do_not_tell_is_none(answer: bytes) -> None:
    assert not ends_exactly(answer)
