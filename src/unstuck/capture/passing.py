"""Handlers of what stands between layers: views and casts, dropout, softmax, and everything else."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.graph import Origin, Replay, tensors_in
from unstuck.capture.recorder import Recorder
from unstuck.capture.schedule import FIRST_STEPS
from unstuck.capture.wrappers import plain
from unstuck.trace import Kind

SCALINGS = frozenset({"mul", "multiply", "__mul__", "__rmul__", "div", "true_divide", "__truediv__"})
LOGS = frozenset({"log", "log2", "log10", "log1p", "logit"})
FLIPS = frozenset({"t", "T", "mT", "H", "mH", "transpose", "permute", "swapaxes", "swapdims"})


def after_transparent(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """What follows a view or cast follows what came before it; a view of a parameter stands for the parameter."""
    value = call.args[0] if call.args else None
    if not isinstance(value, Tensor) or not isinstance(out, Tensor):
        return False
    leaf, transposed = recorder.parameters.leaf_of(value, recorder.origins)
    if leaf is not None:
        recorder.origins.set(out, Origin(leaf=leaf, transposed=transposed != (call.op in FLIPS)))
        return True
    origin = recorder.origins.of(value)
    if origin is None:
        return False
    unit_dim = origin.unit_dim if call.op in functions.KEEPS_UNIT_DIM else -1
    recorder.origins.set(out, recorder.extended(origin, call, 0, unit_dim))
    return True


def after_part(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """A part of a parameter (one of three stacked projections, say) stands for the parameter."""
    leaf, transposed = recorder.parameters.leaf_of(call.args[0] if call.args else None, recorder.origins)
    if leaf is None:
        return False
    for part in tensors_in((out,)):
        recorder.origins.set(part, Origin(leaf=leaf, transposed=transposed))
    return True


def after_dropout(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record dropout; what follows it follows the layer before it as well."""
    origin = recorder.origins.of(call.input)
    if origin is None or not isinstance(out, Tensor):
        return False
    site = recorder.site(Kind.DROPOUT, call.op, call.input)
    recorder.connect(site, call.input)
    recorder.origins.set(out, Origin((*origin.sites, site.index), origin.direct, unit_dim=origin.unit_dim))
    return True


def after_softmax(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record a softmax or log-softmax and over how many classes it goes."""
    x = call.input
    origin = recorder.origins.of(x)
    if origin is None or not isinstance(out, Tensor):
        return False
    site = recorder.site(Kind.SOFTMAX, call.op, x)
    recorder.connect(site, x)
    dim = call.arg(1, "dim")
    classes = x.shape[dim] if isinstance(dim, int) and x.dim() else x.numel()
    recorder.later(lambda step: recorder.trace.add_scalar(step, site.index, "classes", classes), site)
    replay = recorder.replay(call, 0, origin.replay) if call.args and origin.direct else None
    recorder.origins.set(out, Origin((site.index,), replay=replay))
    return True


def after_writing(recorder: Recorder, call: TorchCall, _out: Any) -> bool:
    """What is written into a part of a tensor is, indirectly, among what that tensor came from."""
    target = call.args[0] if call.args else None
    sites = recorder.origins.union(tensors_in(call.args))
    if isinstance(target, Tensor) and sites:
        recorder.origins.set(target, Origin(sites, direct=False))
    return True


def after_attention(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record a fused attention; queries, keys and values are its inputs."""
    if not isinstance(out, Tensor) or recorder.origins.of(call.input) is None:
        return False
    site = recorder.site(Kind.ATTENTION, call.op)
    recorder.connect(site, *call.args, *call.kwargs.values())
    recorder.watch_output(site, out)
    recorder.origins.set(out, Origin((site.index,)))
    return True


def after_custom(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record a `torch.autograd.Function`: a site whose function is not known and not guessed."""
    if not recorder.origins.union(tensors_in((call.args,))):
        return False
    site = recorder.site(Kind.CUSTOM, call.op)
    recorder.connect(site, *call.args)
    for tensor in tensors_in((out,)):
        recorder.watch_output(site, tensor)
        recorder.origins.set(tensor, Origin((site.index,)))
    return True


def after_other(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Any other operation: what it makes comes, indirectly, from all that its inputs came from.

    In the first steps an operation that makes NaN or +inf of finite inputs, in a module of data too, becomes a site of
    its own (-inf alone is what masks are made of; a logarithm's of anything but zeros and ones counts).
    """
    if call.op.endswith("_like") or call.op.startswith("new_"):
        return False  # made from a shape alone
    sites = recorder.origins.union(tensors_in((call.args, call.kwargs)))
    inside = bool(sites or recorder.modules.current.kind)  # what a loop does to its data is D002's
    if inside and recorder.step < FIRST_STEPS and plain(out) and out.is_floating_point() and _breaks(call, out):
        site = recorder.site(Kind.OPERATION, call.op)
        recorder.connect(site, call.args)
        recorder.watch_output(site, out)
        sites = (*sites, site.index)
    if not sites:
        return False
    replay = _scaled(recorder, call)
    for tensor in tensors_in((out,)):
        if tensor.is_floating_point() or tensor.is_complex():  # indices and masks carry no gradient
            recorder.origins.set(tensor, Origin(sites, direct=False, replay=replay))
    return True


def _scaled(recorder: Recorder, call: TorchCall) -> Replay | None:
    """Return how to make what is a tensor times a number again, while that may be needed."""
    number = len(call.args) == 2 and not call.kwargs and isinstance(call.args[1], int | float)
    origin = recorder.origins.of(call.args[0]) if number and call.op in SCALINGS else None
    return None if origin is None or origin.replay is None else recorder.replay(call, 0, origin.replay)


def _breaks(call: TorchCall, out: Tensor) -> bool:
    """Tell whether a call broke the numbers of finite inputs; a sum is finite when all it adds is, which is quick."""
    if math.isfinite(float(out.detach().sum())):
        return False
    values = out.detach()
    inputs = [t.detach() for t in tensors_in((call.args, call.kwargs))]
    if not inputs or not all(plain(t) and bool(t.isfinite().all()) for t in inputs):
        return False
    if bool((values.isnan() | values.isposinf()).any()):
        return True
    return call.op in LOGS and not all(bool(((t == 0) | (t == 1)).all()) for t in inputs)
