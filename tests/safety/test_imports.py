"""Safety imports the standard library and itself, and nothing that could make it impure."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import robotrl.safety

FILES = sorted(Path(robotrl.safety.__path__[0]).glob("*.py"))
IMPURE = {"time", "random", "secrets", "os", "io", "socket", "threading", "subprocess", "pickle", "pathlib", "datetime"}


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def bad_imports(text: str) -> set[str]:
    allowed = sys.stdlib_module_names - IMPURE
    return {
        name for name in imported(ast.parse(text)) if not name.startswith("robotrl.safety") and name.split(".")[0] not in allowed
    }


def test_there_is_something_to_check():
    assert {"limits.py", "gate.py", "causes.py", "guard.py", "reset.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_standard_library_only_and_nothing_impure(path):
    assert bad_imports(path.read_text()) == set()


@pytest.mark.parametrize(
    "line", ["import numpy", "import msgspec as m", "from robotrl import messages", "from . import gate", "import time"]
)
def test_the_check_can_fail(line):
    assert bad_imports(line)


def test_no_calls_that_reach_out():
    names = {
        node.func.id
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not names & {"open", "print", "input", "eval", "exec", "__import__", "compile"}


def test_small_enough_to_be_read():
    lines = {path.name: len(path.read_text().splitlines()) for path in FILES}
    assert sum(lines.values()) <= 1500 and max(lines.values()) <= 300, lines
