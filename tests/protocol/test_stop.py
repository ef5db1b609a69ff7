"""Bytes of a stop, and what an answer to it means, without a socket."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import KEY, TAG, shown
from tests.protocol.answers import NOW, SECRETS, encode, parse
from thor_async import (
    ServerError,
    StopCharge,
    UnexpectedResponse,
    Verdict,
)
from thor_async._errors import CODES
from thor_async._protocol.http_messages import ANSWER_LIMIT, Answer, Request
from thor_async._protocol.stop import build_stop_request, parse_stop_answer

properties = settings(deadline=None, derandomize=True, max_examples=500)


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (StopCharge("A", 2, "T"), b'{"chargebox":"A","connector":2,"id_tag":"T"}'),
        (
            StopCharge("A", 2, "T", 52),
            b'{"chargebox":"A","connector":2,"id_tag":"T","transaction":52}',
        ),
        (
            StopCharge("Zoë", 1, 'a"b', ref={"a": 1}, not_after=datetime.now().astimezone()),
            '{"chargebox":"Zoë","connector":1,"id_tag":"a\\"b"}'.encode(),
        ),
    ],
)
def test_a_stop_has_the_wires_fields_and_none_of_ours(command: StopCharge, body: bytes) -> None:
    request = build_stop_request("http://thor/api", command)
    assert request == Request("POST", "http://thor/api/charges/stop", body, ANSWER_LIMIT)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ""),
        (b"{}", "application/json"),
        (b"OK", "text/plain"),
        (b'"OK"', ""),
        (b"null", ""),
        (b"[]", ""),
        (b'{"message": "NotInTransaction"}', "application/json; charset=utf-8"),
        (b"\xff\xfe\x00\x80", "application/octet-stream"),
        (b"a < b", ""),
        (b"XX<p>", ""),
        (b'{"html": "<p>"}', ""),
        (b"[" * 100_000, ""),
        (b" \r\n", ""),
        (b"{}", "text/html"),
        (b"OK", "text/html; charset=utf-8"),
        (b"", "Text/HTML; charset=utf-8"),
        (b"OK", "application/XHTML+xml"),
    ],
)
def test_a_200_is_a_relay_whatever_it_says(body: bytes, content_type: str) -> None:
    assert parse(200, body, content_type) is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>", ""),
        (b"<", "application/json"),
        (b" \t\r\n\v\f<!DOCTYPE html>", ""),
        (b"\xef\xbb\xbf\n<p>", ""),
        ("<p>".encode("utf-16"), ""),
        (b"\xfe\xff" + "<p>".encode("utf-16-be"), ""),
        ("<p>".encode("utf-16-be"), ""),
        (b"<", "text/html"),
        (b" <", "text/plain"),
    ],
)
def test_a_200_with_a_page_is_a_portal(body: bytes, content_type: str) -> None:
    error = parse(200, body, content_type)
    assert type(error) is UnexpectedResponse
    assert str(error) == "a 200 with an HTML page: a portal, not Thor"
    assert (error.status, error.code) == (200, None)


@pytest.mark.parametrize("content_type", ["", "application/json", "text/html"])
def test_a_200_that_was_cut_short_is_unexpected(content_type: str) -> None:
    error = parse(200, None, content_type)
    assert type(error) is UnexpectedResponse
    assert (str(error), error.status) == ("a 200 whose body did not arrive whole", 200)


WORDS = st.sampled_from([*CODES, "message", "code", "error", KEY, TAG, "Nope", "a sentence \x00"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS | st.text(), inner),
    max_leaves=8,
)
ENCODABLE = VALUES.filter(lambda value: "\\ud" not in repr(value))
BODIES = st.none() | st.binary() | ENCODABLE.map(encode) | WORDS.map(str.encode)


@properties
@given(
    status=st.integers(0, 999) | st.sampled_from([200, 400, 404, 429, 500, 503]),
    body=BODIES,
    content_type=st.sampled_from(["", "application/json", "text/html"]),
    retry_after=st.none() | st.text() | st.sampled_from(["2", "Sun, 06 Nov 1994 08:49:38 GMT"]),
)
def test_any_answer_is_a_relay_or_a_thor_error_of_its_statuss_verdict(
    status: int, body: bytes | None, content_type: str, retry_after: str | None
) -> None:
    error = parse_stop_answer(Answer(status, body, content_type, retry_after), SECRETS, NOW)
    if error is None:
        assert status == 200
        assert body is not None
        return
    rejected = 400 <= status <= 499 and status != 408
    assert error.verdict is (Verdict.REJECTED if rejected else Verdict.INDETERMINATE)
    assert isinstance(error, ServerError) is (500 <= status <= 599)
    assert error.status == status
    assert all(c.isprintable() or c.isspace() for c in str(error))
    assert len(str(error)) <= 250
    for secret in SECRETS:
        assert secret not in shown(error) + str(error.code)
