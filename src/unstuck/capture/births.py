"""Where the first NaN or infinity was made, read from autograd's graph of a step that nobody watched.

The graph of a loss that is not finite still holds, until backward has run, what its operations keep for their
gradients (`_saved_self`, `_saved_result`, https://docs.pytorch.org/docs/stable/notes/autograd.html). From the loss down
that tells which operation was the first, in the order of execution, to make such values of finite ones. What it is
called and how it is reached are kept; which source line it is, the next step tells, which is sampled for that: see
`calls.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unstuck.capture.wrappers import plain

MAX_NODES = 20_000  # of one graph; a larger one is not read
NO_NUMBER = 2**63  # of nodes that are no operation: their sequence number is above it

Way = tuple[tuple[int, str], ...]
"""From the loss down to an operation: at each turn the input taken and the name of the node there."""

HIDES = frozenset(
    """
    Where MaskedFill MaskedScatter MaskedSelect NanToNum Nansum Clamp ClampMin ClampMax Hardtanh Maximum Minimum Fmax
    Fmin Max Min Amax Amin
    """.split()
)
"""What may put a finite value in the place of another, so that a value behind it may be not finite by intent."""

SHAPES = frozenset(
    """
    View UnsafeView ReshapeAlias T Transpose Permute Expand Unsqueeze Squeeze Clone Slice Select Alias Split Unbind
    """.split()
)
"""What hands on (some of) the elements it is given."""

UNARY = frozenset("log log2 log10 log1p acos asin acosh atanh erfinv lgamma digamma".split())

EDGES = {
    "Addmm": {"mat1": 1, "mat2": 2},
    "Addmv": {"mat": 1, "vec": 2},
    "Addbmm": {"batch1": 1, "batch2": 2},
    "Baddbmm": {"batch1": 1, "batch2": 2},
    "Mm": {"self": 0, "mat2": 1},
    "Bmm": {"self": 0, "mat2": 1},
    "Mv": {"self": 0, "vec": 1},
}
"""Which input of an operation is kept under which name; for the others see `_USUAL`."""
_USUAL = {"self": 0, "input": 0, "other": 1, "exponent": 1, "target": 1}


class State(NamedTuple):
    """How many of a tensor's elements are not finite, out of how many; `masklike` if all of these are -inf."""

    number: int
    size: int
    masklike: bool = True


class Turn(NamedTuple):
    """A node on a way: which input of the node before it it is, and its name."""

    before: Turn | None
    edge: int
    name: str


class Birth(NamedTuple):
    """The first non-finite values of a step: `number` of the `size` elements that the operation at `way` made.

    `given` says that it was given them instead, by something that is no part of the graph: data.
    """

    step: int
    way: Way
    number: int
    size: int
    given: bool = False


class Seen(NamedTuple):
    """A node of the graph: what is known of its inputs, by name, and of its output."""

    node: Any
    turn: Turn
    inputs: dict[str, State]
    output: State | None

    @property
    def order(self) -> int:
        """Its place in the order of execution."""
        return int(self.node._sequence_nr())

    @property
    def bad(self) -> list[State]:
        """What of its inputs and its output is not finite."""
        known = (*self.inputs.values(), self.output)
        return [state for state in known if state is not None and state.number]


def kind_of(node: Any) -> str:
    """Return a node's name without what is the same for all: "Div" for `DivBackward0`."""
    name: str = node.name()
    return name.rpartition("Backward")[0] or name


def find_birth(objective: Tensor, step: int) -> Birth | None:
    """Return the first operation that made a non-finite loss so; None where the graph does not tell.

    Reads the graph without changing it: tensors that a hook of the program's own stores away are left alone. NaN and
    +inf are looked for first: -inf alone is what masks are made of.
    """
    if objective.grad_fn is None:
        return None
    with torch.no_grad():
        suspects = [seen for seen in _reached(objective.grad_fn) if seen.bad]
        worse = [seen for seen in suspects if not all(state.masklike for state in seen.bad)]
        for those in (worse, suspects):
            first = min(those, key=lambda seen: seen.order, default=None)
            if first is not None and (birth := _blame(first, step)):
                return birth
    return None


def state_of(tensor: Tensor) -> State:
    """Return what is known of a tensor; of most that they are finite is told by their sum."""
    if tensor.layout is not torch.strided or math.isfinite(float(tensor.sum())):
        return State(0, tensor.numel())
    number = int(tensor.numel() - tensor.isfinite().sum())
    return State(number, tensor.numel(), number == int(tensor.isneginf().sum()))


