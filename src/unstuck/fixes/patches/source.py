"""The user's source as a concrete syntax tree that can be asked by line and by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import libcst as cst
from libcst import matchers as m
from libcst.metadata import (
    CodeRange,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    QualifiedNameProvider,
    Scope,
    ScopeProvider,
)

Node = TypeVar("Node", bound=cst.CSTNode)


class Source:
    """A parsed file; nodes given out belong to `module`. Raises libcst.ParserSyntaxError for what is not Python."""

    def __init__(self, text: str) -> None:
        self._wrapper = MetadataWrapper(cst.parse_module(text))
        self.module = self._wrapper.module
        self._positions: Mapping[cst.CSTNode, CodeRange] = self._wrapper.resolve(PositionProvider)
        self._parents = self._wrapper.resolve(ParentNodeProvider)
        self._scopes = self._wrapper.resolve(ScopeProvider)
        self._names = self._wrapper.resolve(QualifiedNameProvider)
        self._nodes: list[cst.CSTNode] = []
        self._spans: dict[cst.CSTNode, tuple[int, int]] = {}  # of a node and all within it in `_nodes`
        self._number(self.module)

    def lines(self, node: cst.CSTNode) -> tuple[int, int]:
        """Return a node's first and last line, from 1."""
        position = self._positions[node]
        return position.start.line, position.end.line

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the node around a node."""
        return self._parents.get(node)

    def around(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Yield the nodes around a node, innermost first."""
        outer = self.parent(node)
        while outer is not None:
            yield outer
            outer = self.parent(outer)

    def enclosing(self, node: cst.CSTNode, kind: type[Node]) -> Node | None:
        """Return the innermost node of a kind around a node."""
        return next((outer for outer in self.around(node) if isinstance(outer, kind)), None)

    def scope(self, node: cst.CSTNode) -> Scope | None:
        """Return the scope a node stands in."""
        return self._scopes.get(node)

    def qualified(self, node: cst.CSTNode) -> set[str]:
        """Return what a name or call may stand for, imports resolved: "torch.nn.functional.softmax", "model"."""
        found = self._names.get(node, ())
        return {name.name for name in (found() if callable(found) else found)}  # libcst computes it when asked

    def find(self, kind: type[Node], within: cst.CSTNode | None = None) -> list[Node]:
        """Return all nodes of a kind, in the order they are written."""
        start, end = self._spans[within or self.module]
        found = [node for node in self._nodes[start:end] if isinstance(node, kind)]
        return sorted(found, key=lambda node: (self._positions[node].start.line, self._positions[node].start.column))

    def _number(self, node: cst.CSTNode) -> None:
        start = len(self._nodes)
        self._nodes.append(node)
        for child in node.children:
            self._number(child)
        self._spans[node] = start, len(self._nodes)

    def calls_at(self, line: int) -> list[cst.Call]:
        """Return the calls that stand on a line in whole or in part, in the order they are written."""
        return [call for call in self.find(cst.Call) if self.lines(call)[0] <= line <= self.lines(call)[1]]

    def statement_at(self, line: int) -> cst.SimpleStatementLine | None:
        """Return the simple statement that stands on a line."""
        found = (s for s in self.find(cst.SimpleStatementLine) if self.lines(s)[0] <= line <= self.lines(s)[1])
        return next(found, None)

    def assignments(self, name: str, within: cst.CSTNode | None = None) -> list[cst.Assign]:
        """Return the assignments `name = ...` (also `self.attribute = ...` for the name "self.attribute")."""
        found = []
        for assign in self.find(cst.Assign, within):
            if any(dotted(target.target) == name for target in assign.targets):
                found.append(assign)
        return found

    def replaced(
        self, changes: Mapping[cst.CSTNode, cst.CSTNode | cst.RemovalSentinel | cst.FlattenSentinel[cst.CSTNode]]
    ) -> cst.Module:
        """Return the module with nodes replaced or removed; formatting elsewhere stays."""
        return cst.ensure_type(self.module.visit(_Replacer(changes)), cst.Module)


class _Replacer(cst.CSTTransformer):
    def __init__(self, changes: Mapping[cst.CSTNode, object]) -> None:
        super().__init__()
        self._changes = changes

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> object:  # type: ignore[override]
        return self._changes.get(original_node, super().on_leave(original_node, updated_node))


def dotted(node: cst.BaseExpression | cst.CSTNode) -> str:
    """Return "a.b.c" for names and attributes of names, "" for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr.value}" if base else ""
    return ""


def argument(call: cst.Call, position: int, *names: str) -> cst.Arg | None:
    """Return a call's argument by one of its names or by position; None when it is not given."""
    for given in call.args:
        if given.keyword is not None and given.keyword.value in names:
            return given
    plain = [given for given in call.args if given.keyword is None and not given.star]
    return plain[position] if position < len(plain) else None


def siblings(source: Source, statement: cst.CSTNode) -> Sequence[cst.CSTNode]:
    """Return the statements of the block that a statement stands in, in order."""
    block = source.parent(statement)
    return block.body if isinstance(block, cst.IndentedBlock | cst.Module) else ()


__all__ = ["Source", "argument", "dotted", "m", "siblings"]
