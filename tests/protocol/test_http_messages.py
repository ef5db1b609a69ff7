"""A request and an answer as values."""

from __future__ import annotations

from tests.conftest import TAG
from thor_async import (
    StopCharge,
)
from thor_async._protocol.http_messages import ANSWER_LIMIT, Answer
from thor_async._protocol.stop import build_stop_request


def test_answers_are_read_to_64_kib() -> None:
    assert ANSWER_LIMIT == 64 * 1024


def test_a_request_shows_nothing_of_its_body() -> None:
    request = build_stop_request("http://thor/api", StopCharge("box", 1, TAG))
    assert repr(request) == str(request) == f"Request(POST {request.url})"


def test_an_answer_without_a_body_did_not_arrive_whole() -> None:
    assert Answer(200) == Answer(200, None, "", None)
