"""Two calls of a training loop in the one block in which their order can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from unstuck.fixes.patches.flow import Block, Flow
from unstuck.fixes.patches.source import Source


@dataclass(frozen=True)
class Meeting:
    """The innermost block that two calls share, the index of the statement there that leads to each."""

    block: Block
    first: int
    second: int

    @property
    def body(self) -> Sequence[cst.CSTNode]:
        """Return the block's statements."""
        return list(self.block.body)

    @property
    def between(self) -> Sequence[cst.CSTNode]:
        """Return the statements between the two."""
        return self.body[self.first + 1 : self.second]


def meeting(flow: Flow, first: cst.CSTNode, second: cst.CSTNode) -> Meeting | None:
    """Return where two calls meet, going out to call sites where there is one alone; None where they do not."""
    others = flow.chain(second)
    for block, statement in flow.chain(first):
        for other, inner in others:
            if other is block:
                body = list(block.body)
                return Meeting(block, body.index(statement), body.index(inner))  # type: ignore[arg-type]
    return None


def names_set(source: Source, statements: Sequence[cst.CSTNode]) -> set[str]:
    """Return the plain names that statements assign."""
    found: set[str] = set()
    for statement in statements:
        for target in source.find(cst.AssignTarget, statement):
            found |= {name.value for name in source.find(cst.Name, target)}
        for changed in source.find(cst.AugAssign, statement):
            found |= {name.value for name in source.find(cst.Name, changed.target)}
        for loop in source.find(cst.For, statement):
            found |= {name.value for name in source.find(cst.Name, loop.target)}
    return found


def names_read(source: Source, statement: cst.CSTNode) -> set[str]:
    """Return the names that a statement speaks of."""
    return {name.value for name in source.find(cst.Name, statement)}
