"""Imports point one way only, and nothing in the core keeps state or time on the side."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import thor_async

PACKAGE = Path(thor_async.__file__).parent
AROUND = {"cli", "emulator", "worker"}
IO = {"asyncio", "http", "logging", "os", "pathlib", "select", "socket", "ssl", "threading", "time"}

ARROWS = {
    "errors": {"models"},
    "models": {"errors", "msgspec"},
    "protocol": {"errors", "models", "msgspec"},
    "lists": {"errors", "models", "msgspec", "protocol"},
    "notifications": {"models", "msgspec"},
    "watch": {"errors", "lists", "models", "msgspec", "notifications"},
    "lookout": {"errors", "lists", "notifications", "watch"},
    "inputs": {"models", "settings"},
    "call": {
        "errors",
        "inputs",
        "lane",
        "models",
        "msgspec",
        "protocol",
        "retry",
        "teller",
        "transport",
    },
    "confirm": {
        "call",
        "errors",
        "inputs",
        "lane",
        "lists",
        "lookout",
        "models",
        "msgspec",
        "watch",
    },
    "retry": {"errors", "msgspec", "tenacity"},
    "events": {"errors", "models", "msgspec"},
    "log": {"events"},
    "teller": {"errors", "events", "log", "models", "msgspec"},
    "permits": set(),
    "outage": {"events", "permits"},
    "deadlines": set(),
    "lane": {"deadlines", "errors", "events", "outage", "permits"},
    "fanout": {"errors", "lane", "outage", "permits"},
    "settings": set(),
    "connections": {"aiohttp"},
    "transport": {"aiohttp", "connections", "errors", "protocol"},
    "otel": {"events", "opentelemetry"},
    "testing": {"emulator", "pytest", "pytest_asyncio", "retry"},
}
"""What each of these modules may import, of this package and of others."""


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(node: ast.AST) -> Iterator[str]:
    """Top names of what it imports anywhere inside; those of this package begin with a dot."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            start = "thor_async." if child.level else ""
            module = f"{start}{child.module or ''}"
            is_package = module in ("thor_async", "thor_async.")
            names = [f"thor_async.{a.name}" for a in child.names] if is_package else [module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield f".{parts[1]}" if parts[0] == "thor_async" and parts[1:] else parts[0]


def module_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


ALL = {path: tree(path) for path in sorted(PACKAGE.rglob("*.py"))}
CORE = {path.stem: node for path, node in ALL.items() if module_name(path) not in AROUND}


def test_the_walker_sees_every_way_to_import() -> None:
    source = """
import a.b, thor_async.c
from d.e import f
from .g import h
from . import i, j
from thor_async import k
from thor_async.l import m
import thor_async
if TYPE_CHECKING:
    from .n import o
def function():
    import p
"""
    expected = {"a", ".c", "d", ".g", ".i", ".j", ".k", ".l", "thor_async", ".n", "p"}
    assert set(imports(ast.parse(source))) == expected
    assert CORE.keys() >= ARROWS.keys() | {"call", "client"}


@pytest.mark.parametrize("name", sorted(ARROWS))
def test_a_module_imports_only_what_is_below_it(name: str) -> None:
    taken = {top.removeprefix(".") for top in imports(CORE[name])} - sys.stdlib_module_names
    assert taken - {"__future__"} <= ARROWS[name]


@pytest.mark.parametrize(
    "name", ["errors", "events", "models", "protocol", "lists", "notifications", "watch"]
)
def test_leaves_and_protocol_do_no_io(name: str) -> None:
    assert not IO & set(imports(CORE[name]))


def test_errors_know_models_only_as_a_type() -> None:
    checked = [
        node
        for node in CORE["errors"].body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    everywhere = [name for name in imports(CORE["errors"]) if name == ".models"]
    assert everywhere == [name for node in checked for name in imports(node)] == [".models"]


@pytest.mark.parametrize(
    ("third", "users"),
    [
        ("tenacity", {"retry"}),
        ("aiohttp", {"client", "connections", "transport"}),
        (".cli", set()),
        ("opentelemetry", {"otel"}),
        ("pytest", {"testing"}),
        (".emulator", {"testing"}),
        (".otel", set()),
        (".testing", set()),
        (".worker", set()),
    ],
)
def test_in_the_core_only_these_import_it(third: str, users: set[str]) -> None:
    assert {name for name, node in CORE.items() if third in set(imports(node))} <= users


def test_nobody_imports_the_command_line() -> None:
    outside = [node for path, node in ALL.items() if module_name(path) != "cli"]
    assert all(".cli" not in set(imports(node)) for node in outside)


@pytest.mark.parametrize("name", sorted(CORE))
def test_every_duration_is_measured_by_the_loop(name: str) -> None:
    used = {node.attr for node in ast.walk(CORE[name]) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(CORE[name]) if isinstance(node, ast.Name)}
    assert not used & {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}


@pytest.mark.parametrize("name", sorted(CORE))
def test_no_module_keeps_state(name: str) -> None:
    """A container at module level is a constant, and nothing changes a constant."""
    for node in ast.walk(CORE[name]):
        assert not isinstance(node, ast.Global)
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=method)):
                changers = {"append", "add", "clear", "pop", "remove", "setdefault", "update"}
                assert not (owner.isupper() and method in changers)
            case ast.Subscript(value=ast.Name(id=owner), ctx=ast.Store() | ast.Del()):
                assert not owner.isupper()
    for node in CORE[name].body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(
            node.value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp
        ):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            assert ast.unparse(target).isupper() or ast.unparse(target) == "__all__"


@pytest.mark.parametrize("name", sorted(CORE))
def test_nothing_is_left_to_a_finalizer(name: str) -> None:
    defined = {n.name for n in ast.walk(CORE[name]) if isinstance(n, ast.FunctionDef)}
    assert "__del__" not in defined


@pytest.mark.parametrize("name", sorted(CORE))
def test_nobody_reaches_into_anothers_private_parts(name: str) -> None:
    for node in ast.walk(CORE[name]):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert is_own or node.attr.endswith("__"), ast.unparse(node)
