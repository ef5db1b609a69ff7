"""A programming error in the poll: it is logged once, and raised to each waiter."""

from __future__ import annotations

import logging
import traceback

import pytest

from tests.conftest import TAG
from thor_async._confirm.programming_errors import log_programming_error


def make_error(text: str = TAG) -> Exception:
    try:
        int(text)
    except ValueError as error:
        return error
    raise AssertionError


def test_a_programming_error_is_logged_once_and_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_programming_error(make_error())
    [record] = [r for r in caplog.records if r.name == "thor_async"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("the poll of running charges raised ValueError")
    assert "in make_error" in record.getMessage()
    assert TAG not in record.getMessage()


def test_each_waiter_gets_the_same_exception_with_its_first_traceback() -> None:
    error = make_error()
    fault = log_programming_error(error)
    lengths = set()
    for _ in range(5):
        with pytest.raises(ValueError, match="invalid literal") as raised:
            fault.throw()
        assert raised.value is error
        lengths.add(len(traceback.extract_tb(error.__traceback__)))
    # It does not grow with each raise.
    assert len(lengths) == 1
