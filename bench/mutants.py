"""Small faults, one at a time, put into a module's syntax tree: the mutants that `mutation.py` tries.

What is changed: comparisons (their boundary, their sense), arithmetic, `and`, `or`, `not` and each of their operands, numbers
(one more, one less, none; fractions a tenth more and less), True and False, words and wire bytes, what is returned, statements
(deleted), min and max, any and all, ends of slices and ranges, indices, members of enumerations, elements of sets and tables,
keyword arguments. Defaults of arguments and of dataclasses, and rows of tables, are numbers, words and members like any other.
Left alone: docstrings, texts for people (with a space in them, or made for an exception), type hints, decorators, the `strict`
of a zip.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from kinds import neighbours, siblings

NEGATED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitOr,
}
SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any"}
CONSTANTS = {"inf": "0.0", "nan": "0.0", "pi": "math.tau", "tau": "math.pi"}  # of math
DELETED = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Raise, ast.Break, ast.Continue, ast.Delete, ast.Return)
ASSERTED = ("strict",)  # keyword arguments that only say what is so
NOT_RUN = ("annotation", "returns", "decorator_list", "type_comment")


@dataclass
class Mutant:
    """One fault. `key` outlives other edits of the file: where it is, what was there and is there now, which of several such."""

    path: str  # of the file, from the root of the checkout
    where: str  # Class.method, or <module> for what is done when the module is imported
    first: int  # lines of the statement, or of the condition, that it is in
    last: int
    what: str  # [before => after], with a little of what is around
    tree: ast.Module = field(repr=False)
    holder: ast.AST = field(repr=False)
    name: str = field(repr=False)
    index: int | None = field(repr=False)
    new: ast.AST = field(repr=False)
    nth: int = 0

    @property
    def key(self) -> str:
        return f"{self.path} {self.where}: {self.what}" + (f" #{self.nth + 1}" if self.nth else "")

    def apply(self) -> None:
        """Change the tree that this mutant was found in."""
        if self.index is None:
            setattr(self.holder, self.name, self.new)
        else:
            getattr(self.holder, self.name)[self.index] = self.new


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


class Finder:
    """All mutants of one tree. `enums`: the members of every enumeration that may be spoken of, by its name."""

    def __init__(self, tree: ast.Module, path: str, enums: dict[str, list[str]]) -> None:
        self.tree, self.path, self.enums = tree, path, enums
        self.siblings = siblings(tree, enums)
        self.found: list[Mutant] = []
        self._scope: list[str] = []
        self._inside = 0  # functions around
        self._lines = (0, 0)

    def all(self) -> list[Mutant]:
        self._visit(self.tree)
        counts: dict[str, int] = {}
        for mutant in self.found:
            counts[mutant.key] = counts.get(mutant.key, -1) + 1
            mutant.nth = counts[mutant.key]
        return self.found

    def _visit(self, node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            if name in NOT_RUN or (name == "value" and isinstance(node, ast.keyword) and node.arg in ASSERTED):
                continue
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST):
                    self._child(node, name, index, child)

    def _child(self, holder: ast.AST, name: str, index: int | None, node: ast.AST) -> None:
        if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom)) or _is_text(node):
            return
        if isinstance(node, ast.stmt) or (isinstance(holder, (ast.If, ast.While, ast.For)) and isinstance(node, ast.expr)):
            self._lines = (node.lineno, node.end_lineno or node.lineno)
        lines = self._lines
        scoped = isinstance(node, (ast.FunctionDef, ast.ClassDef))
        if not scoped:
            for new in self._variants(holder, name, node):
                self._add(holder, name, index, node, new)
        elif isinstance(node, ast.FunctionDef):
            self._defaults(node)
        if isinstance(node, ast.Raise):
            return  # its text is for people
        if scoped:
            self._scope.append(node.name)  # type: ignore[attr-defined]
            self._inside += isinstance(node, ast.FunctionDef)
            for at, child in enumerate(node.body):  # type: ignore[attr-defined]
                self._child(node, "body", at, child)
            self._inside -= isinstance(node, ast.FunctionDef)
            self._scope.pop()
        else:
            self._visit(node)
        self._lines = lines

    def _defaults(self, function: ast.FunctionDef) -> None:
        """Evaluated when the module is imported, so they are the module's."""
        scope, self._scope, inside, self._inside = self._scope, [], self._inside, 0
        self._lines = (function.lineno, function.lineno)
        for holder in (function.args,):
            for name in ("defaults", "kw_defaults"):
                for index, node in enumerate(getattr(holder, name)):
                    if node is not None:
                        self._child(holder, name, index, node)
        self._scope, self._inside = scope, inside

    def _add(self, holder: ast.AST, name: str, index: int | None, node: ast.AST, new: ast.AST) -> None:
        ast.copy_location(new, node)
        ast.fix_missing_locations(new)
        where = ".".join(self._scope) if self._inside else ".".join([*self._scope, "<module>"])
        mutant = Mutant(self.path, where, *self._lines, "", self.tree, holder, name, index, new)
        small = isinstance(node, ast.expr) and isinstance(
            holder, (ast.expr, ast.keyword, ast.Assign, ast.AnnAssign, ast.AugAssign)
        )
        around = holder if small else node  # a fault in a small word is shown with what it stands in
        before = ast.unparse(around)
        if around is holder:
            mutant.apply()
            after = ast.unparse(around)
            replace(mutant, new=node).apply()
        else:
            after = ast.unparse(new)
        mutant.what = _difference(" ".join(before.split()), " ".join(after.split()))
        self.found.append(mutant)

    def _variants(self, holder: ast.AST, name: str, node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.stmt):
            yield from self._statement(node)
        elif isinstance(node, ast.expr):
            if name in ("test", "ifs") and not isinstance(node, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
                yield ast.UnaryOp(ast.Not(), node)
            if isinstance(holder, ast.Slice) or (isinstance(holder, ast.Subscript) and name == "slice"):
                yield from _off_by_one(holder, node)
            if (
                name == "args"
                and isinstance(holder, ast.Call)
                and isinstance(holder.func, ast.Name)
                and holder.func.id == "range"
            ):
                yield from _off_by_one(holder, node)
            yield from self._expression(node)

    def _statement(self, node: ast.stmt) -> Iterator[ast.AST]:
        if isinstance(node, ast.Return) and node.value is not None:
            if not isinstance(node.value, ast.Constant):  # which is changed itself
                yield ast.Return(ast.Constant(None))
        elif self._inside and (
            (isinstance(node, DELETED) and not (isinstance(node, ast.AnnAssign) and node.value is None)) or _is_call(node)
        ):
            yield ast.Pass()
        if isinstance(node, (ast.Break, ast.Continue)):
            yield ast.Continue() if isinstance(node, ast.Break) else ast.Break()
        if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
            yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)

    def _expression(self, node: ast.expr) -> Iterator[ast.AST]:
        match node:
            case ast.Compare():
                for k, op in enumerate(node.ops):
                    for other in NEGATED[type(op)]:
                        yield ast.Compare(node.left, [*node.ops[:k], other(), *node.ops[k + 1 :]], node.comparators)
            case ast.BoolOp():
                yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
                for k in range(len(node.values)):
                    rest = [*node.values[:k], *node.values[k + 1 :]]
                    yield copy.copy(rest[0]) if len(rest) == 1 else ast.BoolOp(node.op, rest)
            case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert()):
                yield copy.copy(node.operand)
            case ast.BinOp() if type(node.op) in ARITHMETIC and not _is_format(node):
                yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
                if isinstance(node.op, ast.BitOr):
                    yield from (copy.copy(node.left), copy.copy(node.right))
            case ast.IfExp():
                yield from (copy.copy(node.body), copy.copy(node.orelse))
            case ast.Call():
                yield from _call(node)
            case ast.Set() | ast.Dict():
                yield from _without_one(node)
            case ast.Constant():
                yield from map(ast.Constant, _other_values(node.value))
            case ast.Attribute(ast.Name(id="math"), attr) if attr in CONSTANTS:
                yield ast.parse(CONSTANTS[attr], mode="eval").body
            case ast.Attribute(ast.Name(id=enum), attr) if attr in self.enums.get(enum, ()):
                yield from (ast.Attribute(node.value, other, ast.Load()) for other in neighbours(self.enums[enum], attr))
            case ast.Name(id=name, ctx=ast.Load()) if name in self.siblings:
                yield from (ast.Name(other, ast.Load()) for other in neighbours(self.siblings[name], name))


