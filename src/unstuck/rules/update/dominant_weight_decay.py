"""U006. After Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.updates import loss_at_ends, weight_matrices
from unstuck.rules.window import MIN_SAMPLED_STEPS
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_DECAY = 10.0  # times the gradient part of an update; zoo: 250 and more where decay wins, below 1 elsewhere
MIN_SHARE = 0.5  # of an optimizer's weight matrices that decay must rule
MAX_KEPT = 0.5  # of a weight's first rms (1); decay that is no more than a brake leaves more
MIN_LEFT = 0.5  # of the loss at the beginning (1); a network that has learned has small gradients, so that decay rules


class Balance(NamedTuple):
    """A weight matrix: the decay part of its update over the gradient part, and the share of its size that is left."""

    weight: Site
    decay: float
    kept: float


class DominantWeightDecay(Rule):
    """Weight decay moves the weights more than the gradient does, and shrinks them away.

    ## What it does
    Compares the two parts of each update for every weight matrix under an optimizer with weight decay: λ·w against
    the gradient for decay within the gradient (SGD, Adam), lr·λ·w against the rest of the update for decoupled decay
    (AdamW). It fires when, for more than half of an optimizer's matrices, the decay part is more than 10 times the
    gradient's in the median over the sampled steps of the second half of the run (four at least) and the matrix has
    lost half of its size, while the loss has not fallen by half. It points at the call of `optimizer.step()`.

    ## Why is this bad
    Whatever the gradient says, the weights go to zero, and with them the signal: activations and gradients vanish, and
    the network gives one answer for all inputs.

    ## Evidence
    The median over the matrices of decay to gradient, the number of matrices ruled by decay, how much of their size is
    left, and the weight decay itself.

    ## Stays silent on
    Networks that have learned, whose gradients are small; weights that keep their size; weights before a norm that
    decay to a balance while the loss falls; steps whose gradient is exactly zero (A003, G004).

    ## Example
        torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=0.3)  # a usual value for AdamW, not for Adam

    ## Fix
    Lower the weight decay (1e-4 to 5e-4 is usual for SGD), or use AdamW, in which it does not pass through the
    gradient's scale; leave biases and gains of norms out of it.

    ## References
    - Decoupled weight decay regularization, https://arxiv.org/abs/1711.05101
    - torch.optim.SGD, https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
    """

    code = "U006"
    name = "dominant-weight-decay"
    stage = Stage.UPDATE
    severity = Severity.ERROR
    needs = (Signal.UPDATES, Signal.LOSS_VALUES)
    explains = ("A002", "A003", "A007", "G001", "G004", "L003", "L013", "N009", "U002", "U003")
    max_decay = Threshold(MAX_DECAY, "times the gradient part of an update")
    max_kept = Threshold(MAX_KEPT, "of a weight's first rms")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an optimizer whose weight decay is known."""
        if missing := super().lacking(trace):
            return missing
        known = any(trace.scalars(site, "weight_decay") for site in trace.of_kind(Kind.OPTIMIZER))
        return None if known else "an optimizer with a weight_decay setting"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each parameter group."""
        early, late = loss_at_ends(trace)
        if not late > early - MIN_LEFT * abs(early):
            return
        for optimizer in trace.of_kind(Kind.OPTIMIZER):
            decay = [value for _, value in trace.scalars(optimizer, "weight_decay")]
            if not decay or max(decay) <= 0:
                continue
            members = [weight for weight in weight_matrices(trace) if weight.index in optimizer.parameters]
            balances = [balance for weight in members for balance in [_balance(trace, optimizer, weight)] if balance]
            ruled = [b for b in balances if b.decay > self.max_decay and b.kept < self.max_kept]
            if ruled and len(ruled) > MIN_SHARE * len(balances):
                yield self._report(trace, optimizer, decay[-1], ruled, len(balances))

    def _report(self, trace: Trace, optimizer: Site, decay: float, ruled: list[Balance], number: int) -> Finding:
        measured = float(np.median([balance.decay for balance in ruled]))
        kept = float(np.median([balance.kept for balance in ruled]))
        return self.finding(
            optimizer,
            steps=(trace.steps[0], trace.steps[-1]),
            measured=measured,
            threshold=self.max_decay,
            unit="times",
            message=(
                f"weight decay of {decay:g} moves {len(ruled)} of {number} weight matrices {measured:,.3g} times as "
                f"far as their gradients do, and has left {100 * kept:.2g} % of their size"
            ),
            evidence=(
                Evidence("weight matrices ruled by decay", float(len(ruled)), f"of {number}"),
                Evidence("weight decay", decay),
                Evidence("size left", kept),
            ),
        )


def _balance(trace: Trace, optimizer: Site, weight: Site) -> Balance | None:
    """Return how a matrix stands between decay and gradient; None when too few steps tell."""
    values = dict(trace.summaries(weight, Role.VALUE))
    shares = {step: _decay_share(trace, optimizer, weight, step, value.rms) for step, value in values.items()}
    known = [(step, share) for step, share in sorted(shares.items()) if share is not None]
    if len(known) < MIN_SAMPLED_STEPS or not values[min(values)].rms:
        return None
    late = [share for step, share in known if 2 * step >= known[-1][0]]
    late = late if len(late) >= MIN_SAMPLED_STEPS else [share for _, share in known[-MIN_SAMPLED_STEPS:]]
    return Balance(weight, float(np.median(late)), values[max(values)].rms / values[min(values)].rms)


def _decay_share(trace: Trace, optimizer: Site, weight: Site, step: int, value: float) -> float | None:
    """Return the decay part of one update over its gradient part."""
    decay = trace.scalar(optimizer, "weight_decay", step)
    gradient = trace.summary(weight, Role.GRADIENT, step)
    if decay is None or gradient is None or not gradient.rms > 0:
        return None
    if not trace.scalar(optimizer, "decoupled", step):
        return decay * value / gradient.rms
    rate, update = trace.scalar(optimizer, "lr", step), trace.summary(weight, Role.UPDATE, step)
    if not rate or update is None:
        return None
    part = rate * decay * value
    rest = math.sqrt(abs(update.rms**2 - part**2))
    return part / rest if rest > 0 else None
