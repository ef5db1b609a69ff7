"""A request and an answer as values."""

from __future__ import annotations

from rich.pretty import pretty_repr

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
    assert TAG not in pretty_repr(request)
    assert TAG in (request.body or b"").decode()
    assert repr([request.body]) == "['***']"


def test_an_answer_shows_no_text_of_the_server_which_may_echo_a_secret() -> None:
    answer = Answer(400, TAG.encode(), f"text/{TAG}", TAG)
    for shown in (repr(answer), str(answer), pretty_repr(answer)):
        assert TAG not in shown
        assert "400" in shown


def test_an_answer_without_a_body_did_not_arrive_whole() -> None:
    assert Answer(200) == Answer(200, None, "", None)
