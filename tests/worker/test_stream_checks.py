"""What does not fit in a stream or consumer is named with its cure."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from thor_async.worker.stream_checks import Finding, check_consumer, check_stream
from thor_async.worker.streams import Subjects

SUBJECTS = Subjects()
STREAM = StreamConfig(
    name="THOR",
    subjects=SUBJECTS.all,
    retention=RetentionPolicy.LIMITS,
    storage=StorageType.FILE,
    max_age=7 * 86_400.0,
    max_msgs=-1,
    max_bytes=-1,
    num_replicas=1,
    duplicate_window=600.0,
)
CONSUMER = ConsumerConfig(
    durable_name=SUBJECTS.durable,
    filter_subject=SUBJECTS.commands,
    ack_policy=AckPolicy.EXPLICIT,
    ack_wait=30.0,
    max_deliver=-1,
    max_ack_pending=10_000,
)


def stream(**changes: Any) -> list[Finding]:
    return check_stream(dataclasses.replace(STREAM, **changes), SUBJECTS)


def consumer(**changes: Any) -> list[Finding]:
    return check_consumer(dataclasses.replace(CONSUMER, **changes), SUBJECTS)


def test_what_a_worker_creates_has_no_findings() -> None:
    assert stream() == []
    assert consumer() == []


@pytest.mark.parametrize(
    ("changes", "severity", "setting", "cure"),
    [
        ({"subjects": ["thor.stop", "thor.stop.dead"]}, "error", "subjects", "add it"),
        ({"subjects": None}, "error", "subjects", "add it"),
        ({"retention": RetentionPolicy.INTEREST}, "error", "retention", "limits"),
        ({"retention": "interest"}, "error", "retention", "limits"),
        ({"duplicate_window": 60.0}, "warning", "duplicate_window", "600 s"),
        ({"retention": "workqueue", "duplicate_window": 120.0}, "error", "duplicate_window", "600"),
        ({"no_ack": True}, "error", "no_ack", "false"),
        ({"max_age": 300.0}, "error", "max_age", "600 s"),
        ({"max_msgs": 1000}, "error", "discard", "set it to new"),
        ({"max_bytes": 1000}, "error", "discard", "set it to new"),
        ({"max_msgs_per_subject": 1000}, "error", "discard", "set it to new"),
        ({"storage": StorageType.MEMORY}, "warning", "storage", "storage file"),
    ],
)
def test_each_setting_of_a_stream(
    changes: dict[str, Any], severity: str, setting: str, cure: str
) -> None:
    findings = stream(**changes)
    assert {(f.severity, f.setting) for f in findings} == {(severity, setting)}
    assert all(cure in finding.cure for finding in findings)


@pytest.mark.parametrize(
    "changes",
    [
        {"subjects": ["thor.>"]},
        {"subjects": ["thor.stop", "thor.stop.*"]},
        {"max_age": 0.0},
        {"max_msgs": 1000, "discard": DiscardPolicy.NEW},
        {"retention": "workqueue"},
        {"duplicate_window": 120.0},
    ],
)
def test_streams_that_fit(changes: dict[str, Any]) -> None:
    assert stream(**changes) == []


def test_what_was_asked_for_and_is_not_so() -> None:
    findings = check_stream(STREAM, SUBJECTS, replicas=3, kept_for=3600.0)
    assert [str(finding) for finding in findings] == [
        "warning: num_replicas: 1, not 3; set it to 3",
        "warning: max_age: 604800 s, not 3600 s; set it to 3600 s",
    ]
    assert check_stream(STREAM, SUBJECTS, replicas=1, kept_for=7 * 86_400.0) == []


@pytest.mark.parametrize(
    ("changes", "severity", "setting", "cure"),
    [
        ({"deliver_subject": "inbox"}, "error", "deliver_subject", "delete the consumer"),
        ({"ack_policy": AckPolicy.NONE}, "error", "ack_policy", "delete the consumer"),
        ({"ack_policy": "all"}, "error", "ack_policy", "delete the consumer"),
        ({"headers_only": True}, "error", "headers_only", "set it to false"),
        ({"pause_until": "2100-01-01T00:00:00Z"}, "warning", "pause_until", "resume"),
        ({"filter_subject": None}, "error", "filter_subject", "'thor.stop'"),
        ({"filter_subject": ""}, "error", "filter_subject", "'thor.stop'"),
        ({"filter_subject": "thor.stop.eu"}, "error", "filter_subject", "'thor.stop'"),
        ({"filter_subject": ">"}, "error", "filter_subject", "'thor.stop'"),
        ({"filter_subject": "thor.stop.dead"}, "error", "filter_subject", "'thor.stop'"),
        ({"max_deliver": 5}, "error", "max_deliver", "set it to -1"),
        ({"backoff": [1.0, 5.0]}, "error", "backoff", "remove it"),
        ({"ack_wait": 1.0}, "warning", "ack_wait", "30 s"),
        ({"max_ack_pending": 1}, "warning", "max_ack_pending", "10000"),
    ],
)
def test_each_setting_of_a_consumer(
    changes: dict[str, Any], severity: str, setting: str, cure: str
) -> None:
    findings = consumer(**changes)
    assert {(f.severity, f.setting) for f in findings} == {(severity, setting)}
    assert all(cure in finding.cure for finding in findings)


@pytest.mark.parametrize(
    "changes",
    [
        {"filter_subject": None, "filter_subjects": ["thor.stop"]},
        {"max_ack_pending": -1},
        {"max_ack_pending": 32},
        {"max_deliver": None},
        {"ack_wait": None},
    ],
)
def test_consumers_that_fit(changes: dict[str, Any]) -> None:
    assert consumer(**changes) == []
