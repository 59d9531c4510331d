"""What the value that backward is called on is made of: the questions that rules about the loss share."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from unstuck.trace import Kind, Site, Trace
from unstuck.trace.trace import Series

HAND_WRITTEN = "objective"  # the op of a loss that is no call of torch.nn.functional
STEADY = 0.02  # of the median factor (1); bfloat16 keeps values to 0.4 %, and the objective may be in it


STEADY_SHARE = 0.9  # of the steps (1); the last batch of an epoch may differ
MOVED = 0.5  # standard deviations of the targets; labels of shuffled batches of 16 move by 0.25 of one
WIDENED = 1.5  # times; the standard deviation of shuffled batches of 16 changes by 1.2 times
SCALE_FREE = frozenset(
    {"Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam", "RMSprop", "Rprop", "Adagrad", "Adadelta", "Adafactor"}
)
"""Optimizers whose updates stay the same when the loss is multiplied by a constant, but for eps."""


def is_scale_free(trace: Trace) -> bool:
    """Tell whether every optimizer of the run divides gradients by their own size."""
    optimizers = trace.of_kind(Kind.OPTIMIZER)
    return bool(optimizers) and all(site.op in SCALE_FREE for site in optimizers)


def totals(trace: Trace) -> dict[int, float]:
    """Return, by sampled step, the sum of all calls of known losses."""
    found: dict[int, float] = defaultdict(float)
    for call in trace.loss_calls:
        if trace.sites[call.site].op != HAND_WRITTEN:
            found[call.step] += call.value
    return dict(found)


def factors(trace: Trace) -> Series:
    """Return (steps, objective / sum of known losses) at the sampled steps where both are finite and the sum positive.

    A known loss that is handed to backward as it is has the factor 1 throughout, one divided for accumulation 1 / k,
    one that is summed the number of its terms, minus a loss -1.
    """
    pairs = [
        (step, trace.objective[step] / total)
        for step, total in sorted(totals(trace).items())
        if step in trace.objective and np.isfinite(total) and total > 0 and np.isfinite(trace.objective[step])
    ]
    return np.array([s for s, _ in pairs], dtype=np.int64), np.array([f for _, f in pairs], dtype=np.float64)


def is_steady(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    """Tell whether at least nine in ten factors lie within 2 % of their median."""
    if not len(values):
        return False
    middle = float(np.median(values))
    return float(np.mean(np.abs(values - middle) <= STEADY * abs(middle))) >= STEADY_SHARE


def main_loss(trace: Trace) -> Site | None:
    """Return the loss that the run is about: the one called at most steps, then the last one."""
    calls: dict[int, set[int]] = defaultdict(set)
    for call in trace.loss_calls:
        calls[call.site].add(call.step)
    index = max(calls, key=lambda i: (len(calls[i]), trace.sites[i].order), default=None)
    return None if index is None else trace.sites[index]


def several_objectives(trace: Trace) -> bool:
    """Tell whether backward is called in several places, or optimizers step by turns, as in a GAN."""
    if len(trace.of_kind(Kind.BACKWARD)) > 1:
        return True
    steps = [
        {step for step, _ in trace.scalars(site, "lr")} for site in trace.of_kind(Kind.OPTIMIZER) if not site.ordinal
    ]
    return any(a.isdisjoint(b) for i, a in enumerate(steps) for b in steps[:i] if a and b)


def curve(trace: Trace) -> Series:
    """Return (steps, values) of the objective at all steps where it is known and finite."""
    pairs = [(step, value) for step, value in sorted(trace.objective.items()) if np.isfinite(value)]
    return np.array([s for s, _ in pairs], dtype=np.int64), np.array([v for _, v in pairs], dtype=np.float64)


def targets_move(trace: Trace, loss: Site) -> bool:
    """Tell whether a loss's targets differ between the first and the last third of the run, as values of RL do.

    They do when their mean moves by more than half their standard deviation, or that changes by more than 1.5 times.
    """
    means, stds = (np.array([v for _, v in trace.scalars(loss, f"target_{name}")]) for name in ("mean", "std"))
    third = len(means) // 3
    if not third or len(stds) != len(means):
        return False
    first, last = (float(np.median(means[part])) for part in (slice(None, third), slice(-third, None)))
    before, after = (float(np.median(stds[part])) for part in (slice(None, third), slice(-third, None)))
    widths = sorted((before, after))
    return abs(last - first) > MOVED * max(widths) or widths[1] > WIDENED * widths[0]


def prior_entropy(trace: Trace, loss: Site) -> tuple[float, float] | None:
    """Return (the loss, in nats, of a uniform guess, that of guessing by the labels' frequencies), where known.

    None where classes are weighted. The entropy is corrected for its bias on few labels (Miller 1955: half a nat for
    each class but one, divided by the number of labels).
    """
    if any(value for _, value in trace.scalars(loss, "weighted")):
        return None
    counts = [vector for _, vector in trace.vectors(loss, "label_counts")]
    if counts and all(len(vector) == len(counts[0]) for vector in counts):
        labels = max(1.0, float(np.sum(counts)))
        shares = np.sum(counts, axis=0) / labels
        shares = shares[shares > 0]
        entropy = float(-(shares * np.log(shares)).sum()) + (len(shares) - 1) / (2.0 * labels)
        return math.log(len(counts[0])), entropy
    means = [value for _, value in trace.scalars(loss, "target_mean")]
    if loss.op.startswith("binary_cross_entropy") and means and 0.0 < (p := float(np.mean(means))) < 1.0:
        return math.log(2.0), -p * math.log(p) - (1.0 - p) * math.log(1.0 - p)
    return None
