"""The documents of this project: their examples, and how a test runs one."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import thor_async

ROOT = Path(__file__).parent.parent
PACKAGE = Path(thor_async.__file__).parent
_NAMES = (
    "README.md",
    "CHANGELOG.md",
    ".github/SECURITY.md",
    "benchmarks/README.md",
    "tests/README.md",
    "tests/recipes/README.md",
    "thor_async/README.md",
    "thor_async/cli/README.md",
    "thor_async/emulator/README.md",
    "thor_async/worker/README.md",
)


def locate(name: str) -> Path:
    """Returns the path of a file of the project; the package may be an installed one."""
    top, _, rest = name.partition("/")
    return PACKAGE / rest if top == PACKAGE.name else ROOT / name


DOCUMENTS = {name: path.read_text() for name in _NAMES if (path := locate(name)).exists()}
README = DOCUMENTS["README.md"]


def blocks(language: str) -> list[str]:
    """Returns the examples of all documents in a language."""
    pattern = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [block for text in DOCUMENTS.values() for block in pattern.findall(text)]


def code(part: str) -> str:
    """Returns the one example that contains this text."""
    (found,) = (block for block in blocks("python") if part in block)
    return found


async def perform(part: str, **names: Any) -> dict[str, Any]:
    """Runs an example that awaits at its top; returns all its names."""
    compiled = compile(code(part), "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if inspect.isawaitable(ran := eval(compiled, names)):
        await ran
    return names
