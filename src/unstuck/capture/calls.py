"""Which source line an operation of autograd's graph is: the calls of one sampled step, with the nodes they made.

Used for the step after one whose loss turned out not to be finite while nobody watched. What that step's graph told
(`births.py`) is a way through the graph; the same way through the graph of the step after it, whose numbers are of no
use any more, leads to the call. A scalar of its site at the bad step then says what was found there.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unstuck.capture.births import NO_NUMBER, Birth, Way, find_birth, state_of
from unstuck.capture.call import TorchCall
from unstuck.capture.graph import tensors_in
from unstuck.capture.recorder import Recorder
from unstuck.capture.site import location_of
from unstuck.trace import Edge, Kind, Location, Site

MAX_LOOKS = 4  # steps; most runs never see a finite loss again after one

NAMES = {
    f"__{side}{name}__": plain
    for side in ("", "r", "i")
    for name, plain in {"truediv": "div", "div": "div", "mul": "mul", "pow": "pow", "add": "add", "sub": "sub"}.items()
}


class Call(NamedTuple):
    """A call that made the nodes after number `after` up to number `last`."""

    after: int
    last: int
    op: str
    path: str
    location: Location | None
    site: int | None
    sources: tuple[int, ...]


class Aftermath:
    """Looks into the first unwatched step whose loss is not finite, and finds the line in the step after it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._birth: Birth | None = None
        self._calls: list[Call] = []
        self._left = MAX_LOOKS

    def look(self, objective: Tensor, step: int) -> bool:
        """Look into the graph of a loss that is not finite, before backward runs; whether the next step is wanted."""
        self._left -= 1
        if self._left < 0:
            return False
        if self._look_at_parameters(step):
            self._left = 0  # what comes after is spoiled as well
            return False
        self._birth = find_birth(objective, step)
        return self._birth is not None

    def begin(self, step: int, *, sampled: bool) -> Callable[[TorchCall, Any, Site | None], None] | None:
        """A step begins; return what wants to be shown its calls, if anything does."""
        self._calls.clear()
        if self._birth is not None and not (sampled and step == self._birth.step + 1):
            self._birth = None
        return None if self._birth is None else self.note

    def _look_at_parameters(self, step: int) -> bool:
        """Note each parameter's rms, or how many of its elements are not finite; tell whether that is any."""
        trace, spoiled = self._recorder.trace, False
        for index, parameter in self._recorder.parameters.trained():
            value = parameter.detach()
            if not value.is_floating_point() or value.layout is not torch.strided or not value.numel():
                continue
            if number := state_of(value).number:
                trace.add_scalar(step, index, "spoiled", number)
                spoiled = True
            else:
                norm = float(torch.linalg.vector_norm(value, dtype=torch.float64))
                trace.add_scalar(step, index, "rms_then", norm / math.sqrt(value.numel()))
        return spoiled

    def note(self, call: TorchCall, out: Any, made: Site | None) -> None:
        """Note which nodes a call has made."""
        results = list(tensors_in((out,))) or list(tensors_in(call.args[:1]))  # what is written into, else
        numbers = [number for number in map(_number, results) if number is not None]
        if not numbers:
            return
        inputs = [t for t in tensors_in((call.args, call.kwargs)) if all(t is not result for result in results)]
        before = [number for number in map(_number, inputs) if number is not None]
        recorder = self._recorder
        self._calls.append(
            Call(
                max(before, default=-1),
                max(numbers),
                NAMES.get(call.op, call.op),
                recorder.modules.current.path,
                location_of(recorder.locator.frame(sys._getframe())),
                None if made is None else made.index,
                recorder.origins.union(inputs),
            )
        )

    def resolve(self, objectives: tuple[Tensor, ...]) -> None:
        """Find the line by the graph of the step after, as its backward begins; then the matter is closed."""
        birth = self._birth
        if birth is None:
            return
        root = getattr(objectives[0], "grad_fn", None) if objectives else None
        node = _follow(root, birth.way)
        if node is None:
            return  # another backward call of this step may be the one
        number, calls = node._sequence_nr(), sorted(self._calls, key=lambda call: call.last)
        call = next((call for call in calls if call.last >= number), None)
        if call is not None and call.after < number:
            self._enter(birth, call, [other for other in calls if other is not call], _above(root, node))
        self._birth = None

    def _enter(self, birth: Birth, call: Call, others: list[Call], above: set[int]) -> None:
        trace, sites = self._recorder.trace, self._recorder.trace.sites
        site = self._known(call) if call.site is None else sites[call.site]
        name = "born_in_input" if birth.given else "born"
        trace.add_scalar(birth.step, site.index, name, birth.number)
        trace.add_scalar(birth.step, site.index, f"{name}_of", birth.size)
        trace.edges.update(Edge(i, site.index, direct=False) for i in call.sources if i != site.index)
        following = {c.site for c in others if c.site is not None and c.last in above}
        trace.edges.update(Edge(site.index, i, direct=False) for i in following if i != site.index)

    def _known(self, call: Call) -> Site:
        """Return the site of an operation that has none yet, or had one since it broke in an earlier step."""
        for site in self._recorder.trace.of_kind(Kind.OPERATION):
            if (NAMES.get(site.op, site.op), site.path, site.location) == (call.op, call.path, call.location):
                return site
        key = ("born", call.op, call.path, call.location)
        return self._recorder.sites.create(key, Kind.OPERATION, call.op, call.path, call.location)


def _number(tensor: Tensor) -> int | None:
    node = tensor.grad_fn
    number = None if node is None else node._sequence_nr()
    return number if number is not None and number < NO_NUMBER else None


def _follow(root: Any, way: Way) -> Any:
    """Return the node at the end of a way, or None where this graph has another shape."""
    node = root
    for turn, (number, name) in enumerate(way):
        if turn:
            node = node.next_functions[number][0] if number < len(node.next_functions) else None
        if node is None or node.name() != name:
            return None
    return node


def _above(root: Any, target: Any) -> set[int]:
    """Return the numbers of the nodes that take, directly or not, what `target` made."""
    nodes, waiting = {root}, [root]
    while waiting:
        for behind, _ in waiting.pop().next_functions:
            if behind is not None and behind not in nodes and behind._sequence_nr() < NO_NUMBER:
                nodes.add(behind)
                waiting.append(behind)
    above = {target}
    for node in sorted(nodes, key=lambda node: int(node._sequence_nr())):
        if any(behind in above for behind, _ in node.next_functions):
            above.add(node)
    return {int(node._sequence_nr()) for node in above - {target}}