def _reached(root: Any) -> Iterator[Seen]:
    """Yield the nodes from which non-finite values can have come: behind no value that is known to be finite."""
    waiting = [(root, Turn(None, 0, root.name()))]
    met = {root}
    while waiting and len(met) < MAX_NODES:
        node, turn = waiting.pop()
        seen, kind = _look_at(node, turn), kind_of(node)
        if seen.order >= NO_NUMBER or (seen.output is not None and not seen.output.number):
            continue
        yield seen
        if kind in HIDES:
            continue
        edges = EDGES.get(kind, _USUAL)
        sound = {edges[name] for name, state in seen.inputs.items() if name in edges and not state.number}
        for number, (behind, _) in enumerate(node.next_functions):
            if behind is not None and number not in sound and behind not in met:
                met.add(behind)
                waiting.append((behind, Turn(turn, number, behind.name())))


def _look_at(node: Any, turn: Turn) -> Seen:
    inputs: dict[str, Tensor] = {}
    output = None
    for attribute in dir(node):
        if not attribute.startswith("_raw_saved_"):
            continue
        name = attribute.removeprefix("_raw_saved_")
        value = _kept(node, attribute, "_saved_" + name)
        if value is None or not value.is_floating_point():
            continue
        if name in ("result", "result0"):
            output = value
        elif not name.startswith("result"):
            inputs[name] = value
    output = _made_again(node, inputs) if output is None else output
    states = {name: state_of(value) for name, value in inputs.items()}
    return Seen(node, turn, states, None if output is None else state_of(output))


def _kept(node: Any, raw: str, name: str) -> Tensor | None:
    """Return a tensor that a node keeps; None where it was changed since, is gone, or was stored away by a hook.

    A hook may do anything when it is asked: one of `torch.utils.checkpoint` runs the network again, and only once.
    """
    try:
        if getattr(getattr(node, raw), "unpack_hook", node) is not None:  # before torch 2.7 nothing tells
            return None
        value = getattr(node, name)
    except RuntimeError:
        return None
    return value.detach() if plain(value) else None


def _made_again(node: Any, inputs: dict[str, Tensor]) -> Tensor | None:
    """Return what an operation made of the inputs that it keeps, where that takes one call of torch."""
    kind = kind_of(node)
    x, other = inputs.get("self"), inputs.get("other")
    if kind.lower() in UNARY and x is not None:
        function: Callable[[Tensor], Tensor] = getattr(torch, kind.lower())
        return function(x)
    if kind == "Div" and other is not None and len(inputs) <= 2:
        return other.reciprocal() if x is None else x / other  # the dividend is kept if the divisor wants a gradient
    if node.name() == "PowBackward0" and x is not None:
        return x.pow(node._saved_exponent)
    if kind == "Mean" and getattr(node, "_saved_self_sym_numel", 1) == 0:
        return torch.full((), math.nan)
    return None


def _blame(first: Seen, step: int) -> Birth | None:
    bad = [name for name, state in first.inputs.items() if state.number]
    if not bad and first.output is not None:
        return _born(first.output, step, first.turn)
    edge = EDGES.get(kind_of(first.node), _USUAL).get(bad[0])
    if len(bad) > 1 or edge is None or edge >= len(first.node.next_functions):
        return None
    given, behind = first.inputs[bad[0]], first.node.next_functions[edge][0]
    if behind is None:
        return _born(given, step, first.turn, given=True)
    maker = _maker(behind, Turn(first.turn, edge, behind.name()))
    return None if maker is None else _born(given, step, maker)


def _maker(node: Any, turn: Turn) -> Turn | None:
    """Return the way to what made a tensor, if that was given finite numbers alone as far as it keeps them."""
    while kind_of(node) in SHAPES and node.next_functions and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
        turn = Turn(turn, 0, node.name())
    seen = _look_at(node, turn)
    spoiled = any(state.number for state in seen.inputs.values())
    return None if seen.order >= NO_NUMBER or not seen.inputs or spoiled or kind_of(node) in HIDES else turn


def _born(state: State, step: int, turn: Turn, *, given: bool = False) -> Birth:
    way: list[tuple[int, str]] = []
    last: Turn | None = turn
    while last is not None:
        way.append((last.edge, last.name))
        last = last.before
    return Birth(step, tuple(reversed(way)), state.number, state.size, given)