def _other_values(value: object) -> list[object]:
    match value:
        case bool():
            return [not value]
        case int():
            return list(dict.fromkeys(v for v in (value + 1, value - 1, 0) if v != value))
        case float():
            near = [value + 1, value - 1] if value == round(value) and abs(value) < 1e3 else [value * 1.1, value * 0.9]
            return [v for v in dict.fromkeys((*near, 0.0)) if v != value]
        case bytes():
            return [value + b"?"]
        case str() if " " not in value:
            return [value + "_"]
    return []


def _off_by_one(holder: ast.AST, node: ast.expr) -> Iterator[ast.AST]:
    """For what a number cannot be read off: `at` becomes `at + 1` and `at - 1`."""
    whole = isinstance(node, ast.BinOp) or (isinstance(node, (ast.Name, ast.Call)) and not isinstance(holder, ast.Subscript))
    if whole or (isinstance(node, ast.Name) and len(node.id) == 1):
        yield ast.BinOp(node, ast.Add(), ast.Constant(1))
        yield ast.BinOp(node, ast.Sub(), ast.Constant(1))


def _call(node: ast.Call) -> Iterator[ast.AST]:
    if isinstance(node.func, ast.Name) and node.func.id in SWAPPED:
        yield ast.Call(ast.Name(SWAPPED[node.func.id], ast.Load()), node.args, node.keywords)
    for k in (k for k, keyword in enumerate(node.keywords) if keyword.arg not in ASSERTED):
        yield ast.Call(node.func, node.args, [*node.keywords[:k], *node.keywords[k + 1 :]])


