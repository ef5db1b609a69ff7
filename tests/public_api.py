"""The public API as lines of text: one for each name, base, field, method and parameter.

`python -m tests.public_api > tests/releases/VERSION.txt` keeps those of a release.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any, get_args

import msgspec

import thor_async

MODULES = (
    "thor_async",
    "thor_async.emulator",
    "thor_async.otel",
    "thor_async.testing",
    "thor_async.worker",
)

MADE_HERE = {
    *get_args(thor_async.Event),
    thor_async.ConfirmationRecord,
    thor_async.OutcomeRecord,
    thor_async.OutcomeStream,
}
"""Classes that only the library builds: another field breaks nobody's code."""


def describe() -> list[str]:
    """Returns the lines, sorted. A caller's code breaks when one of them changes or goes."""
    return sorted({line for module in MODULES for line in _of_module(module)})


def added_parameters(before: set[str], after: set[str]) -> list[str]:
    """Returns parameters without a default that a known function or class has got."""
    known = {line.partition("(")[0] for line in before}
    return [
        line
        for line in sorted(after - before)
        if line.endswith(" required)") and line.partition("(")[0] in known
    ]


def _of_module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", None) or _defined_in(module):
        value, path = getattr(module, public), f"{name}.{public}"
        yield path
        if inspect.isclass(value):
            yield from _of_class(path, value)
        elif inspect.isfunction(value):
            yield from _of_function(path, value)


def _defined_in(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_" and getattr(value, "__module__", None) == module.__name__
    ]


def _of_class(path: str, cls: type) -> Iterator[str]:
    ours = [base for base in cls.__mro__[1:] if base.__module__.startswith("thor_async")]
    yield from (f"{path} is a {base.__name__}" for base in ours if base.__name__[0] != "_")
    if issubclass(cls, msgspec.Struct):
        for field in msgspec.structs.fields(cls):
            yield f"{path}.{field.name}"
    for name, member in inspect.getmembers(cls):
        is_ours = any(name in vars(base) for base in (cls, *ours))
        if name.startswith("_") or not is_ours:
            continue
        yield f"{path}.{name}"
        if inspect.isfunction(member) or inspect.ismethod(member):
            yield from _of_function(f"{path}.{name}", member)
    if cls not in MADE_HERE and ("__init__" in vars(cls) or issubclass(cls, msgspec.Struct)):
        yield from _of_function(path, cls)


def _of_function(path: str, function: Any) -> Iterator[str]:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self" or parameter.name.startswith("_"):
            continue
        is_required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        kind = "by name" if parameter.kind is parameter.KEYWORD_ONLY else "by position"
        yield f"{path}({parameter.name} {kind}{' required' if is_required else ''})"


if __name__ == "__main__":
    print(*describe(), sep="\n")
