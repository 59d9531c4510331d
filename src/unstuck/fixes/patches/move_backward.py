"""T002. After https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html (order of the calls)."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.calls import called
from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.loop import Loop
from unstuck.fixes.patches.order import Meeting, meeting, names_read, names_set
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, dotted
from unstuck.fixes.patches.statements import Edit, stands_alone

BEFORE_THE_UPDATE = ("clip_grad_norm_", "clip_grad_value_", "unscale_")
AFTER_THE_UPDATE = ("update", "step")  # of a gradient scaler, of a schedule


class MoveBackward(Patcher):
    """Lets backward come before the update of the same iteration.

    ## What it does
    Moves the statement with the backward call, and the comments above it, to before `optimizer.step()`, and before the
    clipping or unscaling that comes before it. Where the loss is only computed after the update, it moves the update
    instead, with its clipping, the scaler's `update()` and the schedule's `step()`.

    ## When it must not be used
    In loops that begin with the update of the iteration before on purpose. Refused: calls whose order cannot be seen in
    one block of statements; statements that share a line.

    ## References
    - Optimizing model parameters, https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html
    - Automatic mixed precision examples, https://docs.pytorch.org/docs/stable/notes/amp_examples.html
    """

    name = "move-backward"
    code = "T002"
    summary = "call backward before the optimizer updates"

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Return the module with the two calls in order."""
        flow = Flow(source)
        loop = Loop(source, flow, finding)
        update = loop.at([call for call in source.find(cst.Call) if loop.optimizer(call)])
        met = _meeting(loop, update)
        edit = Edit(source)
        if not self._move_backward(edit, source, met):
            self._move_update(edit, source, loop, update, met)
        return edit.module()

    def _move_backward(self, edit: Edit, source: Source, met: Meeting) -> bool:
        """Move backward up, if what it needs is there; tell whether it did."""
        backward = met.body[met.second]
        start = _first_use(source, met)
        passed = met.body[start : met.second]
        simple = isinstance(backward, cst.SimpleStatementLine) and isinstance(backward.body[0], cst.Expr)
        if not simple or names_set(source, passed) & names_read(source, backward):
            return False
        edit.before(passed[0], edit.remove(backward))
        return True

    def _move_update(self, edit: Edit, source: Source, loop: Loop, update: cst.Call, met: Meeting) -> None:
        """Move the update down, and what belongs to it."""
        statement = met.body[met.first]
        if loop.statement(update) is not statement:
            raise NoPatch(
                f"backward needs what lines {source.lines(met.body[met.first])[1]} to "
                f"{source.lines(met.body[met.second])[0]} compute, and the update stands in a block of its own"
            )
        start, end = _first_use(source, met), met.first + 1
        while end < met.second and _belongs(source, met.body[end]):
            end += 1
        moved = [edit.remove(stands_alone(source, other)) for other in met.body[start:end]]
        edit.after(met.body[met.second], *moved)


def _meeting(loop: Loop, update: cst.Call) -> Meeting:
    """Return where the update and the next backward call after it meet; raises NoPatch where that cannot be seen."""
    found = [met for call in loop.own_backwards() if (met := meeting(loop.flow, update, call)) is not None]
    if not found:
        raise NoPatch("no block of statements shows both the update and the backward call")
    later = [met for met in found if met.first < met.second]
    if not later:
        raise NoPatch("in the order of the lines backward comes before the update, or both stand on one line")
    return min(later, key=lambda met: met.second - met.first)


def _first_use(source: Source, met: Meeting) -> int:
    """Return the index of the first statement that needs gradients for the update, which may be the update.

    Looks back as far as nothing is computed that backward, or what stands before it, needs.
    """
    needed = set().union(*(names_read(source, other) for other in met.body[met.first + 1 : met.second + 1]))
    first = met.first
    for at in reversed(range(met.first)):
        if names_set(source, [met.body[at]]) & needed:
            break
        if _uses_gradients(source, met.body[at]):
            first = at
    return first


def _uses_gradients(source: Source, statement: cst.CSTNode) -> bool:
    """Tell whether a statement needs gradients before the update: clips or unscales them, or reads `.grad`."""
    if any(called(call) in BEFORE_THE_UPDATE for call in source.find(cst.Call, statement)):
        return True
    reads = (node for node in source.find(cst.Attribute, statement) if node.attr.value == "grad")
    return any(not _is_cleared(source, node) for node in reads)


def _is_cleared(source: Source, gradient: cst.Attribute) -> bool:
    outer = source.parent(gradient)
    if isinstance(outer, cst.Attribute):
        return outer.attr.value == "zero_"
    whole = source.parent(outer) if isinstance(outer, cst.AssignTarget) else None
    return isinstance(whole, cst.Assign) and dotted(whole.value) == "None"


def _belongs(source: Source, statement: cst.CSTNode) -> bool:
    calls = source.find(cst.Call, statement) if isinstance(statement, cst.SimpleStatementLine) else []
    return any(called(call) in AFTER_THE_UPDATE and "." in dotted(call.func) for call in calls)
