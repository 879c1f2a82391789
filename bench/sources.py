"""Where a mutant's module, function and importers are, and how its tree takes their place (see mutation.py)."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from mutants import Mutant, parse

LINKED = ("drivers", "safety", "calibration", "sim")  # folders that are imported by way of robotrl


def tree_of(mutant: Mutant) -> Any:
    """The tree with the fault in it; this process is the mutant's own, and the tree need not be whole again."""
    mutant.apply()
    return mutant.tree


def independent(names: list[str], mutated: set[str], root: Path) -> list[str]:
    """The modules that import none of the mutated ones, themselves or by others."""
    imports = {name: said(file) for name in names if (file := root / f"{name.replace('.', '/')}.py").is_file()}
    tainted = set(mutated)
    for _ in imports:
        tainted |= {name for name, text in imports.items() if any(f"{other}." in text for other in tainted)}
    return [name for name in imports if name not in tainted]


@cache
def said(file: Path) -> str:
    """The imports of a file, each as one dotted name a line."""
    names = []
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            names += [f"{alias.name}." for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}." for alias in node.names]
    return "\n".join(names)


def module_name(path: str) -> str:
    name = path.removesuffix(".py").replace("/", ".")
    return f"robotrl.{name}" if path.split("/")[0] in LINKED else name


def rests_on(files: Iterable[Path], root: Path) -> tuple[Path, ...]:
    """These files and those of the project that they import, themselves or by others."""
    found = {file for file in files if file.is_file()}
    new = set(found)
    while new := {other for file in new for other in _imported(file, root)} - found:
        found |= new
    return tuple(sorted(found))


@cache
def _imported(file: Path, root: Path) -> frozenset[Path]:
    modules = {name.rstrip(".") for name in said(file).splitlines()} if file.suffix == ".py" else set()
    paths = {at.replace(".", "/") + ".py" for name in modules for at in (name, name.rpartition(".")[0]) if at}
    return frozenset(root / path for path in paths if (root / path).is_file())


def find_code(code: CodeType, where: str) -> CodeType:
    for name in where.split("."):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return code


def function_of(module: ModuleType, where: str) -> tuple[Any, str, FunctionType]:
    """What holds the function, its whole name and itself. One within a function is made by it anew: so the outer is given."""
    holder: Any = module
    names = where.split(".")
    for k, name in enumerate(names):
        found = vars(holder)[name]
        if isinstance(found, property):
            found = found.fget
        found = getattr(found, "__func__", found)
        if hasattr(found, "cache_clear"):  # what it remembers is the original's
            found.cache_clear()
            found = found.__wrapped__
        if isinstance(found, FunctionType):
            return holder, ".".join(names[: k + 1]), found
        holder = found
    raise LookupError(f"{module.__name__}: {where} is no function")


def exchange(module: ModuleType, where: str, whole: CodeType) -> None:
    """Give a function the code that it has in `whole`, the module's."""
    holder, name, function = function_of(module, where)
    code = find_code(whole, name)
    if code.co_freevars == function.__code__.co_freevars:
        function.__code__ = code
        return
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))  # as without its super()
    other = FunctionType(code, function.__globals__, closure=tuple(cells[free] for free in code.co_freevars))
    other.__defaults__, other.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    if vars(holder)[function.__name__] is not function:
        raise LookupError(f"{module.__name__}: {where} is decorated and has lost a name of the scope around it")
    setattr(holder, function.__name__, other)


@cache
def extent(file: Path, where: str) -> tuple[int, int]:
    """The lines of a function."""
    nodes: Any = parse(file).body
    node: Any = None
    for name in where.split("."):
        node = next(n for n in nodes if getattr(n, "name", "") == name)
        nodes = node.body
    return node.lineno, node.end_lineno


class Instead(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds one module, and makes it from a tree in place of its file."""

    def __init__(self, name: str, file: Path, tree: Any) -> None:
        importlib.machinery.SourceFileLoader.__init__(self, name, str(file))
        self._tree = tree

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=self.path)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._tree, self.path, "exec", dont_inherit=True)
