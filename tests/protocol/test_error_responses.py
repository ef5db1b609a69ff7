"""What any 4xx or 5xx means: its class, its code, its message and its Retry-After."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import KEY, TAG, shown
from tests.protocol.answers import NOW, SECRETS, encode, parse, parse_error
from thor_async import (
    AccountError,
    APIKeyNotFound,
    InternalServerError,
    NotInTransaction,
    RejectedError,
    ServerError,
    ThorError,
    TooManyRequests,
    UnexpectedResponse,
)
from thor_async._errors import CODES
from thor_async._protocol.error_responses import parse_retry_after
from thor_async._protocol.http_messages import Answer
from thor_async._protocol.sanitize import sanitize
from thor_async._protocol.stop import parse_stop_answer

properties = settings(deadline=None, derandomize=True, max_examples=500)


@pytest.mark.parametrize(
    "status",
    [0, 99, 100, 101, 199, 201, 202, 204, 299, 300, 301, 302, 303, 304, 307, 399, 408, 600, 999],
)
def test_a_status_that_is_none_of_thors_is_unexpected(status: int) -> None:
    error = parse(status, b'{"message": "NotInTransaction"}')
    assert type(error) is UnexpectedResponse
    assert str(error) == f"HTTP status {status} is none of Thor's"
    assert (error.status, error.code, error.retry_after) == (status, None, None)


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, RejectedError),
        (401, AccountError),
        (402, RejectedError),
        (403, AccountError),
        (404, RejectedError),
        (428, RejectedError),
        (429, TooManyRequests),
        (430, RejectedError),
        (499, RejectedError),
        (500, ServerError),
        (503, ServerError),
        (599, ServerError),
    ],
)
def test_without_a_known_code_the_status_is_the_class(
    status: int, error_class: type[ThorError]
) -> None:
    for body in (None, b"", b"{}", b'{"message": "Nope"}'):
        assert type(parse_error(body, status)) is error_class


@pytest.mark.parametrize("body", [None, b"", b'{"message": "APIKeyNotFound"}', b"NotInTransaction"])
def test_a_407_is_never_thors_word(body: bytes | None) -> None:
    error = parse_error(body, 407)
    assert type(error) is RejectedError
    assert not error.answered
    assert (error.code, error.message) == (
        None,
        "a proxy answered 407: it wants a user and password",
    )


@pytest.mark.parametrize("code", sorted(CODES))
def test_the_code_chooses_the_class_but_never_against_the_status(code: str) -> None:
    rejected = code not in ("InternalServerError", "TooManyRequests")
    in_4xx = CODES[code] if rejected else RejectedError
    in_5xx = InternalServerError if code == "InternalServerError" else ServerError
    expected: dict[int, type[ThorError]] = {
        **dict.fromkeys([400, 404, 422, 428, 430, 499], in_4xx),
        **dict.fromkeys([401, 403], in_4xx if rejected else AccountError),
        429: TooManyRequests,
        **dict.fromkeys([500, 503, 599], in_5xx),
    }
    for status, error_class in expected.items():
        error = parse_error(encode({"message": code}), status)
        assert type(error) is error_class
        assert error.code == code
        assert str(error) == f"Thor answered {status}: {code}"


@pytest.mark.parametrize(
    "body",
    [
        b'{"message": "NotInTransaction"}',
        b'{"error": "NotInTransaction"}',
        b'{"code": "NotInTransaction"}',
        b'"NotInTransaction"',
        b"NotInTransaction",
        b"NotInTransaction\n",
        b" \r\n\tNotInTransaction ",
        b'\xef\xbb\xbf{"message": "NotInTransaction"}',
        b"\xef\xbb\xbfNotInTransaction",
        b'{"message": " NotInTransaction\\n"}',
        b'{"status": 400, "message": "NotInTransaction", "path": "/charges/stop"}',
        b'{"error": {"code": "NotInTransaction"}}',
        b'{"error": {"message": "NotInTransaction"}}',
        b'{"message": {"error": "NotInTransaction"}}',
        b'{"code": 400, "error": {"code": 7, "message": "NotInTransaction"}}',
        b'{"error": "Bad Request", "message": "NotInTransaction"}',
        b'{"error": "Forbidden", "message": "NotInTransaction"}',
        b'{"message": "Forbidden", "error": {"code": "NotInTransaction"}}',
        b'{"message": "The connector is idle", "code": "NotInTransaction"}',
        b'{"message": "WrongTransaction", "message": "NotInTransaction"}',
        b'{"message": "NotInTransaction", "code": "WrongTransaction"}',
        b'{"code": "NotInTransaction", "error": "WrongTransaction"}',
        b'{"error": {"message": "WrongTransaction"}, "code": "NotInTransaction"}',
        b'{"reason": "NotInTransaction"}',
        b'{"reason": "NotInTransaction", "type": "Nope"}',
        b'{"error": "Forbidden", "reason": "NotInTransaction"}',
        b'{"reason": " NotInTransaction\\n", "type": "NotInTransaction"}',
        b'{"message": "the connector is idle", "reason": "NotInTransaction"}',
    ],
)
def test_the_code_is_found_in_every_shape(body: bytes) -> None:
    error = parse_error(body)
    assert type(error) is NotInTransaction
    assert str(error) == "Thor answered 400: NotInTransaction"


@pytest.mark.parametrize(
    "body",
    [
        b'{"message": "NotInTransaction: connector 2"}',
        b'{"message": "error NotInTransaction"}',
        b'{"message": "NotInTransaction."}',
        b"Sorry, NotInTransaction",
        b'{"message": ["NotInTransaction"]}',
        b'["NotInTransaction"]',
        b'{"errors": ["NotInTransaction"]}',
        b'{"error": {"reason": "NotInTransaction"}}',
        b'{"detail": {"code": "NotInTransaction"}}',
        b'{"error": {"error": {"code": "NotInTransaction"}}}',
        b'{"NotInTransaction": true}',
        b'{"reason": "NotInTransaction", "detail": "WrongTransaction"}',
        b'{"reason": "no NotInTransaction"}',
        b'<p>"NotInTransaction"</p>',
        "NotInTransaction".encode("utf-16"),
        b'{"message": "NotInTransaction"',
        b'"NotInTransaction',
        b'{"message": "NotInTransaction", "x": "\\ud800"}',
        b'{"message": "\xff", "code": "NotInTransaction"}',
        b'{"message": null}',
        b"null",
        b"true",
        b"[]",
        b"{}",
        b"-1.5e300",
        b"9" * 5_000,
        b'{"a":' * 50_000,
        b"[" * 65_536,
        b"",
        None,
    ],
)
def test_a_word_inside_a_text_is_no_code(body: bytes | None) -> None:
    error = parse_error(body)
    assert type(error) is RejectedError
    assert error.code is None
    assert not error.answered


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"ChargeboxNotFree", "ChargeboxNotFree"),
        (b'{"error": "notintransaction"}', "notintransaction"),
        (b'{"message": "E_42"}', "E_42"),
        (b"X", "X"),
        (b"a" * 64, "a" * 64),
        (b"a" * 65, None),
        (b"42E", None),
        (b"_E", None),
        (b"E-42", None),
        ("Ünwahr".encode(), None),
        (b'{"message": "First", "error": "Second"}', "First"),
        (b'{"reason": "Nope"}', None),
    ],
)
def test_an_unknown_word_is_the_code(body: bytes, code: str | None) -> None:
    error = parse_error(body)
    assert type(error) is RejectedError
    assert error.code == code


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b'{"message": "no such box"}', "", "no such box"),
        (b'{"error": {"message": "no such box"}}', "application/json", "no such box"),
        (b"no such box\n", "", "no such box"),
        (b'"no such box"', "", "no such box"),
        ('"Zoë\u00a0— №7"'.encode(), "", "Zoë\u00a0— №7"),
        (b"caf\xe9 closed", "", "caf\ufffd closed"),
        (b"a\nb\x1b[31m\x00\x7f", "", r"a\nb\x1b[31m\x00\x7f"),
        ('"a\u202eb\u2028c"'.encode(), "", r"a\u202eb\u2028c"),
        (b"9" * 5_000, "", "9" * 200),
        (None, "", "a body that did not arrive whole"),
        (None, "text/html", "a body that did not arrive whole"),
        (b"", "", "0 bytes without a code"),
        (b"<p>no</p>", "text/html", "9 bytes of text/html without a code"),
        (b"  <p>", "", "5 bytes without a code"),
        (b"{no}", "", "4 bytes without a code"),
        (b"[no]", "", "4 bytes without a code"),
        (b'"no', "", "3 bytes without a code"),
        (b'{"detail": "no"}', "", "16 bytes without a code"),
        (b"null", "", "4 bytes without a code"),
    ],
)
def test_the_message_has_the_text_of_the_answer(
    body: bytes | None, content_type: str, text: str
) -> None:
    assert str(parse_error(body, 404, content_type)) == f"Thor answered 404: {text}"


@pytest.mark.parametrize(("length", "kept"), [(199, 199), (200, 200), (201, 200), (60_000, 200)])
def test_text_from_thor_is_cut_at_200_characters(length: int, kept: int) -> None:
    assert str(parse_error(encode({"message": "é" * length}))) == "Thor answered 400: " + "é" * kept
    assert sanitize("é" * length) == "é" * kept
    assert sanitize("\n" * length) == r"\n" * 100


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_secret_in_another_encoding_is_not_shown_between_escapes(encoding: str) -> None:
    message = str(parse_error(f"no {KEY} of {TAG}".encode(encoding)))
    for secret in SECRETS:
        assert secret not in message.replace(r"\x00", "")


@pytest.mark.parametrize(
    "body",
    [
        f"{KEY}",
        f"no {KEY}, no {TAG}",
        f'{{"message": "no {KEY}"}}',
        f'{{"code": "{TAG}", "error": {{"message": "{KEY}"}}}}',
        f'{{"input": {{"id_tag": "{TAG}"}}, "header": "{KEY}"}}',
        f'"{TAG}"',
        " " * 190 + f"x{KEY}",
    ],
)
def test_a_secret_that_the_server_echoes_is_not_shown(body: str) -> None:
    for status in (400, 403, 429, 500):
        error = parse_error(body.encode(), status)
        for text in (shown(error), str(vars(error))):
            assert KEY not in text
            assert TAG not in text


@pytest.mark.parametrize("key", ["message", "code", "error"])
@pytest.mark.parametrize("echo", ["S3cret", "xS3crety"])
def test_a_secret_that_looks_like_a_code_is_none(key: str, echo: str) -> None:
    error = parse_stop_answer(Answer(403, encode({key: echo})), ("S3cret",), NOW)
    assert error is not None
    assert error.code is None
    assert str(error) == f"Thor answered 403: {echo.replace('S3cret', '***')}"


@pytest.mark.parametrize("tag", ["s", "Bu", "usy"])
def test_a_short_tag_costs_no_code_and_no_word(tag: str) -> None:
    error = parse_stop_answer(Answer(403, encode({"message": "ServerBusy"})), (tag,), NOW)
    assert error is not None
    assert (error.code, str(error)) == ("ServerBusy", "Thor answered 403: ServerBusy")


def test_a_known_code_stands_beside_an_echoed_secret() -> None:
    body = encode({"message": "S3cret", "code": "APIKeyNotFound"})
    error = parse_stop_answer(Answer(403, body), ("S3cret",), NOW)
    assert type(error) is APIKeyNotFound
    assert str(error) == "Thor answered 403: APIKeyNotFound"


@pytest.mark.parametrize(
    "content_type",
    [f"text/{KEY}", f"text/plain; tag={TAG}", "text/\x1b[31m\r\n", "text/\udce4", "x" * 8_000],
)
def test_a_content_type_is_text_from_the_server_too(content_type: str) -> None:
    message = str(parse_error(b"", 500, content_type))
    assert KEY not in message
    assert TAG not in message
    assert message.isprintable()
    assert len(message) <= 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("2", 2.0),
        ("61", 61.0),
        ("0002", 2.0),
        ("9" * 9, 999_999_999.0),
        ("9" * 10, None),
        ("9" * 400, None),
        ("0" * 10, None),
        ("", None),
        (" 2", None),
        ("2\n", None),
        ("-1", None),
        ("+1", None),
        ("1.5", 2.0),
        ("3.0", 3.0),
        ("0.0", 0.0),
        ("0.001", 1.0),
        ("2." + "0" * 400, 2.0),
        ("2." + "0" * 40 + "1", 3.0),
        ("9" * 9 + ".0", 999_999_999.0),
        ("0" * 10 + ".5", None),
        ("9" * 10 + ".5", None),
        ("-1.5", None),
        ("+1.5", None),
        ("1.", None),
        (".5", None),
        ("1.5.1", None),
        ("1,5", None),
        ("1.5 s", None),
        ("1.-5", None),
        ("1.5e3", None),
        ("1.\u0665", None),
        ("\u0661.5", None),
        ("\uff11.\uff15", None),
        ("1.5\n", None),
        ("1e3", None),
        ("1_000", None),
        ("0x10", None),
        ("nan", None),
        ("inf", None),
        ("\uff12", None),
        ("²", None),
        ("٣", None),
        ("2, 3", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 1.0),
        ("Sun, 06 Nov 1994 09:50:00 GMT", 3_623.0),
        ("Sun, 06 Nov 1994 09:49:38 +0100", 1.0),
        ("Mon, 07 Nov 1994 08:49:37 -0000", 86_400.0),
        ("Monday, 07-Nov-94 08:49:37 GMT", 86_400.0),
        ("Mon Nov  7 08:49:37 1994", 86_400.0),
        ("Tue, 08 Nov 1994 08:49:37 GMT", 2 * 86_400.0),
        ("Wed, 09 Nov 1994 08:49:37 GMT", 3 * 86_400.0),
        ("Thu, 10 Nov 1994 08:49:37 GMT", 4 * 86_400.0),
        ("Fri, 11 Nov 1994 08:49:37 GMT", 5 * 86_400.0),
        ("Sat, 12 Nov 1994 08:49:37 GMT", 6 * 86_400.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 252_618_189_022.0),
        ("Nov 1994", None),
        ("06 Nov 1994 08:49:38 GMT", None),
        ("06 Nov 1994 08:49:38 GMT (Sun)", None),
        ("Sun", None),
        ("Sun, ", None),
        ("Sun, 06 Nov", None),
        ("Sun, 99 Nov 1994 08:49:38 GMT", None),
        ("Sun, 06 Foo 1994 08:49:38 GMT", None),
        ("Sun, 06 Nov 1994 25:61:61 GMT", None),
        ("Sun, 06 Nov 99999999999 08:49:38 GMT", None),
        ("Sun, 06 Nov 1994 08:49:38 +99999999999", None),
        ("Sonntag, 6. November 1994", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_ignored(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no time zones here")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Lima"])
def test_a_date_without_a_zone_is_utc_in_any_local_zone(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", zone)
        time.tzset()
        assert parse_retry_after("Mon Nov  7 08:49:37 1994", NOW) == 86_400.0
        assert parse_retry_after("Mon, 07 Nov 1994 08:49:37 GMT", NOW) == 86_400.0
    time.tzset()


def test_no_retry_after_is_none() -> None:
    assert parse_retry_after(None, NOW) is None


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_the_error_has_the_retry_after(status: int) -> None:
    error = parse_stop_answer(Answer(status, b"", "", "Sun, 06 Nov 1994 08:49:40 GMT"), (), NOW)
    assert error is not None
    assert error.retry_after == 3.0


@properties
@given(seconds=st.integers(-(10**8), 10**8), fraction=st.floats(0, 1, exclude_max=True))
def test_a_date_gives_the_seconds_from_now(seconds: int, fraction: float) -> None:
    date = datetime(1994, 11, 6, 8, 49, 37) + timedelta(seconds=seconds)  # noqa: DTZ001
    found = parse_retry_after(date.strftime("%a, %d %b %Y %H:%M:%S GMT"), NOW + fraction)
    assert found == pytest.approx(max(0.0, seconds - fraction))


@properties
@given(st.text() | st.from_regex(r"(Mon|Sun|Sat)[, ][0-9A-Za-z:+., -]{0,40}", fullmatch=True))
def test_any_retry_after_is_seconds_or_nothing(value: str) -> None:
    found = parse_retry_after(value, NOW)
    assert found is None or 0 <= found < 10**12


def test_a_gateways_word_for_a_wrong_path_names_the_cure() -> None:
    error = parse_error(encode({"message": "Missing Authentication Token"}), 403)
    assert type(error) is AccountError
    assert "check base_url" in str(error)
