"""The pytest plugin for users, run by a pytest process of its own."""

from __future__ import annotations

import re

import pytest

from tests.documents import code

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["thor_async.testing"]\n'
NO_WAIT_TEST = """
import pytest
from thor_async import RetryPolicy, StopCharge, ThorClient
from thor_async.emulator import ScriptedAnswer

@pytest.mark.asyncio
async def test_waits_take_no_time(thor_emulator, no_wait_policy):
    assert no_wait_policy.max_attempts == RetryPolicy().max_attempts
    charge = thor_emulator.start_charge("box-1", 1)
    thor_emulator.script(ScriptedAnswer(503, headers={"Retry-After": "3600"}))
    command = StopCharge("box-1", 1, charge.id_tag)
    settings = {"retry": no_wait_policy, "timeout": 7200.0}
    async with ThorClient(
        thor_emulator.api_key, base_url=thor_emulator.base_url, **settings
    ) as thor:
        assert (await thor.stop_charge(command)).attempts == 2

@pytest.mark.asyncio
async def test_the_emulator_is_a_new_one(thor_emulator):
    assert not thor_emulator.ledger.requests
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_it_works_in_both_modes_of_pytest_asyncio(pytester: pytest.Pytester, mode: str) -> None:
    """Runs the example of the README unchanged."""
    example = code("test_a_sick_thor_is_asked_again")
    pytester.makeconftest(CONFTEST)
    pytester.makepyprojecttoml(
        f"""
        [tool.pytest.ini_options]
        asyncio_mode = "{mode}"
        asyncio_default_fixture_loop_scope = "function"
        filterwarnings = ["error"]
        """
    )
    pytester.makepyfile(test_example=example, test_no_wait=NO_WAIT_TEST)
    ran = pytester.runpytest_subprocess("-q", "--durations=0")
    ran.assert_outcomes(passed=len(re.findall(r"def test_", example)) + 2)


def test_the_fixtures_need_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(thor_emulator): ...")
    ran = pytester.runpytest_subprocess("-q")
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*fixture 'thor_emulator' not found*"])
