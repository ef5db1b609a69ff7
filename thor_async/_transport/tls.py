"""TLS of which a record that has arrived in part can be seen."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from typing import Any, Self, TypeVar, cast

T = TypeVar("T")

_HEADER_SIZE = 5
# RFC 8446 5.1 and 5.2; RFC 5246 6.2.3 allows a record of TLS 1.2 a little more.
_CONTENT_TYPES = range(20, 25)
_MAJOR_VERSION = 3
_BODY_LIMIT = (1 << 14) + 2048
_SMALL = 4096
"""Bytes, as of an answer, that cost little to be put back."""


def make_context() -> ssl.SSLContext:
    """Returns a context as `ssl.create_default_context` does, but without SSLKEYLOGFILE.

    SSL_CERT_FILE and SSL_CERT_DIR choose the authorities, as in all of Python.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context


class RecordContext(ssl.SSLContext):
    """Opens the TLS connections of another context, and keeps sight of their records.

    OpenSSL hides the part of a record that has arrived: an answer of which one half came before a
    request would be taken for the answer to it. Without a context it makes its own when it is
    needed, because that reads all authorities.
    """

    # A loop with aiofastnet would read this context past `wrap_bio`, and trust nobody.
    _aiofastnet_force_fallback_ssl = True

    def __new__(cls, context: ssl.SSLContext | None) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any
    ) -> ssl.SSLObject:
        if self._context is None:
            self._context = make_context()
        whole = ssl.MemoryBIO()
        connection = self._context.wrap_bio(whole, outgoing, *args, **options)
        return cast("ssl.SSLObject", RecordConnection(connection, incoming, whole))


class RecordConnection:
    """An `ssl.SSLObject` that is given whole records only, one when it needs one."""

    def __init__(
        self, connection: ssl.SSLObject, incoming: ssl.MemoryBIO, whole: ssl.MemoryBIO
    ) -> None:
        self._connection = connection
        self._read = connection.read
        self._write = connection.write
        self._incoming = incoming
        self._whole = whole
        self._record = bytearray()
        self._missing = _HEADER_SIZE
        self._is_tls = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @property
    def has_unfinished_record(self) -> bool:
        """Whether bytes have arrived that no read has returned or used up."""
        return bool(self._record or self._incoming.pending or self._whole.pending)

    def do_handshake(self) -> None:
        self._run(self._connection.do_handshake)

    def read(self, *args: Any) -> Any:
        # As `_run`, which would cost a frame more for each exception; and first the record, because
        # a read that fails costs more.
        while True:
            if self._incoming.pending:
                self._pass_on()
            try:
                return self._read(*args)
            except ssl.SSLWantReadError:
                if not self._incoming.pending:
                    raise

    def write(self, data: bytes) -> int:
        return self._run(self._write, data)

    def unwrap(self) -> None:
        self._run(self._connection.unwrap)

    def _run(self, operation: Callable[..., T], *args: Any) -> T:
        while True:
            try:
                return operation(*args)
            except ssl.SSLWantReadError:
                if not (self._incoming.pending and self._pass_on()):
                    raise

    def _pass_on(self) -> bool:
        """Passes one record on, or all that is no TLS; False if there is none that is whole."""
        if not self._record and self._incoming.pending <= _SMALL:
            arrived = self._incoming.read()
            if _is_one_record(arrived):
                self._whole.write(arrived)
                return True
            self._incoming.write(arrived)
        while self._is_tls and (part := self._incoming.read(self._missing)):
            self._record += part
            self._missing -= len(part)
            if not self._missing and len(self._record) == _HEADER_SIZE:
                self._read_header()
            if not self._missing:
                self._whole.write(self._record)
                self._record.clear()
                self._missing = _HEADER_SIZE
                return True
        return not self._is_tls and self._whole.write(self._incoming.read()) > 0

    def _read_header(self) -> None:
        content_type, version, _, high, low = self._record
        self._missing = (high << 8) + low
        # OpenSSL is to say at once what is wrong with any other.
        self._is_tls = (
            content_type in _CONTENT_TYPES
            and version == _MAJOR_VERSION
            and self._missing <= _BODY_LIMIT
        )
        if not self._is_tls:
            self._missing = 0


def _is_one_record(data: bytes) -> bool:
    return (
        len(data) > _HEADER_SIZE
        and data[0] in _CONTENT_TYPES
        and data[1] == _MAJOR_VERSION
        and (data[3] << 8) + data[4] + _HEADER_SIZE == len(data)
    )
