"""T001. After https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.flow import Block, Flow
from unstuck.fixes.patches.loop import Loop
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.fixes.patches.source import Source, dotted
from unstuck.fixes.patches.statements import Edit, Statement, code, fresh, written

SKIPPED = (cst.If, cst.Else, cst.For, cst.While, cst.Try, cst.ExceptHandler, cst.Match, cst.MatchCase)


class InsertZeroGrad(Patcher):
    """Clears the gradients once for each update, which nothing did.

    ## What it does
    Inserts `optimizer.zero_grad()` before the first backward call of each update; where updates are made less often
    than backward is called, under an `if` or in a function of their own, after the update instead, so that what is
    accumulated on purpose stays. An `optimizer.zero_grad` without its parentheses gets them. Where parameters are
    updated by hand, their `.grad` is set to None.

    ## When it must not be used
    Where updates are meant to follow the sum of all gradients so far. Refused: an optimizer whose gradients the loop
    clears already; updates with a closure; more than one optimizer whose order with backward cannot be seen.

    ## References
    - Zeroing out gradients in PyTorch,
      https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html
    - torch.optim.Optimizer.zero_grad,
      https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html
    """

    name = "insert-zero-grad"
    code = "T001"
    summary = "clear the gradients once for each update"
    # Sums of all gradients so far make updates that grow: with the patch they are many times smaller at the same
    # learning rate, and over the first steps the faulty script may well be ahead. The right rate is the user's to find.
    changes_step_size = True

    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Return the module with the gradients cleared."""
        flow = Flow(source)
        loop = Loop(source, flow, finding)
        backward = loop.at(loop.backwards)
        for expression in source.find(cst.Expr):
            value = expression.value
            uncalled = isinstance(value, cst.Attribute) and value.attr.value == "zero_grad"
            if uncalled and flow.loops(expression) & flow.loops(backward):
                return source.replaced({value: cst.Call(value)})
        edit = Edit(source)
        if not loop.updates:
            update, new = _by_hand(source, backward)
            _place(edit, loop, backward, update, new)
            return edit.module()
        done: set[tuple[cst.CSTNode | None, cst.CSTNode, str]] = set()
        for update in _own_updates(loop, backward):
            optimizer = loop.optimizer(update)
            if dotted(update.func).rpartition(".")[0] == optimizer and update.args:
                raise NoPatch(f"{optimizer}.step is given a closure at line {source.lines(update)[0]}")
            where = (source.enclosing(update, cst.FunctionDef), loop.statement(update), optimizer)
            if where not in done:
                done.add(where)
                _place(edit, loop, backward, update, written(f"{optimizer}.zero_grad()"))
        return edit.module()


def _own_updates(loop: Loop, backward: cst.Call) -> list[cst.Call]:
    """Return the updates that use what a backward call computes; raises NoPatch when that cannot be seen."""
    for block, statement in loop.flow.chain(backward):
        following = list(block.body)[list(block.body).index(statement) + 1 :]  # type: ignore[arg-type]
        own: list[cst.Call] = []
        for other in following:
            if own and loop.flow.leads_to(other, loop.backwards):
                break
            own += [update for update in loop.updates if loop.flow.leads_to(other, [update])]
        if own:
            return _uncleared(loop, own)
    return _uncleared(loop, loop.updates)


def _uncleared(loop: Loop, updates: list[cst.Call]) -> list[cst.Call]:
    """Return those of the updates whose gradients are not cleared as often as they are made."""
    lines: dict[str, int] = {}
    left = []
    for update in updates:
        nearest = next((o for o in loop.flow.around(update) if isinstance(o, cst.For | cst.While)), None)
        name = loop.optimizer(update)
        found = [node for node, whose in loop.clearings() if whose == name and nearest in loop.flow.loops(node)]
        if found:
            lines[name] = loop.source.lines(found[0])[0]
        else:
            left.append(update)
    if not left:
        cleared = ", ".join(f"those of {name} at line {line}" for name, line in lines.items())
        raise NoPatch(f"the gradients are cleared already: {cleared}")
    return left


