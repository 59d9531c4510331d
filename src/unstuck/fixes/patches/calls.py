"""Which call on a line applies a torch function, in whichever form it is written; and giving calls another name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import libcst as cst

from unstuck.fixes.patches.patch import NoPatch
from unstuck.fixes.patches.source import Source, argument, dotted

Changes = dict[cst.CSTNode, "cst.CSTNode | cst.RemovalSentinel | cst.FlattenSentinel[cst.CSTNode]"]
Expression = TypeVar("Expression", bound=cst.BaseExpression)
ATOMS = (cst.Name, cst.Attribute, cst.Call, cst.Subscript, cst.Integer, cst.Float, cst.List, cst.Tuple)
BINDING = (cst.Attribute, cst.Subscript, cst.BinaryOperation, cst.UnaryOperation, cst.Comparison, cst.ComparisonTarget)


class Form(Enum):
    """How a function is applied."""

    FUNCTION = "F.softmax(x, dim=1)"
    METHOD = "x.softmax(1)"
    MODULE = "softmax(x), where softmax = nn.Softmax(dim=1)"


@dataclass(frozen=True)
class Applied:
    """A call that applies a function, what it is applied to, and for modules the call that made the module."""

    call: cst.Call
    operand: cst.BaseExpression
    form: Form
    made: cst.Call | None = None


def torch_name(source: Source, call: cst.Call) -> str:
    """Return the last part of a name in torch, such as "softmax" for `F.softmax(...)`; "" for what is not torch's."""
    if not dotted(call.func):
        return ""
    return next((name.rpartition(".")[2] for name in source.qualified(call) if name.startswith("torch.")), "")


def called(call: cst.Call) -> str:
    """Return the last part of the name that is called: "softmax" for `F.softmax(x)` and for `model(x).softmax(1)`."""
    if isinstance(call.func, cst.Attribute):
        return call.func.attr.value
    return call.func.value if isinstance(call.func, cst.Name) else ""


def applied(source: Source, line: int, functions: Collection[str], classes: Collection[str] = ()) -> list[Applied]:
    """Return the calls on a line that apply one of torch's functions or of the modules of these classes."""
    found = []
    for call in source.calls_at(line):
        made = None if torch_name(source, call) else made_by(source, call, classes)
        given = argument(call, 0, "input")
        if torch_name(source, call) in functions and given is not None:
            found.append(Applied(call, given.value, Form.FUNCTION))
        elif made is not None and given is not None:
            found.append(Applied(call, given.value, Form.MODULE, made))
        elif isinstance(call.func, cst.Attribute) and called(call) in functions and not torch_name(source, call):
            found.append(Applied(call, call.func.value, Form.METHOD))
    return found


def made_by(source: Source, call: cst.Call, classes: Collection[str]) -> cst.Call | None:
    """Return the call of one of torch's classes that made what is called here, where that is clear.

    `criterion(x, y)` follows `criterion = nn.NLLLoss()` anywhere in the file, `self.criterion` in its class;
    `nn.NLLLoss()(x, y)` is its own answer.
    """
    if isinstance(call.func, cst.Call):
        return call.func if torch_name(source, call.func) in classes else None
    name = dotted(call.func)
    within = source.enclosing(call, cst.ClassDef) if name.startswith("self.") else None
    made = [assign.value for assign in source.assignments(name, within)] if name else []
    calls = [value for value in made if isinstance(value, cst.Call) and torch_name(source, value) in classes]
    return calls[0] if len(calls) == len(made) == 1 else None


def in_place_of(source: Source, call: cst.BaseExpression, value: Expression) -> Expression:
    """Return `value` with the parentheses that it needs to stand where `call` stands."""
    first, last = source.lines(value) if source.parent(value) is not None else (0, 0)
    bare = not value.lpar and not isinstance(value, ATOMS)
    if bare and (isinstance(source.parent(call), BINDING) or first != last):
        value = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return value.with_changes(lpar=[*call.lpar, *value.lpar], rpar=[*value.rpar, *call.rpar])


def renamed(source: Source, calls: Sequence[cst.Call], name: str) -> Changes:
    """Return the changes that make calls of one torch function, or class, call another one of the same module.

    A name that was imported by itself is exchanged in its import, or joined there by the new one if it is used
    elsewhere too. Raises NoPatch where it was imported under another name.
    """
    changes: Changes = {}
    plain: dict[str, list[cst.Name]] = {}
    for call in calls:
        if isinstance(call.func, cst.Attribute):
            changes[call.func] = call.func.with_changes(attr=cst.Name(name))
        elif isinstance(call.func, cst.Name):
            changes[call.func] = call.func.with_changes(value=name)
            plain.setdefault(call.func.value, []).append(call.func)
    for old, nodes in plain.items():
        changes.update(_imported(source, old, name, everywhere=len(nodes) == len(_loads(source, old))))
    return changes


def _loads(source: Source, name: str) -> list[cst.Name]:
    return [
        node
        for node in source.find(cst.Name)
        if node.value == name and source.enclosing(node, cst.ImportFrom) is None
        if not isinstance(source.parent(node), cst.Attribute)
    ]


def _imported(source: Source, old: str, new: str, *, everywhere: bool) -> Changes:
    for statement in source.find(cst.ImportFrom):
        if isinstance(statement.names, cst.ImportStar):
            continue
        aliases = list(statement.names)
        if new in [alias.evaluated_name for alias in aliases]:
            return {}
        for alias in aliases:
            if alias.evaluated_name == old and alias.asname is None:
                if everywhere:
                    return {alias: alias.with_changes(name=cst.Name(new))}
                last = aliases[-1].with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))
                added = cst.ImportAlias(cst.Name(new), comma=aliases[-1].comma)
                return {statement: statement.with_changes(names=[*aliases[:-1], last, added])}
            if alias.evaluated_alias == old:
                raise NoPatch(f"{alias.evaluated_name} is imported as {old}")
    return {}


def spine(source: Source, node: cst.CSTNode) -> list[cst.CSTNode]:
    """Return the nodes around a value that pass it on: its attributes, methods and items, innermost first.

    The last one is what takes it in the end: an assignment, a return, an argument, an operation.
    """
    nodes: list[cst.CSTNode] = []
    for outer in source.around(node):
        nodes.append(outer)
        passes = isinstance(outer, cst.Attribute) or (
            isinstance(outer, cst.Call | cst.Subscript)
            and node in (getattr(outer, "func", 0), getattr(outer, "value", 0))
        )
        if not passes:
            break
        node = outer
    return nodes
