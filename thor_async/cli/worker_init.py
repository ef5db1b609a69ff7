"""`thor-async worker --init`: creates stream and consumer, and ends."""

from __future__ import annotations

import argparse
import asyncio

from thor_async.worker.provisioning import provision

from .nats_connection import find_subjects, open_jetstream, reporting_errors


def run_init(args: argparse.Namespace) -> int:
    """Prints what was created, and what does not fit; returns 1 if a worker could lose commands."""
    return asyncio.run(_init(args))


async def _init(args: argparse.Namespace) -> int:
    subjects = find_subjects(args)
    async with open_jetstream(args) as jetstream:
        with reporting_errors(subjects):
            created, findings = await provision(
                jetstream,
                subjects,
                replicas=args.replicas,
                kept_for=args.stream_max_age,
                max_age=args.max_age,
                max_in_flight=args.max_in_flight,
            )
    for name in created:
        print(f"created the {name}")
    for finding in findings:
        print(finding)
    if not created and not findings:
        print(f"stream {subjects.stream!r} and consumer {subjects.durable!r} fit")
    return int(any(finding.severity == "error" for finding in findings))
