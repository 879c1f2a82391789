"""What the benches take from the program is still there: none is run by the tests, and a name that moves would be missed late."""

from __future__ import annotations

import ast
import functools
import symtable
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
OURS = ("robotrl", "tests")  # packages of the checkout, beside the benches themselves


@functools.cache
def file_of(module: str) -> Path | None:
    """Where one of ours stands, None for a library's; a folder is a package, with or without a page of its own."""
    base = ROOT if module.split(".")[0] in OURS else BENCH
    path = base.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py", path) if p.exists()), None)


@functools.cache
def has(module: str, name: str) -> bool:
    """Whether `module` binds the name, or has a module of that name in it."""
    path = file_of(module)
    assert path is not None
    if path.name in ("__init__.py", module.split(".")[-1]) and file_of(f"{module}.{name}"):
        return True
    return path.is_file() and name in bound(path)


@functools.cache
def bound(path: Path) -> set[str]:
    """Names that a module binds at its top."""
    symbols = symtable.symtable(path.read_text(), str(path), "exec").get_symbols()
    return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()} | {"__doc__", "__file__"}


def wanted(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, module and name of all that a script takes from ours: by `from`, or as an attribute of a module."""
    nodes, modules = list(ast.walk(ast.parse(source))), dict[str, str]()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {a.asname or a.name: a.name for a in node.names if a.asname or "." not in a.name}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for a in node.names:
                yield node.lineno, node.module, a.name
                modules[a.asname or a.name] = f"{node.module}.{a.name}"
    other = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    other |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    for node in nodes:  # of a name that means something else elsewhere in the script nothing is said
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules.keys() - other:
            yield node.lineno, modules[node.value.id], node.attr


def missing(source: str) -> list[str]:
    """What is not where a script takes it from, by line. A module of ours that is gone is missing; a library is not ours."""
    out = []
    for line, module, name in wanted(source):
        if file_of(module) is not None:
            out += [f"{line}: {module} has no {name}"] * (not has(module, name))
        elif module.split(".")[0] in OURS and "." in module and not has(*module.rsplit(".", 1)):
            out.append(f"{line}: there is no {module}")
    return out


@pytest.mark.parametrize("path", sorted(BENCH.glob("*.py")), ids=lambda path: path.stem)
def test_what_a_bench_takes_from_the_program_is_there(path):
    assert missing(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("from robotrl.nodes.policy import EARLY_NS, Weights\n", ["1: robotrl.nodes.policy has no EARLY_NS"]),
        ("def f():\n    from robotrl.nodes.gone import X\n", ["2: there is no robotrl.nodes.gone"]),
        ("from robotrl import gone\n", ["1: robotrl has no gone"]),
        ("from robotrl import config as c\nc.Agent(c.Gone)\n", ["2: robotrl.config has no Gone"]),
        ("from engine import WALK, Gone\n", ["1: engine has no Gone"]),
        ("import walk\nwalk.gone()\n", ["2: walk has no gone"]),
        ("from robotrl.sim import twin\ntwin.gone\n", ["2: robotrl.sim.twin has no gone"]),
        ("import numpy\nfrom torch import gone\nnumpy.gone\n", []),
        ("from robotrl import config\ndef f(config):\n    config.gone\n", []),
    ],
)  # fmt: skip
def test_a_name_that_has_moved_is_found(source, says):
    assert missing(source) == says
