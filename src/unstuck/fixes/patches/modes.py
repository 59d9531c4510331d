"""The evaluations of a file: where a network runs without gradients, and how its mode is set and restored there."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from unstuck.fixes.patches.calls import called
from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.patch import NoPatch
from unstuck.fixes.patches.source import Source, dotted, siblings
from unstuck.fixes.patches.statements import Edit, Statement, code, fresh, written

NO_GRADIENTS = ("torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.inference_mode")
LOOPS = (cst.For, cst.While)
PLAIN_CALLS = frozenset({"sum", "len", "float", "int", "max", "min", "round", "abs", "dict", "list", "tuple", "zip"})
PLAIN_METHODS = frozenset({"item", "mean", "sum", "cpu", "numpy", "tolist", "append", "detach", "sqrt", "exp", "float"})
Region = cst.FunctionDef | cst.With
Exited = cst.FunctionDef | cst.With | cst.For | cst.While


def without_gradients(source: Source) -> list[Region]:
    """Return the functions and with-blocks in which no gradients are recorded, in the order they are written."""
    found: list[Region] = [
        function
        for function in source.find(cst.FunctionDef)
        if any(_disables(source, decorator.decorator) for decorator in function.decorators)
    ]
    found += [block for block in source.find(cst.With) if any(_disables(source, item.item) for item in block.items)]
    return sorted(found, key=lambda region: source.lines(region))


def mode_call(call: cst.Call) -> tuple[str, bool] | None:
    """Return the network whose mode a call sets and whether to train mode; None for other calls."""
    if not isinstance(call.func, cst.Attribute) or called(call) not in ("train", "eval"):
        return None
    name = dotted(call.func.value)
    if not name or len(call.args) > (called(call) == "train"):
        return None
    return name, called(call) == "train" and (not call.args or code(call.args[0].value) != "False")


def modes_set(source: Source, within: cst.CSTNode, network: str) -> list[tuple[int, bool]]:
    """Return (line, whether train mode) for the calls in a piece of the file that set a network's mode."""
    found = []
    for call in source.find(cst.Call, within):
        mode = mode_call(call)
        if mode is not None and mode[0] == network:
            found.append((source.lines(call)[0], mode[1]))
    return found


def in_eval_mode(source: Source, flow: Flow, region: Region, network: str) -> bool:
    """Tell whether a network has been put into eval mode where an evaluation begins, as far as the lines show."""
    if any(not train for _, train in modes_set(source, region, network)):
        return True
    if isinstance(region, cst.FunctionDef):
        calls = flow.callers(region)
        return bool(calls) and all(_eval_before(source, call) for call in calls)
    function = source.enclosing(region, cst.FunctionDef)
    set_before = [
        train for line, train in modes_set(source, function or source.module, network) if line < source.lines(region)[0]
    ]
    if set_before:
        return not set_before[-1]
    calls = flow.callers(function) if function is not None else []
    return bool(calls) and all(_eval_before(source, call) for call in calls)


def _eval_before(source: Source, call: cst.Call) -> bool:
    function = source.enclosing(call, cst.FunctionDef)
    names = {mode[0] for other in source.find(cst.Call, function) if (mode := mode_call(other)) is not None}
    last = [
        before[-1][1]
        for name in names
        if (before := [m for m in modes_set(source, function or source.module, name) if m[0] < source.lines(call)[0]])
    ]
    return bool(last) and not any(last)


def _disables(source: Source, node: cst.CSTNode) -> bool:
    func = node.func if isinstance(node, cst.Call) else node
    names = source.qualified(func)
    if names & set(NO_GRADIENTS):
        given = node.args if isinstance(node, cst.Call) else ()
        return not any(code(argument.value) == "False" for argument in given)
    given = node.args if isinstance(node, cst.Call) else ()
    return bool(names & {"torch.set_grad_enabled"}) and bool(given) and code(given[0].value) == "False"


