"""The guard of one connection, between a transport and a handler that are no sockets."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from thor_async._transport.failures import NoConnectionError
from thor_async._transport.guard import Guard

from .test_connections import OK, FakeTransport


class FakeHandler:
    """aiohttp's protocol, as a guard sees it."""

    def __init__(self, log: list[object]) -> None:
        self.log = log
        self.should_close = False

    def force_close(self) -> None:
        self.should_close = True

    def data_received(self, data: bytes) -> None:
        self.log.append(data)

    def set_exception(self, error: BaseException) -> None:
        self.log.append(type(error))

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def eof_received(self) -> None:
        self.log.append("eof")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.log.append(exc)


class GuardCase:
    """A guard between a fake transport and a fake handler, with the log of both."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.log = self.transport.log
        self.handler = FakeHandler(self.log)
        self.guard = Guard(
            cast("asyncio.Transport", self.transport), cast("ResponseHandler", self.handler)
        )
        assert self.guard.expect_answer()

    def receive(self, *packets: bytes) -> None:
        for packet in packets:
            buffer = self.guard.get_buffer(-1)
            buffer[: len(packet)] = packet
            self.guard.buffer_updated(len(packet))


@pytest.fixture
def case() -> GuardCase:
    return GuardCase()


def test_an_open_guard_passes_everything_on(case: GuardCase) -> None:
    case.guard.pause_writing()
    case.guard.resume_writing()
    case.receive(OK, b"more")
    case.guard.eof_received()
    case.guard.connection_lost(None)
    assert case.log == ["pause", "resume", OK, b"more", "eof", None]
    assert not case.handler.should_close


async def test_a_shut_guard_passes_no_bytes_on_and_aborts(case: GuardCase) -> None:
    case.receive(OK)
    case.guard.expect_nothing()
    case.receive(OK)
    assert case.log == [OK]  # not at once
    await asyncio.sleep(0)
    assert case.log == [OK, "abort"]
    assert case.handler.should_close
    assert not case.guard.expect_answer()


def test_a_shut_guard_lets_an_end_close_the_transport(case: GuardCase) -> None:
    case.receive(OK)
    case.guard.expect_nothing()
    case.guard.eof_received()
    assert case.log == [OK]
    assert not case.guard.expect_answer()


def test_a_shut_guard_still_says_when_writing_may_go_on(case: GuardCase) -> None:
    """Otherwise aiohttp would wait for it for ever."""
    case.guard.pause_writing()
    case.receive(OK)
    case.guard.expect_nothing()
    case.guard.resume_writing()
    assert case.log == ["pause", OK, "resume"]
    assert case.guard.expect_answer()


def test_a_guard_does_not_open_while_bytes_are_unsent(case: GuardCase) -> None:
    case.receive(OK)
    case.guard.expect_nothing()
    case.transport.unsent = 1
    assert not case.guard.expect_answer()
    case.transport.unsent = 0
    assert case.guard.expect_answer()


@pytest.mark.parametrize("size", [1, 2, 5, 13, 14, 100])
def test_a_guard_passes_an_answer_on_whatever_its_packets(case: GuardCase, size: int) -> None:
    for _ in range(2):
        packets = [OK[at : at + size] for at in range(0, len(OK), size)]
        case.receive(*packets)
        case.guard.expect_nothing()
        assert case.log == packets
        case.log.clear()
        assert case.guard.expect_answer()


@pytest.mark.parametrize("packets", [[b"\r\n\r\n" + OK], [b"\r", b"\n", b"\r\n" + OK]])
def test_a_guard_leaves_empty_lines_before_an_answer_out(
    case: GuardCase, packets: list[bytes]
) -> None:
    case.receive(*packets)
    assert case.log == [OK]


@pytest.mark.parametrize("garbage", [b"<html>", b"RTSP/1.0 200 OK\r\n", b"HTTP/1.1 OK", b"\0"])
@pytest.mark.parametrize("size", [1, 100])
def test_a_guard_fails_an_answer_that_begins_with_no_status_line(
    case: GuardCase, garbage: bytes, size: int
) -> None:
    for at in range(0, len(garbage), size):
        case.receive(garbage[at : at + size])
        if case.log and isinstance(case.log[-1], type):
            break
    failure = case.log.pop()
    assert isinstance(failure, type)
    assert issubclass(failure, HttpProcessingError)
    assert garbage.startswith(b"".join(cast("list[bytes]", case.log)))


def test_a_guard_checks_each_answer(case: GuardCase) -> None:
    case.receive(OK)
    case.guard.expect_nothing()
    assert case.guard.expect_answer()
    case.receive(b"<html>")
    assert isinstance(case.log[-1], type)


def test_bytes_behind_an_answer_end_its_connection(case: GuardCase) -> None:
    case.receive(OK + b"H")
    case.guard.expect_nothing()
    assert not case.guard.expect_answer()


def test_an_answer_that_is_too_large_to_keep_ends_its_connection(case: GuardCase) -> None:
    size = 100_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    case.receive(head, *[b"x" * 10_000] * 10)
    case.guard.expect_nothing()
    assert not case.guard.expect_answer()


def test_a_tls_whose_records_cannot_be_seen_is_used_for_one_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As another implementation brings, for example aiofastnet."""
    monkeypatch.setattr(FakeTransport, "tls", FakeTls("TLSv1.3"))
    case = GuardCase()
    case.receive(OK)
    case.guard.expect_nothing()
    assert not case.guard.expect_answer()


