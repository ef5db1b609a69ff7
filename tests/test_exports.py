"""The public names of `thor_async`, and the signatures of its client."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import get_args

import pytest

import thor_async
from tests.test_errors import CLASSES
from thor_async import RetryPolicy, StopOutcome, ThorClient

CONTRACT = {
    "BatchGaveUp",
    "Chargebox",
    "Commands",
    "Confirmation",
    "ConfirmationRecord",
    "ConfirmationStream",
    "Coordinates",
    "NextStep",
    "NotSentReason",
    "OnEvent",
    "OutcomeRecord",
    "OutcomeStream",
    "RetryPolicy",
    "RunningCharge",
    "StartNotification",
    "State",
    "StopCharge",
    "StopNotification",
    "StopOutcome",
    "StopStream",
    "ThorClient",
    "ThorError",
    "Verdict",
    *(error_class.__name__ for error_class in CLASSES),
}


def test_all_is_sorted() -> None:
    assert thor_async.__all__ == sorted(set(thor_async.__all__))


def test_all_has_what_the_contract_names() -> None:
    assert set(thor_async.__all__) >= CONTRACT


def test_all_has_every_event() -> None:
    events = {event_class.__name__ for event_class in get_args(thor_async.Event)}
    assert "PaceLowered" in events
    assert set(thor_async.__all__) >= events


@pytest.mark.parametrize("name", thor_async.__all__)
def test_each_name_is_a_public_and_documented_one(name: str) -> None:
    assert not name.startswith("_")
    value = getattr(thor_async, name)
    assert value.__doc__ or not isinstance(value, type)  # an alias cannot have one


def test_nothing_public_is_left_out_of_all() -> None:
    offered = {
        name
        for name in dir(thor_async)
        if not name.startswith("_") and not inspect.ismodule(getattr(thor_async, name))
    }
    assert offered == set(thor_async.__all__)


def test_a_client_is_built_with_these_defaults() -> None:
    parameters = inspect.signature(ThorClient).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    expected = {
        "api_key": None,
        "base_url": None,
        "read_url": None,
        "retry": RetryPolicy(),
        "timeout": 30.0,
        "attempt_timeout": 10.0,
        "max_in_flight": 32,
        "max_rate": None,
        "session": None,
        "ssl": None,
        "proxy": None,
        "allow_http": False,
        "on_event": None,
    }
    assert {name: defaults[name] for name in expected} == expected
    positional = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    assert positional == ["api_key"]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (ThorClient.stop_charge, {"timeout": None, "pin": False}),
        (ThorClient.stop_many, {"within": None, "give_up_after": 60.0, "pin": False}),
        (ThorClient.stop_stream, {"within": None, "give_up_after": 60.0, "pin": False}),
        (ThorClient.stop_and_confirm, {"within": 60.0, "pin": False}),
        (
            ThorClient.stop_and_confirm_stream,
            {"within": 60.0, "give_up_after": 60.0, "pin": False},
        ),
        (ThorClient.running_charges, {}),
        (ThorClient.chargeboxes, {}),
        (ThorClient.notify, {}),
    ],
)
def test_the_calls_take_these_options(method: object, options: dict[str, object]) -> None:
    parameters = inspect.signature(method).parameters.values()  # type: ignore[arg-type]
    assert {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} == options


def test_an_outcome_has_these_fields() -> None:
    assert StopOutcome.__struct_fields__ == (
        "command",
        "index",
        "verdict",
        "error",
        "attempts",
        "elapsed",
        "maybe_applied",
        "request_id",
        "at",
    )


def test_a_name_is_the_same_however_it_is_got() -> None:
    for name in thor_async.__all__:
        assert getattr(thor_async, name) is getattr(thor_async, name)
    with pytest.raises(AttributeError, match="has no attribute 'StopCharges'"):
        thor_async.StopCharges  # type: ignore[attr-defined]  # noqa: B018


def test_help_and_import_take_no_aiohttp() -> None:
    code = (
        "import sys, thor_async.__main__\n"
        "sys.argv = ['thor-async', '--help']\n"
        "thor_async.__main__.main()\n"
        "assert 'aiohttp' not in sys.modules\n"
        "from thor_async import *\n"
        "assert ThorClient\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "stop-many" in done.stdout
