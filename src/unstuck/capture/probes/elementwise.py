"""Parameters that no layer uses: an angle, a scale, a temperature of which the program computes by element-wise calls.

Such a parameter counts as used in the pass, so that a gradient that never comes is noticed, and its place is the last
element-wise call that something made of it went into.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.graph import tensors_in
from unstuck.capture.recorder import Recorder
from unstuck.capture.site import location_of
from unstuck.trace import Site

Derived = dict[int, tuple["weakref.ref[Tensor]", frozenset[int]]]
"""The parameters (their sites) that a tensor was computed from, by the tensor's id."""


def note_use(recorder: Recorder, call: TorchCall, out: Any, _site: Site | None) -> None:
    """Note the use of each parameter that belongs to no layer, if the call is part of the graph."""
    if not isinstance(out, Tensor) or not out.requires_grad or recorder.replayed is not None:
        return
    derived: Derived = recorder.notes.setdefault("derived", {})
    found = frozenset(i for tensor in tensors_in((call.args,)) for i in _parameters(recorder, tensor, derived))
    if not found:
        return
    derived[id(out)] = weakref.ref(out), found
    location = location_of(recorder.locator.frame(sys._getframe()))
    for index in found:
        recorder.trace.sites[index].location = location
    recorder.parameters.used |= found


def _parameters(recorder: Recorder, tensor: Tensor, derived: Derived) -> frozenset[int]:
    if tensor.is_leaf:
        index = recorder.parameters.index_of(tensor, current=True) if tensor.requires_grad else None
        known = index is not None and recorder.trace.sites[index].owner is None
        return frozenset((index,)) if index is not None and known else frozenset()
    entry = derived.get(id(tensor))
    return entry[1] if entry is not None and entry[0]() is tensor else frozenset()


_SIGNS = "add sub mul truediv pow"
OPS = (
    *"neg cos sin tan exp exp2 expm1 log log1p sqrt rsqrt square abs sigmoid logsigmoid tanh softplus relu".split(),
    *"clamp reciprocal positive true_divide div rsub pow add sub mul __neg__ __pow__ __rpow__".split(),
    *(f"__{side}{sign}__" for sign in _SIGNS.split() for side in ("", "r")),
)
LOOKS = dict.fromkeys(OPS, note_use)