class Leaving:
    """Writes `network.train()` wherever a function or with-block is left."""

    def __init__(self, source: Source, edit: Edit, network: str) -> None:
        self._source = source
        self._edit = edit
        self._train = written(f"{network}.train()")

    def function(self, function: cst.FunctionDef) -> None:
        """Restore train mode at each return of a function and at its end; raises NoPatch for generators."""
        if any(self._inside(function, node) for node in self._source.find(cst.Yield, function)):
            raise NoPatch(f"{function.name.value} is a generator: when it ends is up to its caller")
        body = _block(self._source, function.body)
        self._exits(function, (cst.Return,), skip=self._at_end(body))

    def block(self, region: cst.With | cst.For | cst.While) -> None:
        """Restore train mode after a with-block or loop and wherever control leaves it."""
        if any(self._inside(region, node) for node in self._source.find(cst.Yield, region)):
            raise NoPatch(f"the block at line {self._source.lines(region)[0]} hands values out to a loop")
        last = None
        if isinstance(region, cst.With):
            last = self._after_with(region)
        else:
            self._edit.after(region, self._train)
        self._exits(region, (cst.Return, cst.Break, cst.Continue), skip=last)

    def _at_end(self, body: cst.IndentedBlock) -> cst.CSTNode | None:
        """Restore train mode at a block's end; return the return statement there that this has taken care of."""
        last = body.body[-1]
        if isinstance(last, cst.With):
            return self._after_with(last)
        if not _always_leaves(last):
            self._edit.after(last, self._train)
        return None

    def _after_with(self, region: cst.With) -> cst.CSTNode | None:
        """Restore train mode after a with-block; return the return statement at its end, which is moved out of it."""
        last = _block(self._source, region.body).body[-1]
        if isinstance(last, cst.With):
            inner = _block(self._source, last.body).body[-1]
            if isinstance(inner, cst.SimpleStatementLine) and isinstance(inner.body[-1], cst.Return):
                return None  # that one leaves both
        if not isinstance(last, cst.SimpleStatementLine) or not isinstance(last.body[-1], cst.Return):
            self._edit.after(region, self._train)
            return None
        kept, leave = self._split(last)
        if kept is None:
            if len(siblings(self._source, last)) == 1:
                return None
            leave = self._edit.remove(last)
        else:
            self._edit.instead(last, kept)
        self._edit.after(region, self._train, leave)
        return last

    def _exits(self, region: Exited, kinds: tuple[type[cst.BaseSmallStatement], ...], skip: cst.CSTNode | None) -> None:
        for statement in self._source.find(cst.BaseSmallStatement, region):  # type: ignore[type-abstract]
            line = self._source.parent(statement)
            if not isinstance(statement, kinds) or not self._inside(region, statement) or line is skip:
                continue
            if isinstance(statement, cst.Break | cst.Continue) and self._loops_inside(region, statement):
                continue
            if not isinstance(line, cst.SimpleStatementLine) or len(line.body) > 1:
                raise NoPatch(f"line {self._source.lines(statement)[0]} leaves the evaluation beside another statement")
            kept, leave = self._split(line)
            self._edit.instead(line, *([kept] if kept else []), self._train, leave)

    def _split(self, line: cst.SimpleStatementLine) -> tuple[Statement | None, Statement]:
        """Return what a return statement computes, as a statement of its own or None, and what is left of it."""
        leave = line.body[-1]
        value = leave.value if isinstance(leave, cst.Return) else None
        bare = line.with_changes(leading_lines=())
        if value is None or not _runs_something(self._source, value):
            return None, bare
        name = fresh(self._source, value, "result", "value", "evaluated", "result_of_evaluation")
        kept = cst.Assign([cst.AssignTarget(cst.Name(name))], value)
        plain = cst.SimpleStatementLine([cst.Return(cst.Name(name))])
        return bare.with_changes(body=[kept]), plain

    def _inside(self, region: Exited, node: cst.CSTNode) -> bool:
        """Tell whether a node belongs to a region itself, not to a function defined in it."""
        for outer in self._source.around(node):
            if outer is region:
                return True
            if isinstance(outer, cst.FunctionDef | cst.Lambda | cst.ClassDef):
                return False
        return False

    def _loops_inside(self, region: Exited, node: cst.CSTNode) -> bool:
        """Tell whether the loop that a break or continue belongs to lies within a region."""
        around: Iterator[cst.CSTNode] = self._source.around(node)
        return isinstance(next(o for o in around if isinstance(o, cst.For | cst.While) or o is region), LOOPS)


def _block(source: Source, body: cst.BaseSuite) -> cst.IndentedBlock:
    if not isinstance(body, cst.IndentedBlock):
        raise NoPatch(f"the evaluation at line {source.lines(body)[0]} is written on one line")
    return body


def _always_leaves(statement: cst.CSTNode) -> bool:
    """Tell whether control never reaches what follows a statement: a return, or an if whose branches all return."""
    if isinstance(statement, cst.SimpleStatementLine):
        return isinstance(statement.body[-1], cst.Return | cst.Raise)
    if not isinstance(statement, cst.If) or statement.orelse is None:
        return False
    other = statement.orelse
    rest = other if isinstance(other, cst.If) else list(other.body.body)[-1]
    return _always_leaves(list(statement.body.body)[-1]) and _always_leaves(rest)


def _runs_something(source: Source, value: cst.BaseExpression) -> bool:
    """Tell whether an expression may run a network: it calls more than plain functions and methods of numbers."""
    for call in source.find(cst.Call, value):
        plain = isinstance(call.func, cst.Name) and call.func.value in PLAIN_CALLS
        if not plain and not (isinstance(call.func, cst.Attribute) and call.func.attr.value in PLAIN_METHODS):
            return True
    return False
