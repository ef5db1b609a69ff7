"""The recipes of tests, each in a pytest process of its own, as in a project of a user."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

RECIPES = Path(__file__).parent / "recipes"
NEEDED = {
    "test_with_sync_client.py": ["fastapi_app.py", "answers.py"],
    "test_with_aioresponses.py": ["answers.py"],
    "test_with_autospec.py": ["answers.py"],
}


def test_every_recipe_of_a_test_is_run_here() -> None:
    assert {path.name for path in RECIPES.glob("test_*.py")} == NEEDED.keys()


@pytest.mark.parametrize("name", NEEDED)
def test_a_recipe_of_a_test_passes_by_itself(pytester: pytest.Pytester, name: str) -> None:
    package = pytester.mkpydir("app_tests")
    for file in (name, *NEEDED[name]):
        shutil.copy(RECIPES / file, package)
    pytester.makepyprojecttoml(
        """
        [tool.pytest.ini_options]
        asyncio_default_fixture_loop_scope = "function"
        filterwarnings = ["error"]
        """
    )
    ran = pytester.runpytest_subprocess("-q", f"app_tests/{name}")
    tests = re.findall(r"def test_", (RECIPES / name).read_text())
    ran.assert_outcomes(passed=len(tests))
