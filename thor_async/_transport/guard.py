"""Guards a connection against answers to no request."""

from __future__ import annotations

import asyncio
import re
import select
import ssl

from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadStatusLine

from .._protocol.framing import ends_exactly
from .._protocol.http_messages import ANSWER_LIMIT
from .failures import NoConnectionError
from .tls import RecordConnection

_READ_SIZE = 16_384
# Enough to read what a server sends after a TLS handshake (tickets), which is no answer.
_READS_OF_NEW = 10

_CERTIFICATE_ALERT = re.compile(r"_ALERT_\w*(CERTIFICATE|UNKNOWN_CA)")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] \d{3}[ \r\n]")
_STATUS_LINE_EXAMPLE = b"HTTP/1.1 200 "


class Guard(asyncio.BufferedProtocol):
    """Stands between a transport and aiohttp's protocol, its handler.

    While it expects an answer, it passes everything on. Before the first request and between two
    it expects nothing, and whatever arrives closes the connection. It is buffered, because
    otherwise asyncio allocates 256 KiB for each read, which takes a tenth of a request's time.
    """

    __slots__ = (
        "__weakref__",
        "_answer",
        "_buffer",
        "_ended_exactly",
        "_exact",
        "_expects_nothing",
        "_first_bytes",
        "_handler",
        "_has_spoken",
        "_is_first",
        "_received",
        "_records",
        "_sees_all",
        "_tls",
        "_transport",
        "_unread",
        "_version",
        "must_read_first",
    )

    def __init__(self, transport: asyncio.Transport, handler: ResponseHandler) -> None:
        self._transport = transport
        self._handler = handler
        self._buffer = memoryview(bytearray(_READ_SIZE))
        self._unread = _watch_unread(transport)
        self._tls: ssl.SSLObject | RecordConnection | None = transport.get_extra_info("ssl_object")
        self._records = self._tls if isinstance(self._tls, RecordConnection) else None
        # In any other TLS half a record cannot be seen.
        self._sees_all = self._tls is None or self._records is not None
        # Asked for now, because it is not told after an alert.
        self._version = self._tls.version() if self._tls else None
        self.must_read_first = self._unread is None or self._tls is not None
        self._expects_nothing = True
        self._is_first = True
        self._has_spoken = False
        # Of the answer; None once they are known to begin a status line.
        self._first_bytes: bytes | None = b""
        # The answer itself, unless it is large, and its size.
        self._answer = b""
        self._received = 0
        # The last answer of which the end is known.
        self._exact: bytes | None = None
        self._ended_exactly = True
        transport.set_protocol(self)

    async def read_before_first(self) -> None:
        """Lets the loop read what has arrived on a new connection."""
        for _ in range(_READS_OF_NEW):
            await let_loop_read()
            # Asked first: its socket may be closed, and its number another's.
            if self._transport.is_closing():
                # The loop tells the reason of an end one round later.
                await let_loop_read()
                return
            if not self._has_unread():
                return
        self._has_spoken = True

    def end(self) -> None:
        """Ends the connection, without the shutdown of TLS."""
        if self._tls is None:
            self._transport.close()
        else:
            self._transport.abort()

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended, and nothing but its end has arrived unasked."""
        return self._transport.is_closing() and not self._has_spoken

    def expect_answer(self) -> bool:
        """Expects the next answer; False if bytes have arrived, or have still to be sent."""
        if (
            self._transport.is_closing()
            # aiohttp releases a connection before it looks at the bytes behind an answer's end.
            or self._handler.should_close
            or self._has_spoken
            or not self._ended_exactly
            or self._transport.get_write_buffer_size()
            # Of a new connection `read_before_first` has just seen to it; now it may be a ticket.
            or (not self._is_first and self._has_unread())
        ):
            return False
        self._expects_nothing = False
        self._first_bytes = b""
        return True

    def expect_anything(self) -> None:
        """Passes on whatever arrives, as an answer."""
        self._expects_nothing = False
        self._first_bytes = b""

    def expect_nothing(self) -> None:
        """Passes no more bytes on: aiohttp is about to release the connection."""
        self._expects_nothing = True
        self._is_first = False
        answer, self._answer = self._answer, b""
        is_kept = len(answer) == self._received
        # Most answers are as the one before, and a look into one takes 4 % of a request's time.
        is_exact = answer == self._exact or ends_exactly(answer)
        self._exact = answer if is_exact else None
        self._ended_exactly = self._sees_all and is_kept and is_exact
        self._received = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._expects_nothing:
            self._has_spoken = True
            self._handler.force_close()
            # Not at once: TLS reads on while it closes, and fails if it is aborted meanwhile.
            asyncio.get_running_loop().call_soon(self._transport.abort)
            return
        data = bytes(self._buffer[:nbytes])
        if self._first_bytes == b"" and _STATUS_LINE.match(data):
            self._first_bytes = None
        elif self._first_bytes is not None:
            data = self._check_status_line(self._first_bytes, data)
        if data:
            self._received += len(data)
            if self._received <= ANSWER_LIMIT:
                self._answer += data
            self._handler.data_received(data)

    def _check_status_line(self, before: bytes, data: bytes) -> bytes:
        """Returns what to pass on: nothing of an answer that begins with no HTTP/1 status line.

        aiohttp's parser in Python waits for the end of the line; its parser in C believes RTSP.
        """
        if not before:
            data = data.lstrip(b"\r\n")
        first = (before + data)[: len(_STATUS_LINE_EXAMPLE)]
        rest = _STATUS_LINE_EXAMPLE[len(first) :]
        self._first_bytes = first if rest else None
        if _STATUS_LINE.match(first + rest):
            return data
        self._expects_nothing = True
        self._handler.set_exception(BadStatusLine())
        return b""

    def eof_received(self) -> None:
        # The transport closes itself then.
        if self._expects_nothing:
            self._handler.force_close()
        else:
            self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_first and not self._received and self._was_certificate_refused(exc):
            exc = NoConnectionError("the server refuses the client's certificate", reason="tls")
        self._handler.connection_lost(exc)

    def _was_certificate_refused(self, exc: Exception | None) -> bool:
        """Whether an alert says so that ends the handshake of TLS 1.3 on the server's side.

        The client learns of it after its own side of the handshake, when the request is written;
        the server has read none of it (RFC 8446 4.4.2.4), unless it asks for a certificate later.
        """
        if not isinstance(exc, ssl.SSLError) or self._tls is None:
            return False
        return (
            self._version == "TLSv1.3"
            and not self._tls.context.post_handshake_auth
            and _CERTIFICATE_ALERT.search(exc.reason or "") is not None
        )

    def _has_unread(self) -> bool:
        """Whether bytes have arrived that are still in the kernel, or are part of a record."""
        if self._unread is not None and self._unread.poll(0):
            return True
        return self._records is not None and self._records.has_unfinished_record


def _watch_unread(transport: asyncio.Transport) -> select.poll | None:
    """Asks the kernel for unread bytes, or an end; None where it cannot: on Windows."""
    number = transport.get_extra_info("socket").fileno()
    if not hasattr(select, "poll") or type(number) is not int or number < 0:
        return None
    unread = select.poll()
    unread.register(number, select.POLLIN)
    return unread


async def let_loop_read() -> None:
    """In two rounds the loop reads what has arrived, also through TLS."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
