"""Names that stand for things of one kind, so that one may be put in another's place (see mutants.py)."""

from __future__ import annotations

import ast


def enumerations(trees: list[ast.Module]) -> dict[str, list[str]]:
    """The members of every enumeration, by its name."""
    found = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
                assigns = (part.targets[0] for part in node.body if isinstance(part, ast.Assign))
                found[node.name] = [target.id for target in assigns if isinstance(target, ast.Name)]
    return found


def siblings(tree: ast.Module, enums: dict[str, list[str]]) -> dict[str, list[str]]:
    """Names given together: `a, b = Enum.A, Enum.B` or `= Kind(1), Kind(2)` or `= Enum`; `A, B = 1, 2`. Each with all of them."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)):
            continue
        names = [target.id for target in node.targets[0].elts if isinstance(target, ast.Name)]
        values = node.value.elts if isinstance(node.value, ast.Tuple) else []
        kinds = {_kind(value, enums) for value in values}
        alike = len(kinds) == 1 and None not in kinds
        if alike or (isinstance(node.value, ast.Name) and node.value.id in enums):
            found |= dict.fromkeys(names, names)
    return found


def _kind(node: ast.expr, enums: dict[str, list[str]]) -> str | None:
    match node:
        case ast.Attribute(ast.Name(id=name)) if name in enums:
            return name
        case ast.Call(ast.Name(id=name)):
            return name
        case ast.Constant(value) if isinstance(value, int):
            return "number"
    return None


def neighbours(names: list[str], name: str) -> list[str]:
    """The one before and the one after, in a ring."""
    at = names.index(name)
    return [other for other in dict.fromkeys((names[at - 1], names[(at + 1) % len(names)])) if other != name]
