"""Imports point one way only, and no module keeps state or measures time on the side."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import thor_async

PACKAGE = Path(thor_async.__file__).parent
AROUND = {"__main__", "cli", "emulator", "worker"}
"""Packages around the core."""

IO = {"asyncio", "http", "logging", "os", "pathlib", "select", "socket", "ssl", "threading", "time"}

LEAVES = {"_errors", "_models", "msgspec"}
ARROWS = {
    "_errors": {"_models"},
    "_models": {"_errors", "msgspec"},
    "_events": LEAVES,
    "_retry": {"_errors", "msgspec", "tenacity"},
    "_telemetry": LEAVES | {"_events", "_telemetry"},
    "_protocol": LEAVES | {"_protocol"},
    "_config": {"_models", "_retry", "_telemetry", "msgspec"},
    "_transport": {"_errors", "_models", "_protocol", "_transport", "aiohttp"},
    "_dispatch": {"_dispatch", "_errors", "_events", "_transport.deadlines"},
    "_stop": LEAVES | {"_config", "_dispatch", "_protocol", "_retry", "_telemetry", "_transport"},
    "_list_reader": {"_dispatch", "_errors", "_protocol", "_stop"},
    "_input_reader": set(),
    "_command_puller": {"_dispatch", "_input_reader"},
    "_stream": {"_command_puller", "_dispatch", "_errors"},
    "_confirm": LEAVES | {"_config", "_confirm", "_dispatch", "_protocol", "_stop", "_telemetry"},
    "_runtime": {"_config", "_confirm", "_dispatch", "_list_reader", "_retry", "_stop"}
    | {"_transport"},
    "_batch_input": {"_config", "_dispatch", "_errors", "_input_reader", "_models", "msgspec"},
    "_calls": {"_batch_input", "_config", "_confirm", "_dispatch", "_errors", "_models"}
    | {"_runtime", "_stream"},
    "_client": {"_calls", "_config", "_confirm", "_errors", "_models", "_protocol", "_retry"}
    | {"_runtime", "_telemetry", "_transport", "aiohttp", "msgspec"},
    "otel": {"_events", "opentelemetry"},
    "testing": {"_retry", "emulator", "pytest", "pytest_asyncio"},
    "emulator": LEAVES | {"_config", "_protocol", "aiohttp", "emulator"},
    "worker": LEAVES
    | {"_calls", "_client", "_config", "_confirm", "_dispatch.breaker", "_events"}
    | {"_protocol.sanitize", "_telemetry.logging"}
    | {"aiohttp", "faststream", "nats", "opentelemetry", "prometheus_client", "worker"},
}
"""What each of these modules and packages may import, of this package and of others.

A package name allows all modules in it.
"""


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    """Returns the dotted name below `thor_async`; that of a package is the name of its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(node: ast.AST, package: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields what a module in `package` imports: dotted names of `thor_async`, top names of others.

    Names of this package begin with a dot.
    """
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            module = child.module or ""
            if child.level:
                above = ("thor_async", *package)[: len(package) + 2 - child.level]
                module = ".".join((*above, module)).removesuffix(".")
            folder = PACKAGE.joinpath(*module.split(".")[1:])
            is_package = module.split(".")[0] == "thor_async" and folder.is_dir()
            names = [f"{module}.{a.name}" for a in child.names] if is_package else [module]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            yield f".{rest}" if top == "thor_async" and rest else top


def is_below(name: str, allowed: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in allowed)


ALL = {path: parse(path) for path in sorted(PACKAGE.rglob("*.py"))}
TAKEN = {
    path: set(imports(node, path.parent.relative_to(PACKAGE).parts)) for path, node in ALL.items()
}
CORE = {
    module_name(path): node
    for path, node in ALL.items()
    if module_name(path).split(".")[0] not in AROUND
}
CORE_TAKEN = {
    module_name(path): taken for path, taken in TAKEN.items() if module_name(path) in CORE
}


def test_the_walker_sees_every_way_to_import() -> None:
    source = """
import a.b, thor_async.c
from d.e import f
from ..g import h
from .. import i, j
from thor_async import k
from thor_async.l import m
from . import q
from .r import s
import thor_async
if TYPE_CHECKING:
    from ..n import o
def function():
    import p
"""
    expected = {"a", ".c", "d", ".g", ".i", ".j", ".k", ".l", "thor_async", ".n", "p"}
    expected |= {"._dispatch.q", "._dispatch.r"}
    assert set(imports(ast.parse(source), ("_dispatch",))) == expected
    assert CORE.keys() >= {"_client", "_stop", "_dispatch.dispatcher", "_transport.http"}


def test_every_module_has_its_arrows() -> None:
    tops = {module_name(path).split(".")[0] for path in ALL} - {""}
    assert tops - ARROWS.keys() == {"__main__", "cli"}  # it uses what users use, see below


@pytest.mark.parametrize("path", sorted(ALL), ids=module_name)
def test_a_module_imports_only_what_is_below_it(path: Path) -> None:
    name = module_name(path)
    if name.split(".")[0] not in ARROWS:
        return
    taken = {top.removeprefix(".") for top in TAKEN[path]} - sys.stdlib_module_names
    allowed = ARROWS[name.split(".")[0]]
    assert [top for top in sorted(taken) if not is_below(top, allowed)] == []


@pytest.mark.parametrize(
    "name",
    [name for name in CORE if name in ("_errors", "_events", "_models") or "_protocol" in name],
)
def test_leaves_and_protocol_do_no_io(name: str) -> None:
    assert not IO & CORE_TAKEN[name]


def test_errors_know_models_only_as_a_type() -> None:
    checked = [
        node
        for node in CORE["_errors"].body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    everywhere = [name for name in imports(CORE["_errors"]) if name == "._models"]
    assert everywhere == [name for node in checked for name in imports(node)] == ["._models"]


@pytest.mark.parametrize(
    ("third", "users"),
    [
        ("tenacity", {"_retry"}),
        ("aiohttp", {"_client", "_transport"}),
        ("opentelemetry", {"otel"}),
        ("pytest", {"testing"}),
        (".cli", set()),
        (".emulator", {"testing"}),
        (".otel", set()),
        (".testing", set()),
        (".worker", set()),
    ],
)
def test_in_the_core_only_these_import_it(third: str, users: set[str]) -> None:
    found = {name for name, taken in CORE_TAKEN.items() if any(is_below(t, {third}) for t in taken)}
    assert [name for name in sorted(found) if not is_below(name, users)] == []


def test_no_other_package_imports_the_command_line() -> None:
    own = {"__main__", "cli"}
    outside = [taken for path, taken in TAKEN.items() if module_name(path).split(".")[0] not in own]
    assert not any(is_below(name, {".cli"}) for taken in outside for name in taken)


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


INTERNAL_CALLS = {
    "worker.handler": {"_check_open", "_pace_status"},
    "cli.stop_results": {"_check_open", "_pause_status"},
}
"""What `ThorClient` offers to the worker and to the command line only."""


@pytest.mark.parametrize("path", sorted(ALL), ids=module_name)
def test_no_module_reaches_into_anothers_private_parts(path: Path) -> None:
    allowed = {"_asdict", "_replace"}  # of a NamedTuple
    allowed |= INTERNAL_CALLS.get(module_name(path), set())
    own = {node.name for node in ALL[path].body if isinstance(node, ast.ClassDef)} | {"self", "cls"}
    for node in ast.walk(ALL[path]):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            is_own = isinstance(node.value, ast.Name) and node.value.id in own
            assert is_own or node.attr.endswith("__") or node.attr in allowed, ast.unparse(node)
