"""N004. After https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.train."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.loop import Loop
from unstuck.fixes.patches.models import Models
from unstuck.fixes.patches.modes import Leaving, mode_call, modes_set, without_gradients
from unstuck.fixes.patches.order import names_read, names_set
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, siblings
from unstuck.fixes.patches.statements import Edit, written

LOOPS = (cst.For, cst.While)


class RestoreTrainMode(Patcher):
    """Puts the network back into train mode when an evaluation ends.

    ## What it does
    Finds `model.eval()` in a loop that also calls backward, directly or in a function called from it, with no
    `model.train()` after it. Writes `model.train()` at the end of that function and before each of its returns, or
    after the evaluation's block; what a return computes by running the network is computed before.

    ## When it must not be used
    Where training goes on in eval mode on purpose, to freeze running statistics, say. Refused: several networks put
    into eval mode in one function; generators; evaluations whose end cannot be seen.

    ## References
    - torch.nn.Module.train, https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.train
    """

    name = "restore-train-mode"
    code = "N004"
    summary = "put the network back into train mode after each evaluation"
    changes_objective = True  # with dropout and batch statistics the training loss is another

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Return the module with train mode restored."""
        flow = Flow(source)
        loop = Loop(source, flow, finding)
        models = Models(source, flow)
        if not loop.backwards:
            raise NoPatch("no backward call is seen in this file, so not where training goes on")
        training = set().union(*(flow.loops(call) for call in loop.backwards))
        switches = [
            (call, mode[0])
            for call in source.find(cst.Call)
            if (mode := mode_call(call)) is not None and not mode[1]
            if flow.callee(call) is None and training & flow.loops(call)
        ]
        left = [(call, name) for call, name in switches if not _restored(source, loop, call, name)]
        if not left:
            raise NoPatch("no `.eval()` without a `.train()` after it is seen in the loop that trains")
        edit = Edit(source)
        done: dict[cst.CSTNode | None, str] = {}
        for call, name in left:
            function = source.enclosing(call, cst.FunctionDef)
            if done.setdefault(function, name) != name:
                raise NoPatch(f"both {done[function]} and {name} are put into eval mode in one place")
            own = [outer for outer in source.around(call) if isinstance(outer, LOOPS)]
            if function is None or any(
                flow.leads_to(outer, loop.backwards) for outer in own if _in(source, outer, function)
            ):
                _restore_beside(source, loop, models, edit, call, name)
            else:
                Leaving(source, edit, name).function(function)
        return edit.module()


def _restored(source: Source, loop: Loop, call: cst.Call, network: str) -> bool:
    """Tell whether train mode is set after an `.eval()`: in its function, or in the loop around it that trains."""
    function = source.enclosing(call, cst.FunctionDef)
    if function is not None:
        later = [train for line, train in modes_set(source, function, network) if line > source.lines(call)[0]]
        if any(later):
            return True
    trains = (o for o in loop.flow.around(call) if isinstance(o, LOOPS) and loop.flow.leads_to(o, loop.backwards))
    nearest = next(trains, None)
    switches = [other for other in source.find(cst.Call, nearest) if nearest is not None and other is not call]
    modes = [mode for other in switches if loop.flow.callee(other) is None and (mode := mode_call(other)) is not None]
    return any(train for _, train in modes)


def _in(source: Source, node: cst.CSTNode, function: cst.FunctionDef) -> bool:
    return source.enclosing(node, cst.FunctionDef) is function


def _restore_beside(source: Source, loop: Loop, models: Models, edit: Edit, call: cst.Call, network: str) -> None:
    """Restore train mode after the last statement of the block that evaluates, before the next that trains."""
    statement = loop.statement(call)
    block = list(siblings(source, statement))
    regions = without_gradients(source)
    following = block[block.index(statement) + 1 :]
    trains = next((at for at, other in enumerate(following) if loop.flow.leads_to(other, loop.backwards)), None)
    if trains is not None:
        following = following[: _training_begins(source, following[: trains + 1], regions)]
    last = next((other for other in reversed(following) if other in regions or models.run_by(other)), None)
    if last is None:
        raise NoPatch(f"where the evaluation ends that begins at line {source.lines(call)[0]} cannot be seen")
    if isinstance(last, cst.With):
        Leaving(source, edit, network).block(last)
    else:
        edit.after(last, written(f"{network}.train()"))


def _training_begins(source: Source, statements: Sequence[cst.CSTNode], regions: Sequence[cst.CSTNode]) -> int:
    """Return the index of the first of the statements that compute what the last one, with backward, needs."""
    begins = len(statements) - 1
    needed = names_read(source, statements[-1])
    for at in reversed(range(begins)):
        other = statements[at]
        if other in regions:
            break
        if not isinstance(other, LOOPS) and names_set(source, [other]) & needed:
            needed |= names_read(source, other)
            begins = at
    return begins