def _place(edit: Edit, loop: Loop, backward: cst.Call, update: cst.CSTNode, new: Statement) -> None:
    """Insert a clearing before the first backward call of an update, or after the update."""
    source, flow = loop.source, loop.flow
    own = [block for block, _ in flow.chain(backward)]
    inside: list[tuple[Block, cst.CSTNode]] = []
    for block, statement in flow.chain(update):
        inside.append((block, statement))
        if block in own:
            break
    block, statement = inside[-1]
    skipped = any(isinstance(source.parent(inner), SKIPPED) for inner, _ in inside[:-1])
    elsewhere = source.enclosing(statement, cst.FunctionDef) is not source.enclosing(update, cst.FunctionDef)
    if block in own and not skipped and not elsewhere:
        body = list(block.body)
        end = body.index(statement)  # type: ignore[arg-type]
        first = None
        for other in reversed(body[:end]):
            if flow.leads_to(other, loop.backwards):
                first = other
            elif first is not None and flow.leads_to(other, loop.updates):
                break
        if first is not None:
            edit.before(first, new)
            return
    names = {loop.optimizer(other) for other in loop.updates}
    if block not in own and len(names) > 1:
        raise NoPatch(f"which of {', '.join(sorted(names))} uses the gradients of this backward call cannot be seen")
    edit.after(loop.statement(update), new)


def _by_hand(source: Source, backward: cst.Call) -> tuple[cst.CSTNode, Statement]:
    """Return where parameters are updated by hand, and a statement that clears their gradients."""
    function = source.enclosing(backward, cst.FunctionDef)
    after = source.lines(backward)[1]
    reads = [
        node
        for node in source.find(cst.Attribute, function)
        if node.attr.value == "grad" and dotted(node.value) and source.lines(node)[0] > after
        if source.enclosing(node, cst.FunctionDef) is function
    ]
    for read in reads:
        loops = [outer for outer in source.around(read) if isinstance(outer, cst.For)]
        around = next((outer for outer in loops if _iterated(outer, dotted(read.value)) is not None), None)
        if around is None:
            continue
        values = _iterated(around, dotted(read.value))
        text = code(values) if values is not None else ""
        if isinstance(values, cst.Call):
            network = dotted(values.func).removesuffix(".parameters")
            if values.args or network == dotted(values.func):
                raise NoPatch(f"{text} may give its values only once")
            return around, written(f"{network}.zero_grad()")
        return around, written(f"for {dotted(read.value)} in {text}:\n    {dotted(read.value)}.grad = None\n")
    updated = list(dict.fromkeys(dotted(read.value) for read in reads if _is_updated(source, read)))
    if not updated:
        raise NoPatch("no update is seen in this file: neither an optimizer's step nor one that uses .grad")
    if len(updated) == 1:
        return reads[-1], written(f"{updated[0]}.grad = None")
    name = fresh(source, reads[-1], "p", "parameter", "tensor", "cleared_parameter")
    return reads[-1], written(f"for {name} in ({', '.join(updated)}):\n    {name}.grad = None\n")


def _iterated(loop: cst.For, name: str) -> cst.BaseExpression | None:
    """Return what a loop takes a variable's values from, looking through zip and enumerate; None for another's."""
    target, values = loop.target, loop.iter
    if isinstance(target, cst.Tuple) and isinstance(values, cst.Call):
        at = next((at for at, element in enumerate(target.elements) if dotted(element.value) == name), None)
        kind = dotted(values.func)
        if at is None or kind not in ("zip", "enumerate"):
            return None
        given = [argument.value for argument in values.args if argument.keyword is None]
        position = at if kind == "zip" else at - 1
        return given[position] if 0 <= position < len(given) else None
    return values if dotted(target) == name else None


def _is_updated(source: Source, read: cst.Attribute) -> bool:
    """Tell whether a tensor changes by its gradient in the statement in which that is read."""
    name = dotted(read.value)
    for outer in source.around(read):
        if isinstance(outer, cst.AugAssign):
            return dotted(outer.target) in (name, f"{name}.data")
        if isinstance(outer, cst.Assign):
            return any(dotted(target.target) in (name, f"{name}.data") for target in outer.targets)
        if isinstance(outer, cst.Expr):
            calls = [dotted(call.func) for call in source.find(cst.Call, outer)]
            return any(call.startswith((f"{name}.sub_", f"{name}.add_", f"{name}.data.")) for call in calls)
    return False
