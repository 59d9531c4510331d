"""Handlers of activation functions: measured before they run, since in-place forms destroy their input."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.graph import NOWHERE, Origin
from unstuck.capture.recorder import Recorder
from unstuck.capture.repairs import handover, note_mended
from unstuck.trace import Kind


def before_activation(recorder: Recorder, call: TorchCall) -> TorchCall | None:
    """Measure the pre-activation; let a repairer change the layer before it."""
    function = functions.activation(call.op, call.args, call.kwargs)
    value = call.input
    recorder.running = None
    if function is None or not isinstance(value, Tensor) or not value.is_floating_point():
        return None
    origin = recorder.origins.of(value)
    if origin is None and not value.requires_grad:
        return None
    site = recorder.running = recorder.site(Kind.ACTIVATION, call.op, value)
    site.interval, site.gain, site.bounded = function.interval, function.gain, function.bounded
    recorder.connect(site, value)
    changed = None
    handed = handover(recorder, site, value)
    if handed is not None and recorder.intervention is not None:
        changed = recorder.intervention.before_activation(recorder.trace, handed, function)
        if changed is not None:
            note_mended(recorder, handed)
    seen = value if changed is None else changed
    unit_dim = (origin or NOWHERE).unit_dim
    recorder.measure_input(site, seen, unit_dim, origin)
    return None if changed is None else call.with_input(changed)


def after_activation(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record the activation."""
    site, recorder.running = recorder.running, None
    if site is None or not isinstance(out, Tensor):
        return False
    unit_dim = (recorder.origins.of(call.input) or NOWHERE).unit_dim
    recorder.watch_gradient(site, out)
    recorder.origins.set(out, Origin((site.index,), unit_dim=unit_dim))
    return True
