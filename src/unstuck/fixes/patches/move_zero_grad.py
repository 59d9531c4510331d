"""T003. After https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html (order of the calls)."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.calls import called
from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.loop import Loop
from unstuck.fixes.patches.order import Meeting, meeting
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, siblings
from unstuck.fixes.patches.statements import Edit

LINEAR = (cst.With, cst.FunctionDef, cst.Module)


class MoveZeroGrad(Patcher):
    """Clears the gradients before backward or after the update, not between the two.

    ## What it does
    Moves `zero_grad()`, or the statement that sets `.grad` to None, with the comments above it: to before the backward
    call where both run once for each update and stand in one block of statements, else to after the update, so that
    what is accumulated on purpose stays.

    ## When it must not be used
    Where an update without gradients is wanted, to decay weights alone, say. Refused: no clearing seen between the two
    calls; a clearing under a condition that the update does not have.

    ## References
    - Optimizing model parameters, https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html
    """

    name = "move-zero-grad"
    code = "T003"
    summary = "clear the gradients where they are not needed any more"

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Return the module with the gradients cleared in another place."""
        flow = Flow(source)
        loop = Loop(source, flow, finding)
        update = loop.at([call for call in source.find(cst.Call) if loop.optimizer(call)])
        others = {loop.optimizer(call) for call in loop.updates} - {loop.optimizer(update)}
        cleared = [node for node, name in loop.clearings() if name not in others]
        backwards = loop.own_backwards()
        wrong = [node for node in cleared if _comes_between(loop, node, update, backwards)]
        if not wrong:
            raise NoPatch("no statement that clears gradients is seen between backward and the update")
        edit = Edit(source)
        for clearing in wrong:
            target = _backward_beside(loop, clearing, update)
            moved = edit.remove(clearing)
            if target is not None:
                edit.before(target, moved)
            else:
                edit.after(_update_beside(loop, clearing, update), moved)
        return edit.module()


def _comes_between(loop: Loop, clearing: cst.CSTNode, update: cst.Call, backwards: list[cst.Call]) -> bool:
    """Tell whether gradients are cleared after backward and before the update."""
    to_update = meeting(loop.flow, clearing, update)
    if to_update is None or to_update.first >= to_update.second:
        return False
    if any(loop.flow.leads_to(node, backwards) for node in to_update.between):
        return False
    met = [found for call in backwards if (found := meeting(loop.flow, call, clearing)) is not None]
    return any(found.first < found.second for found in met) or _in_function_alone(loop, clearing, update, met)


def _in_function_alone(loop: Loop, clearing: cst.CSTNode, update: cst.Call, met: list[Meeting]) -> bool:
    """Tell whether clearing and update stand in one function and backward meets neither, so is called elsewhere."""
    function = loop.source.enclosing(update, cst.FunctionDef)
    return not met and function is not None and function is loop.source.enclosing(clearing, cst.FunctionDef)


def _backward_beside(loop: Loop, clearing: cst.CSTNode, update: cst.Call) -> cst.CSTNode | None:
    """Return the one backward statement of the clearing's block, if that and the update run equally often."""
    met = meeting(loop.flow, clearing, update)
    if met is None or not all(_straight(loop, node, met.block) for node in (clearing, update)):
        return None
    earlier = list(siblings(loop.source, clearing))
    earlier = earlier[: earlier.index(clearing)]
    found = [statement for statement in earlier if loop.flow.leads_to(statement, loop.backwards)]
    updates = [statement for statement in earlier if loop.flow.leads_to(statement, loop.updates)]
    if len(found) != 1 or updates or not isinstance(found[0], cst.SimpleStatementLine):
        return None
    return found[0] if any(called(call).endswith("backward") for call in loop.source.find(cst.Call, found[0])) else None


def _straight(loop: Loop, node: cst.CSTNode, block: cst.CSTNode) -> bool:
    """Tell whether a node runs once for each time that a block around it does."""
    for outer, _ in loop.flow.chain(node):
        if outer is block:
            return True
        if not isinstance(loop.source.parent(outer), LINEAR):
            return False
    return False


def _update_beside(loop: Loop, clearing: cst.CSTNode, update: cst.Call) -> cst.CSTNode:
    """Return the update's statement; raises NoPatch where the clearing has a condition that the update has not."""
    block = loop.source.parent(clearing)
    chain = loop.flow.chain(update)
    if all(outer is not block for outer, _ in chain):
        raise NoPatch(
            f"the clearing at line {loop.source.lines(clearing)[0]} stands in a block that has no update in it"
        )
    function = loop.source.enclosing(update, cst.FunctionDef)
    if function is not loop.source.enclosing(clearing, cst.FunctionDef):
        return next(inner for outer, inner in chain if outer is block)
    return chain[0][1]
