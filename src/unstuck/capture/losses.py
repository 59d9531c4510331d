"""Handlers of losses: their value, and the baseline by the same call on uninformative predictions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.graph import Origin
from unstuck.capture.recorder import Recorder
from unstuck.capture.repairs import handover, note_mended
from unstuck.trace import Edge, Kind, LossCall


def before_loss(recorder: Recorder, call: TorchCall) -> TorchCall | None:
    """Find the loss's place; let a repairer change the output layer."""
    value = call.input
    recorder.running = None
    if not isinstance(value, Tensor) or (recorder.origins.of(value) is None and not value.requires_grad):
        return None
    site = recorder.running = recorder.site(Kind.LOSS, call.op)
    recorder.connect(site, value)
    handed = handover(recorder, site, value) if call.op in functions.LOGIT_LOSSES else None
    if handed is None or recorder.intervention is None:
        return None

    def loss(predictions: Tensor) -> Tensor:
        other = call.with_input(predictions)
        return torch.as_tensor(other.func(*other.args, **other.kwargs)) / terms

    terms = functions.terms(call.op, call.args, call.kwargs)
    baseline = functions.baseline(call.op, call.func, call.args, call.kwargs)
    baseline = None if baseline is None else baseline / terms
    target = call.arg(1, "target")
    known = target.detach() if isinstance(target, Tensor) else None
    changed = recorder.intervention.before_loss(recorder.trace, handed, loss, baseline, known)
    if changed is None:
        return None
    note_mended(recorder, handed)
    return call.with_input(changed)


def after_loss(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record the loss's value and baseline."""
    site, recorder.running = recorder.running, None
    if site is None or not isinstance(out, Tensor):
        return False
    terms = functions.terms(call.op, call.args, call.kwargs)  # a sum is judged by its mean
    value = float(out.detach().double().mean()) / terms
    baseline = functions.baseline(call.op, call.func, call.args, call.kwargs)
    baseline = None if baseline is None else baseline / terms
    recorder.watch_gradient(site, out, record=False)
    recorder.later(lambda step: recorder.trace.loss_calls.append(LossCall(step, site.index, value, baseline)), site)
    recorder.origins.set(out, Origin((site.index,)))
    return True


def note_objective(recorder: Recorder, tensor: Tensor, value: float) -> None:
    """Record a loss written by hand: the tensor `backward` is called on when no known loss made it.

    Its baseline is ln(classes) when a log-softmax, and nothing else, feeds it.
    """
    origin = recorder.origins.of(tensor)
    if origin is None:
        return
    losses = [i for i in origin.sites if recorder.trace.sites[i].kind is Kind.LOSS]
    if losses:  # what else is part of the objective (a penalty) feeds the loss
        recorder.trace.edges.update(Edge(i, losses[0], direct=False) for i in origin.sites if i not in losses)
        return
    site = recorder.site(Kind.LOSS, "objective")
    recorder.connect(site, tensor)
    sources = [recorder.trace.sites[i] for i in origin.sites]

    def write(step: int) -> None:
        baseline = None
        if len(sources) == 1 and sources[0].op == "log_softmax":
            classes = recorder.trace.scalar(sources[0], "classes", step)
            baseline = math.log(classes) if classes else None
        recorder.trace.loss_calls.append(LossCall(step, site.index, value, baseline))

    recorder.later(write)