REFUSED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"


class FakeTls:
    """The TLS of a connection, as a guard asks for it."""

    post_handshake_auth = False

    def __init__(self, version: str) -> None:
        self.context = self
        self._version = version

    def version(self) -> str:
        return self._version


@pytest.mark.parametrize(
    ("reason", "version", "is_refusal"),
    [
        (REFUSED, "TLSv1.3", True),
        ("TLSV1_ALERT_UNKNOWN_CA", "TLSv1.3", True),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "TLSv1.3", True),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "TLSv1.3", True),
        ("TLSV1_ALERT_INTERNAL_ERROR", "TLSv1.3", False),
        ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "TLSv1.3", False),
        (None, "TLSv1.3", False),
        # A server may ask for a certificate after it has read a request.
        (REFUSED, "TLSv1.2", False),
    ],
)
def test_a_refused_certificate_ends_the_first_request_unsent(
    monkeypatch: pytest.MonkeyPatch, reason: str | None, version: str, is_refusal: bool
) -> None:
    monkeypatch.setattr(FakeTransport, "tls", FakeTls(version))
    alert = ssl.SSLError(1, "alert")
    alert.reason = reason  # type: ignore[assignment]
    for answers in ([], [OK], [b"HTTP/1.1 "]):
        case = GuardCase()
        case.receive(*answers)
        if answers == [OK]:
            case.guard.expect_nothing()
        case.guard.connection_lost(alert)
        lost = case.log[-1]
        assert isinstance(lost, NoConnectionError) == (is_refusal and not answers)
        assert lost is alert or str(lost) == "the server refuses the client's certificate"


def test_a_certificate_asked_for_later_may_be_refused_after_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeTransport, "tls", FakeTls("TLSv1.3"))
    monkeypatch.setattr(FakeTls, "post_handshake_auth", True)
    alert = ssl.SSLError(1, "alert")
    alert.reason = REFUSED
    case = GuardCase()
    case.guard.connection_lost(alert)
    assert case.log == [alert]


def test_an_answer_as_the_one_before_is_looked_at_no_more_but_none_is_no_answer(
    case: GuardCase,
) -> None:
    for _ in range(3):
        case.receive(OK)
        case.guard.expect_nothing()
        assert case.guard.expect_answer()
    case.receive(OK + OK)
    case.guard.expect_nothing()
    assert not case.guard.expect_answer()
    fresh = GuardCase()
    fresh.guard.expect_nothing()
    assert not fresh.guard.expect_answer()