def _without_one(node: ast.Set | ast.Dict) -> Iterator[ast.AST]:
    parts = node.elts if isinstance(node, ast.Set) else node.values
    for k in range(len(parts)) if len(parts) > 1 else ():
        if isinstance(node, ast.Set):
            yield ast.Set([*node.elts[:k], *node.elts[k + 1 :]])
        else:
            yield ast.Dict([*node.keys[:k], *node.keys[k + 1 :]], [*node.values[:k], *node.values[k + 1 :]])


def _is_text(node: ast.AST) -> bool:
    """A docstring, or the dots of a body that is not there."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_call(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Yield))


def _is_format(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.Mod) and (not isinstance(node.left, ast.Constant) or isinstance(node.left.value, (str, bytes)))


def _alike(a: str, b: str) -> int:
    """How many characters at the beginning of both are the same."""
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _difference(before: str, after: str, around: int = 30) -> str:
    """`head ... left [old => new] right`: what is changed, with a little of what is around it."""
    left = _alike(before, after)
    while left and before[left - 1].isalnum():
        left -= 1
    right = _alike(before[left:][::-1], after[left:][::-1])
    while right and before[-right].isalnum():
        right -= 1
    ends = len(before) - right, len(after) - right
    head = before[:left] if left <= 2 * around else f"{before[:around]} ... {before[left - around : left]}"
    return f"{head}[{before[left : ends[0]]} => {after[left : ends[1]]}]{before[ends[0] : ends[0] + around]}"
