"""Operations at which a gradient breaks: they make it non-finite out of finite numbers, or stop it.

Judged in backward, at the operation's own node of the graph: by what came in and what went out. A place becomes a site
only when that has happened there.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.graph import tensors_in
from unstuck.capture.recorder import Recorder
from unstuck.capture.site import location_of
from unstuck.trace import Kind, Site

Gradients = Sequence[Tensor | None]
Judge = Callable[[Gradients, Gradients], int]

NAMES = {"__truediv__": "div", "__rtruediv__": "div", "__rdiv__": "div", "__div__": "div", "__pow__": "pow"}
ZERO_AT_SINGULARITY = frozenset({"sqrt", "pow", "__pow__"})
"""Whose result is zero where the derivative is infinite; that of the others is infinite, or as `_EDGES` says."""
_EDGES = {"acos": (0.0, math.pi), "arccos": (0.0, math.pi), "asin": (math.pi / 2,) * 2, "arcsin": (math.pi / 2,) * 2}
ARC_TOLERANCE = 1e-3  # of an angle (rad): at 1 - 2^-24 the arc cosine is 3.5e-4


def note_singular(recorder: Recorder, call: TorchCall, out: Any, _site: Site | None) -> None:
    """Watch a call that was given singular elements: the scalar `made_nonfinite` counts what backward makes of them.

    The scalar `reached` says whether it came through to the gradient of a parameter.
    """
    if not _has_gradient(recorder, out) or not _is_singular(call, out.detach()):
        return
    node = out.grad_fn
    if call.op in ("__rtruediv__", "__rdiv__"):  # torch multiplies by the reciprocal
        node = node.next_functions[0][0] or node
    _watch(recorder, call, node, _made_nonfinite, "made_nonfinite")


def note_stop(recorder: Recorder, call: TorchCall, out: Any, _site: Site | None) -> None:
    """Watch a call whose derivative is zero everywhere: the scalar `stopped` counts the gradients it put an end to.

    The vector `inputs` has the indices of the sites that the call's inputs came from.
    """
    if _has_gradient(recorder, out):
        _watch(recorder, call, out.grad_fn, _stopped, "stopped")


def note_sampling(recorder: Recorder, call: TorchCall, out: Any, site: Site | None) -> None:
    """Watch `grid_sample` where it takes the nearest element: the places get no gradient."""
    if call.arg(2, "mode") == "nearest":
        note_stop(recorder, call, out, site)


def _has_gradient(recorder: Recorder, out: Any) -> bool:
    return isinstance(out, Tensor) and out.grad_fn is not None and out.numel() > 0 and recorder.replayed is None


def _is_singular(call: TorchCall, out: Tensor) -> bool:
    """Tell by the result, which is there also after an in-place call, whether a derivative was infinite."""
    if out.is_complex():
        return False
    if call.op in _EDGES:
        low, high = _EDGES[call.op]
        values = out if low == 0.0 else out.abs()
        return bool(((values - low).abs() < ARC_TOLERANCE).any() or ((values - high).abs() < ARC_TOLERANCE).any())
    if call.op in ZERO_AT_SINGULARITY:
        exponent = call.arg(1, "exponent")
        if isinstance(exponent, int | float) and exponent >= 1:
            return False
        return not bool(out.all())
    return not math.isfinite(float(out.sum()))


def _watch(recorder: Recorder, call: TorchCall, node: Any, judge: Judge, name: str) -> None:
    location = location_of(recorder.locator.frame(sys._getframe()))
    op, path = NAMES.get(call.op, call.op), recorder.modules.current.path
    inputs = recorder.origins.union(tensors_in((call.args, call.kwargs)))
    found: list[int] = []

    def look(given: Gradients, received: Gradients) -> None:
        if recorder.in_backward and (number := judge(given, received)):
            found.append(number)

    def write(step: int) -> None:
        if not found:
            return
        key = (name, op, path, location)
        site = recorder.sites.get(key) or recorder.sites.create(key, Kind.OPERATION, op, path, location)
        recorder.trace.add_scalar(step, site.index, name, sum(found))
        recorder.trace.add_vector(step, site.index, "inputs", inputs)
        if name == "made_nonfinite":
            recorder.trace.add_scalar(step, site.index, "reached", float(recorder.parameters.any_nonfinite_gradient()))

    node.register_hook(lambda given, received: recorder.guard(look, given, received))
    recorder.later(write)


def _made_nonfinite(given: Gradients, received: Gradients) -> int:
    """Return how many elements a node made NaN or infinite of a gradient that was finite."""
    if not all(bool(g.isfinite().all()) for g in received if g is not None):
        return 0
    return sum(int(g.numel() - g.isfinite().sum()) for g in given if g is not None)


def _stopped(given: Gradients, received: Gradients) -> int:
    """Return how many elements of a gradient a node made zero, when it was given one that was not."""
    if not any(bool(torch.any(g)) for g in received if g is not None):
        return 0
    return sum(g.numel() for g in given if g is not None and not bool(torch.any(g)))


SINGULAR = (
    *NAMES,
    "sqrt",
    "rsqrt",
    "log",
    "log2",
    "log10",
    "log1p",
    "div",
    "true_divide",
    "reciprocal",
    "pow",
    *_EDGES,
)
STOPS = ("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "bernoulli", "normal", "poisson")
LOOKS = {
    **dict.fromkeys(SINGULAR, note_singular),
    **dict.fromkeys(STOPS, note_stop),
    "grid_sample": note_sampling,
}
