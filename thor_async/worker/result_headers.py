"""The headers of the outcome or the dead letter of a message. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from .._confirm.tracker import Confirmation
from .._models import StopOutcome
from .deliveries import Delivery
from .producer_headers import escape_header, find_producer_headers
from .settlement import Settlement

_MAX_CHARACTERS = 512


class _Referenced(msgspec.Struct):
    ref: Any = None
    chargebox: Any = None


def make_outcome_headers(delivery: Delivery) -> dict[str, str]:
    """Returns the producer's own headers."""
    return find_producer_headers(delivery.message.headers)


def make_dead_letter_headers(
    delivery: Delivery, settlement: Settlement, result: StopOutcome | Confirmation | None
) -> dict[str, str]:
    """Returns the producer's own headers, and why and how the command could not end.

    `Thor-Code` and `Thor-Verdict` are of the outcome, and missing without one or without a code;
    `Thor-Ref` is missing without a ref, and `Thor-Created` is when the command was first stored.
    """
    outcome = result.outcome if isinstance(result, Confirmation) else result
    error = None if outcome is None else outcome.error
    own = {
        "Thor-Reason": settlement.reason or "",
        # An earlier delivery may have sent the stop and crashed before it was settled.
        "Thor-Maybe-Applied": str(settlement.maybe_applied or delivery.count > 1).lower(),
        "Thor-Deliveries": str(delivery.count),
        "Thor-Sequence": str(delivery.sequence),
        "Thor-Created": delivery.created.isoformat(),
        "Thor-Code": getattr(error, "code", None),
        "Thor-Verdict": None if outcome is None else outcome.verdict.value,
        "Thor-Ref": _format_ref(_find_references(delivery.message.data).ref),
    }
    written = {
        name: escape_header(text)[:_MAX_CHARACTERS]
        for name, text in own.items()
        if text is not None
    }
    return find_producer_headers(delivery.message.headers) | written


def find_log_fields(delivery: Delivery, headers: dict[str, str]) -> dict[str, object]:
    """Returns the fields of a log line about a dead letter."""
    chargebox = _find_references(delivery.message.data).chargebox
    return {
        "sequence": delivery.sequence,
        "chargebox": chargebox if isinstance(chargebox, str) else None,
        "verdict": headers.get("Thor-Verdict"),
        "code": headers.get("Thor-Code"),
        "ref": headers.get("Thor-Ref"),
        "maybe_applied": headers["Thor-Maybe-Applied"] == "true",
    }


def _find_references(body: bytes) -> _Referenced:
    """Reads these fields also of a body that is no valid command."""
    try:
        return msgspec.json.decode(body, type=_Referenced)
    except (ValueError, RecursionError):
        return _Referenced()


def _format_ref(ref: Any) -> str | None:
    if ref is None or isinstance(ref, str):
        return ref
    return msgspec.json.encode(ref).decode()
