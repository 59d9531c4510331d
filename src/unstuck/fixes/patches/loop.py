"""The calls of a training loop in a file: backward, the optimizer's update, the clearing of gradients."""

from __future__ import annotations

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.calls import called
from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.patch import NoPatch
from unstuck.fixes.patches.source import Source, argument, dotted

NOT_OPTIMIZERS = ("sched", "scaler", "env", "progress", "meter", "profiler", "prof")
TAKE_BACKWARD = frozenset({"backward", "manual_backward"})


class Loop:
    """Backward calls, updates and clearings of a file, in the order they are written."""

    def __init__(self, source: Source, flow: Flow, finding: Finding) -> None:
        self.source = source
        self.flow = flow
        self._finding = finding
        calls = source.find(cst.Call)
        self.backwards = [call for call in calls if called(call) in TAKE_BACKWARD and not self._defined(call)]
        self.updates = self._known([call for call in calls if self.optimizer(call)])

    def optimizer(self, call: cst.Call) -> str:
        """Return the optimizer that a call updates with, "" for other calls.

        `optimizer.step()`, `self.optimizer.step()` and `scaler.step(optimizer)` update.
        """
        if called(call) != "step" or not isinstance(call.func, cst.Attribute) or self.flow.callee(call) is not None:
            return ""
        receiver = dotted(call.func.value)
        made = [a.value for a in self.source.assignments(receiver)] if receiver else []
        kinds = {name for v in made if isinstance(v, cst.Call) for name in self.source.qualified(v.func)}
        if any("GradScaler" in kind for kind in kinds) or "scaler" in receiver.lower():
            given = argument(call, 0, "optimizer")
            return dotted(given.value) if given is not None else ""
        if any("lr_scheduler" in kind for kind in kinds):
            return ""
        if any(kind.startswith("torch.optim.") for kind in kinds):
            return receiver
        last = receiver.rpartition(".")[2].lower()
        return "" if any(word in last for word in NOT_OPTIMIZERS) else receiver

    def own_backwards(self) -> list[cst.Call]:
        """Return the backward calls that the finding names, else all of the file."""
        return self._known(self.backwards)

    def at(self, calls: list[cst.Call]) -> cst.Call:
        """Return the call that stands at the finding's line; raises NoPatch when none or more than one does."""
        line = self._finding.location.line if self._finding.location else 0
        here = [call for call in calls if self.source.lines(call)[0] <= line <= self.source.lines(call)[1]]
        if not here:
            raise NoPatch(f"line {line} does not hold the call that the finding speaks of")
        if len(here) > 1:
            raise NoPatch(f"line {line} holds more than one such call")
        return here[0]

    def statement(self, call: cst.CSTNode) -> cst.CSTNode:
        """Return the statement of its block that a call or another node stands in."""
        return self.flow.chain(call)[0][1]

    def clearings(self) -> list[tuple[cst.CSTNode, str]]:
        """Return the statements that clear gradients, each with the optimizer or network whose gradients it clears.

        `optimizer.zero_grad()`, `p.grad = None`, `p.grad.zero_()`, and loops that do nothing but one of the latter; the
        name is "" for these.
        """
        found: dict[cst.CSTNode, str] = {}
        for call in self.source.find(cst.Call):
            if called(call) == "zero_grad" and isinstance(call.func, cst.Attribute) and self._is_statement(call):
                found[self.statement(call)] = dotted(call.func.value)
            elif dotted(call.func).endswith(".grad.zero_") and self._is_statement(call):
                found[self._whole(self.statement(call))] = ""
        for assign in self.source.find(cst.Assign):
            empties = dotted(assign.targets[0].target).endswith(".grad") and dotted(assign.value) == "None"
            if empties and len(assign.targets) == 1:
                found[self._whole(self.flow.chain(assign)[0][1])] = ""
        return sorted(found.items(), key=lambda item: self.source.lines(item[0]))

    def _whole(self, statement: cst.CSTNode) -> cst.CSTNode:
        """Return the loop (and the condition in it) that does nothing but the statement."""
        whole = statement
        for outer in self.source.around(statement):
            if isinstance(outer, cst.IndentedBlock):
                if len(outer.body) != 1:
                    break
            elif isinstance(outer, cst.If):
                if outer.orelse is not None:
                    break
            elif isinstance(outer, cst.For):
                return outer
            else:
                break
        return whole

    def _is_statement(self, call: cst.Call) -> bool:
        return isinstance(self.source.parent(call), cst.Expr)

    def _defined(self, call: cst.Call) -> bool:
        return self.flow.callee(call) is not None

    def _known(self, calls: list[cst.Call]) -> list[cst.Call]:
        """Return those of the calls at whose lines the finding saw one, all if there are none."""
        file = self._finding.location.file if self._finding.location else ""
        places = [place.location for place in self._finding.related if place.location is not None]
        lines = {place.line for place in places if place.file == file}
        seen = [
            call for call in calls if lines & set(range(self.source.lines(call)[0], self.source.lines(call)[1] + 1))
        ]
        return seen or calls
