"""The subjects that a worker accepts."""

from __future__ import annotations

import pytest

from thor_async.worker.streams import Subjects, covers


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.*", "a.>", False),
        ("a.*.c", "a.b.c", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.>", True),
        (">", "a", True),
        ("a.b", "a.*", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, subject: str, expected: bool) -> None:
    assert covers(pattern, subject) is expected


@pytest.mark.parametrize("commands", ["thor.stop.>", ">", "thor.stop.*", "thor.stop.dead"])
def test_a_worker_must_not_receive_its_own_messages(commands: str) -> None:
    with pytest.raises(ValueError, match="would receive its own messages"):
        Subjects(commands=commands)


def test_each_subject_has_a_consumer_of_its_own() -> None:
    assert Subjects().durable == "worker-thor-stop"
    assert Subjects(commands="stop.eu.*").durable == "worker-stop-eu-any"
    assert Subjects(commands="stop.us.>").durable == "worker-stop-us-all"
