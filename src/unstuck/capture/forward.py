"""The function mode: shows the torch calls of a forward pass to their handlers.

Rests on `torch.overrides.TorchFunctionMode` (https://docs.pytorch.org/docs/stable/torch.overrides.html), which sees
every call of torch's Python API: module forms, functional forms and operators on raw tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from unstuck.capture import functions
from unstuck.capture.activations import after_activation, before_activation
from unstuck.capture.call import TorchCall, op_name, plain_op, transformed
from unstuck.capture.checkpointing import SwitchedMode
from unstuck.capture.layers import (
    after_addition,
    after_einsum,
    after_embedding,
    after_norm,
    after_recurrent,
    after_weight_layer,
)
from unstuck.capture.losses import after_loss, before_loss
from unstuck.capture.passing import (
    after_attention,
    after_dropout,
    after_other,
    after_part,
    after_softmax,
    after_transparent,
    after_writing,
)
from unstuck.capture.probes import looks
from unstuck.capture.recorder import Recorder
from unstuck.capture.sampled import COMPOSITES, look_inside

KNOWN_FUNCTIONS = 4096  # torch has some 2,000; programs may bring their own
Before = Callable[[Recorder, TorchCall], TorchCall | None]
After = Callable[[Recorder, TorchCall, Any], bool]

INERT = frozenset(
    """
    __get__ __set__ dim size numel item stride is_contiguous storage data_ptr __len__ __repr__ __format__
    __bool__ __hash__ __eq__ tolist numpy is_floating_point is_complex backward register_hook element_size
    __iter__ detach_ zero_ fill_ normal_ uniform_ _set_grad_enabled set_grad_enabled shape dtype
    device grad data requires_grad is_leaf grad_fn layout ndim is_cuda is_cpu is_sparse is_quantized
    """.split()
)


READING = INERT - {"zero_", "fill_", "normal_", "uniform_", "__set__"}
"""What does not change a tensor's elements: after anything else a tensor may no longer be what it was."""


def _table(*rows: tuple[Any, Any]) -> dict[str, Any]:
    return {op: handler for ops, handler in rows for op in ops}


BEFORE: dict[str, Before] = _table(
    (functions.ACTIVATION_OPS, before_activation),
    (functions.LOSSES, before_loss),
)
AFTER: dict[str, After] = _table(
    (functions.TRANSPARENT_OPS, after_transparent),
    (functions.PART_OPS, after_part),
    (functions.ADDITIONS, after_addition),
    (functions.ACTIVATION_OPS, after_activation),
    (functions.WEIGHT_OPS, after_weight_layer),
    (functions.MATMUL_OPS, after_weight_layer),
    (functions.NORM_OPS, after_norm),
    (functions.RECURRENT_OPS, after_recurrent),
    (("einsum",), after_einsum),
    (functions.EMBEDDING_OPS, after_embedding),
    (functions.ATTENTION_OPS, after_attention),
    (("__setitem__", "copy"), after_writing),
    (functions.DROPOUT_OPS, after_dropout),
    (functions.SOFTMAX_OPS, after_softmax),
    (functions.LOSSES, after_loss),
)


def look_after(recorder: Recorder, call: TorchCall, out: Any) -> None:
    """Note what a call made."""
    recorder.made = recorder.running
    handler = AFTER.get(call.op)
    if handler is None or not handler(recorder, call, out):
        after_other(recorder, call, out)
    for look in looks(recorder.thorough).get(call.op, ()):
        look(recorder, call, out, recorder.made)
    if recorder.note_call is not None:
        recorder.note_call(call, out, recorder.made)


class _Seen(NamedTuple):
    """What is done about a function of torch."""

    op: str
    inert: bool  # nothing
    reads: bool  # it changes no tensor's elements, or is an activation function, whose handler knows what waits
    composite: bool
    before: Before | None


def _seen(func: Callable[..., Any]) -> _Seen:
    name = op_name(func)
    op = plain_op(name)
    reads = name in READING or op in functions.ACTIVATION_OPS
    return _Seen(op, name in INERT, reads, func in COMPOSITES, BEFORE.get(op))


class CaptureMode(SwitchedMode):
    """Shows each torch call of this thread to its handlers; `guard` runs our code so that its errors stay ours."""

    def __init__(self, recorder: Recorder, guard: Callable[..., Any]) -> None:
        super().__init__()
        self.recorder = recorder
        self.guard = guard
        self.active = True
        self._known: dict[Callable[..., Any], _Seen] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call, looking at it before and after."""
        kwargs = kwargs or {}
        seen = self._known.get(func) or self._learn(func)
        recorder = self.recorder
        if recorder.queue.waiting is not None and not seen.reads:
            self.guard(recorder.queue.settle)
        if seen.inert or not self.active or not (torch.is_grad_enabled() or recorder.log is not None):
            return func(*args, **kwargs)
        if transformed():
            return func(*args, **kwargs)
        if seen.composite:
            return look_inside(self, func, args, kwargs)
        call = TorchCall(seen.op, func, args, kwargs)
        if seen.before is not None:
            changed = self.guard(seen.before, recorder, call)
            call = call if changed is None else changed
        out = func(*call.args, **call.kwargs)
        self.guard(look_after, recorder, call, out)
        return out

    def _learn(self, func: Callable[..., Any]) -> _Seen:
        if len(self._known) > KNOWN_FUNCTIONS:
            self._known.clear()
        seen = self._known[func] = _seen(func)
        return seen
