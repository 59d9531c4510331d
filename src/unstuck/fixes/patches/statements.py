"""Statements that patches write, take out and put in elsewhere, with the comments that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import libcst as cst

from unstuck.fixes.patches.patch import NoPatch
from unstuck.fixes.patches.source import Source, siblings

Node = TypeVar("Node", bound=cst.CSTNode)
Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement


def written(text: str) -> Statement:
    """Return a statement from its text."""
    return cst.parse_statement(text)


def code(node: cst.CSTNode) -> str:
    """Return a node's text."""
    return cst.Module([]).code_for_node(node)


def fresh(source: Source, near: cst.CSTNode, *names: str) -> str:
    """Return the first of some names that the function around a node (or the file) does not use; "" if it uses all."""
    taken = {
        node.value
        for node in source.find(cst.Name, source.enclosing(near, cst.FunctionDef))
        if not (isinstance(outer := source.parent(node), cst.Attribute) and outer.attr is node)
        if not (isinstance(outer, cst.Arg) and outer.keyword is node)
    }
    return next((name for name in names if name not in taken), "")


def stands_alone(source: Source, statement: cst.CSTNode) -> Statement:
    """Return a statement that has its lines to itself; raises NoPatch for one that shares its line with others."""
    if isinstance(statement, cst.BaseCompoundStatement):
        return statement
    if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1:
        return statement
    raise NoPatch(f"line {source.lines(statement)[0]} holds more than one statement")


class Edit:
    """Changes of one file that insert and move whole statements; `module` puts them together."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._before: dict[cst.CSTNode, list[Statement]] = {}
        self._after: dict[cst.CSTNode, list[Statement]] = {}
        self._instead: dict[cst.CSTNode, list[Statement]] = {}

    def before(self, statement: cst.CSTNode, *new: Statement) -> None:
        """Insert statements before one; blank lines above it come to stand above the first of them."""
        self._before.setdefault(statement, []).extend(new)

    def after(self, statement: cst.CSTNode, *new: Statement) -> None:
        """Insert statements after one."""
        self._after.setdefault(statement, []).extend(new)

    def instead(self, statement: cst.CSTNode, *new: Statement) -> None:
        """Put statements in the place of one; the lines above it stay."""
        self._instead[statement] = list(new)

    def remove(self, statement: cst.CSTNode) -> Statement:
        """Take a statement out and return it as it can be put in elsewhere, its comments with it.

        Raises NoPatch when nothing would be left in its block, or when others share its line.
        """
        self._instead[statement] = []
        if all(self._instead.get(other) == [] for other in siblings(self._source, statement)):
            raise NoPatch(f"line {self._source.lines(statement)[0]} is all that its block holds")
        return _led_by(stands_alone(self._source, statement), _split(_leading(statement))[1])

    def module(self) -> cst.Module:
        """Return the changed file."""
        changed = self._source.module.visit(_Editor(self._before, self._after, self._instead))
        return cst.ensure_type(changed, cst.Module)


class _Editor(cst.CSTTransformer):
    def __init__(
        self,
        before: dict[cst.CSTNode, list[Statement]],
        after: dict[cst.CSTNode, list[Statement]],
        instead: dict[cst.CSTNode, list[Statement]],
    ) -> None:
        super().__init__()
        self._before, self._after, self._instead = before, after, instead

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> object:  # type: ignore[override]
        left = super().on_leave(original_node, updated_node)
        before, after = self._before.get(original_node, []), self._after.get(original_node, [])
        instead = self._instead.get(original_node)
        if not before and not after and instead is None:
            return left
        kept: list[cst.CSTNode] = [updated_node] if instead is None else list(instead)
        if instead:
            kept[0] = _led_by(kept[0], [*_leading(original_node), *_leading(kept[0])])
        if before and kept:
            blanks, rest = _split(_leading(kept[0]))
            before = [_led_by(before[0], [*blanks, *_leading(before[0])]), *before[1:]]
            kept[0] = _led_by(kept[0], rest)
        together = [*before, *kept, *after]
        return cst.FlattenSentinel(together) if together else cst.RemovalSentinel.REMOVE


def _leading(statement: cst.CSTNode) -> Sequence[cst.EmptyLine]:
    return tuple(getattr(statement, "leading_lines", ()))


def _led_by(statement: Node, lines: Sequence[cst.EmptyLine]) -> Node:
    return statement.with_changes(leading_lines=lines)


def _split(lines: Sequence[cst.EmptyLine]) -> tuple[list[cst.EmptyLine], list[cst.EmptyLine]]:
    """Return the blank lines above the first comment, and the lines from it on."""
    at = next((at for at, line in enumerate(lines) if line.comment is not None), len(lines))
    return list(lines[:at]), list(lines[at:])
