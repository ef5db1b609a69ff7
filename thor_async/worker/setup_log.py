"""Logs what does not fit in the stream and the consumer of a worker, once for each finding."""

from __future__ import annotations

import logging

from .stream_checks import Finding, check_consumer, check_stream
from .streams import StreamSetup, Subjects

LOG = logging.getLogger("thor_async.worker")


class SetupLog:
    """Compares what is found with what was found before, and logs only what is new.

    `max_age` and `max_in_flight` are those of the worker.
    """

    def __init__(self, subjects: Subjects, *, max_age: float, max_in_flight: int) -> None:
        self._subjects = subjects
        self._max_age = max_age
        self._max_in_flight = max_in_flight
        self._known: list[Finding] = []

    def check(self, setup: StreamSetup) -> None:
        findings = check_stream(setup.stream, self._subjects, max_age=self._max_age)
        findings += check_consumer(
            setup.consumer, self._subjects, max_in_flight=self._max_in_flight
        )
        for finding in findings:
            if finding not in self._known:
                level = logging.ERROR if finding.severity == "error" else logging.WARNING
                LOG.log(level, "%s: %s; %s", finding.setting, finding.problem, finding.cure)
        self._known = findings
