"""The labels that a classification loss was given, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unstuck.rules.inputs import heads
from unstuck.trace import Kind, Site, Trace

CLASS_LOSSES = frozenset({"cross_entropy", "nll_loss"})
BINARY_LOSSES = frozenset({"binary_cross_entropy", "binary_cross_entropy_with_logits"})
BINARY = {0.0, 1.0}  # what labels of a binary loss may be

Integers = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """The labels of one sampled step: their number, the one class they all belong to if they do, all classes seen."""

    step: int
    number: int
    only: int | None
    classes: frozenset[int]


def labelled(trace: Trace) -> Iterator[tuple[Site, Site, list[Batch]]]:
    """Yield losses, the layer that makes their predictions, and the labels by step.

    Left out are losses whose predictions no weight layer makes (similarities that are compared with each other have
    labels that say nothing), of one class, and binary ones whose targets are not all 0 or 1.
    """
    for loss in trace.of_kind(Kind.LOSS):
        made_by = heads(trace, loss)
        batches = _batches(trace, loss) if made_by else []
        if batches:
            yield loss, made_by[0], batches


def _batches(trace: Trace, loss: Site) -> list[Batch]:
    if loss.op in CLASS_LOSSES:
        return [_counted(step, counts) for step, counts in trace.vectors(loss, "label_counts") if len(counts) > 1]
    if loss.op not in BINARY_LOSSES:
        return []
    numbers, highest = (dict(trace.scalars(loss, f"target_{name}")) for name in ("elements", "max"))
    found = []
    for step, low in trace.scalars(loss, "target_min"):
        ends = {low, highest[step]}
        if not ends <= BINARY:
            return []
        classes = frozenset(int(end) for end in ends)
        found.append(Batch(step, int(numbers[step]), min(classes) if len(classes) == 1 else None, classes))
    return found


def _counted(step: int, counts: npt.NDArray[np.float64]) -> Batch:
    classes = np.flatnonzero(counts)
    return Batch(step, int(counts.sum()), int(classes[0]) if len(classes) == 1 else None, frozenset(classes.tolist()))
