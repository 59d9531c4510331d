"""Traces of what a network is given: inputs of layers and targets of losses, one array per step."""

import numpy as np
import torch

from unstuck.stats.reference import summarise
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, normal


def give(b, site, values, role=Role.INPUT, unit_dim=-1):
    """Record what a site is given; `values` is one array or a function of the step."""
    for step in b.steps:
        x = torch.as_tensor(values(step) if callable(values) else values)
        b.trace.add(step, site.index, role, summarise(x, unit_dim=unit_dim))


def fed(values, *, steps=range(10), kind=Kind.WEIGHT_LAYER, op="linear", fan_in=None):
    """A first layer with this data, and one after it."""
    b = TraceBuilder(steps)
    layer = b.site(kind, op, "fc1", fan_in=fan_in)
    give(b, layer, values)
    b.layer("fc2", after=layer)
    return b, layer


def classifier(op="cross_entropy", *, steps=range(10), head=None, trained=True, b=None, direct=True):
    """A loss on the output of a trained layer."""
    b = b or TraceBuilder(steps)
    if head is None:
        head = b.layer("head", weight=normal(0.1, 3, 5))
        b.record(b.trace.parameters_of(head)[0], Role.UPDATE, normal(0.01 if trained else 0.0, 3, 5))
    return b, b.loss(op, **{"after" if direct else "far": head}), head


def label(b, loss, batches, predicted=None, classes=3):
    """Give a loss these integer labels, one array per step, and predictions (the labels, unless told otherwise)."""
    for step, batch in zip(b.steps, batches, strict=True):
        guesses = batch if predicted is None else predicted
        for name, values in (("label_counts", batch), ("predicted_counts", guesses)):
            b.trace.add_vector(step, loss.index, name, np.bincount(np.asarray(values, dtype=int), minlength=classes))
    target(b, loss, batches)


def target(b, loss, batches):
    """Give a loss these targets, one array per step."""
    for step, batch in zip(b.steps, batches, strict=True):
        x = np.asarray(batch, dtype=float)
        numbers = {"min": x.min(), "max": x.max(), "mean": x.mean(), "std": x.std(), "elements": x.size}
        for name, value in numbers.items():
            b.scalar(loss, f"target_{name}", float(value), [step])
