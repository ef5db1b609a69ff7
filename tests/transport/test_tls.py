"""TLS whose unfinished records are seen, and whose secrets stay in the process."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from thor_async._transport.connections import session_parts
from thor_async._transport.tls import RecordConnection, RecordContext, make_context

from ..fault_server import FaultServer, in_thread, read
from .test_connections import OK, UNTESTED, tls_contexts


class Pair:
    """A client and a server of TLS, without sockets; `wire` is what the server has sent."""

    def __init__(self) -> None:
        trusting, certified = tls_contexts()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = cast(
            "RecordConnection",
            RecordContext(trusting).wrap_bio(
                self.incoming, self.outgoing, server_hostname="127.0.0.1"
            ),
        )
        self.heard, self.wire = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = certified.wrap_bio(self.heard, self.wire, server_side=True)

    def shake_hands(self, size: int) -> None:
        """The bytes of the server arrive in pieces of `size`."""
        is_done = [False, False]
        while not all(is_done):
            for index, side in enumerate[Any]((self.client, self.server)):
                try:
                    side.do_handshake()
                    is_done[index] = True
                except ssl.SSLWantReadError:
                    self.heard.write(self.outgoing.read())
                    self.incoming.write(self.wire.read(size))
        self.heard.write(self.outgoing.read())

    def read(self) -> bytes:
        try:
            return cast("bytes", self.client.read(100))
        except ssl.SSLWantReadError:
            return b""


@pytest.mark.parametrize("size", [1, 5, 100, 100_000])
def test_a_record_is_seen_from_its_first_byte_to_its_last(size: int) -> None:
    pair = Pair()
    pair.shake_hands(size)
    pair.incoming.write(pair.wire.read())  # tickets
    assert pair.read() == b""
    assert not pair.client.has_unfinished_record
    pair.server.write(b"one")
    pair.server.write(b"two")
    sent = pair.wire.read()
    received = b""
    for at in range(len(sent)):
        pair.incoming.write(sent[at : at + 1])
        received += pair.read()
        is_between = at + 1 in (len(sent) // 2, len(sent))
        assert pair.client.has_unfinished_record == (not is_between)
    assert received == b"onetwo"


def test_many_records_at_once_are_read_one_after_the_other() -> None:
    pair = Pair()
    pair.shake_hands(100_000)
    for _ in range(5):
        pair.server.write(b"x" * 20)
    pair.incoming.write(pair.wire.read())
    assert [pair.read() for _ in range(6)] == [b"x" * 20] * 5 + [b""]
    pair.client.write(b"back")
    pair.heard.write(pair.outgoing.read())
    assert pair.server.read(100) == b"back"


@pytest.mark.parametrize(
    "plain",
    [b"HTTP/1.1 400 Bad", b"220 mail", b"\x16\x04\x03\0\1", b"\x16\x03\x03\xff\xff", b"\0" * 5],
)
def test_what_is_no_tls_fails_at_once(plain: bytes) -> None:
    pair = Pair()
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.do_handshake()
    pair.incoming.write(plain)
    with pytest.raises(ssl.SSLError) as caught:
        pair.client.do_handshake()
    assert not isinstance(caught.value, ssl.SSLWantReadError)


def test_its_own_context_verifies_as_pythons_default_does() -> None:
    own, default = make_context(), ssl.create_default_context()
    for name in ("verify_mode", "check_hostname", "verify_flags", "minimum_version", "options"):
        assert getattr(own, name) == getattr(default, name)
    assert own.get_ca_certs() == default.get_ca_certs()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_its_authorities_are_those_of_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir() if name.endswith("DIR") else empty.touch()
    assert make_context().get_ca_certs()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv(name, str(empty))
    assert not make_context().get_ca_certs()


STOP = """
import asyncio, sys, thor_async

async def main():
    async with thor_async.ThorClient("key", base_url=sys.argv[1]) as thor:
        await thor.stop_charge(thor_async.StopCharge("box", 1, "tag", 1))

asyncio.run(main())
"""


def test_the_secrets_of_a_connection_are_written_nowhere(tmp_path: Path) -> None:
    """With what is in that file, whoever has recorded the bytes can read the key."""
    secrets, authority = tmp_path / "secrets", tmp_path / "authority.pem"
    trusting, certified = tls_contexts()
    authority.write_text(ssl.DER_cert_to_PEM_cert(trusting.get_ca_certs(binary_form=True)[-1]))
    server = FaultServer([read, OK], tls=certified)
    names = {"SSLKEYLOGFILE": str(secrets), "SSL_CERT_FILE": str(authority)}
    with in_thread(server):
        subprocess.run([sys.executable, "-c", STOP, server.url], env=os.environ | names, check=True)
    assert len(server.requests) == 1
    # aiohttp's own contexts, which are not used, may have begun it.
    assert not secrets.exists() or b"SECRET" not in secrets.read_bytes()


def test_an_untested_aiohttp_gets_a_context_without_key_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    monkeypatch.setattr("aiohttp.__version__", UNTESTED[0])
    monkeypatch.setattr("aiohttp.TCPConnector", lambda **settings: made.append(settings["ssl"]))
    session_parts(None)
    assert made[0].keylog_filename is None
    assert made[0].verify_mode is ssl.CERT_REQUIRED
