"""U007. After Micikevicius et al. 2018, section 3.1, https://arxiv.org/abs/1710.03740."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.updates import optimizers, weight_matrices
from unstuck.rules.window import seen_enough, span
from unstuck.trace import Kind, Role, Signal, Site, Trace
from unstuck.trace.trace import Series

MAX_UNCHANGED = 50.0  # % of the elements that have a gradient; in float32 an update leaves under 1 % unchanged
PRECISION = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # half the distance of neighbours near 1 (1)

PLAIN_OPTIMIZERS = frozenset(
    "SGD Adam AdamW RMSprop Adagrad Adadelta Adamax NAdam RAdam ASGD Rprop LBFGS Muon Adafactor".split()
)
"""Those of torch: none keeps what rounding has lost, as others do (Kahan summation, stochastic rounding)."""


class RoundedAwayUpdates(Rule):
    """Weights are kept in 16 bits, and most of each update is too small to change them.

    ## What it does
    Takes, for each weight matrix in bfloat16 or float16, the share of the elements that have a gradient and are the
    same after an update that changed others, and fires when its median over the sampled steps is above 50 %.

    ## Why is this bad
    A bfloat16 number has 8 significant bits: an update below 1/512 to 1/256 of a weight's size is rounded to nothing,
    and usual updates are a thousandth. The largest weights cannot learn at all, whatever the number of steps.

    ## Evidence
    The share of unchanged elements, the median update-to-data ratio, and the precision of the type.

    ## Stays silent on
    Weights kept in float32, also where autocast computes in 16 bits or copies of them are made; elements without
    gradient, such as an embedding's unseen rows; updates that change nothing at all (a learning rate of 0); optimizers
    which are not torch's own, since they may keep what rounding loses.

    ## Example
        model = model.to(torch.bfloat16)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)

    ## Fix
    Keep the weights in float32 and compute under `torch.autocast`, or use an optimizer that keeps float32 copies or
    rounds stochastically.

    ## References
    - Mixed Precision Training, https://arxiv.org/abs/1710.03740
    - torch.amp, https://docs.pytorch.org/docs/stable/amp.html
    """

    code = "U007"
    name = "rounded-away-updates"
    stage = Stage.UPDATE
    severity = Severity.WARNING
    needs = (Signal.PARAMETER_GRADIENTS, Signal.UPDATES)
    explains = ("L013", "U002", "U003", "U005")
    max_unchanged = Threshold(MAX_UNCHANGED, "% of the elements with a gradient")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each weight matrix in 16 bits by its median share of unchanged elements."""
        known, any_optimizer = optimizers(trace), bool(trace.of_kind(Kind.OPTIMIZER))
        for weight in weight_matrices(trace):
            optimizer = known.get(weight.index)
            plain = optimizer.op in PLAIN_OPTIMIZERS if optimizer is not None else not any_optimizer
            if not plain or weight.dtype not in PRECISION:
                continue
            steps, shares = _unchanged(trace, weight)
            if not len(steps) or not seen_enough(trace, len(steps)):
                continue
            share = float(np.median(shares))
            if share <= self.max_unchanged:
                continue
            ratios = trace.update_to_data(weight)[1]
            first, last = span(steps)
            yield self.finding(
                weight,
                steps=(first, last),
                measured=share,
                threshold=self.max_unchanged,
                unit="%",
                message=(
                    f"{share:.0f} % of {weight.label} stays as it is in an update (median of steps {first} to {last}): "
                    f"it is kept in {weight.dtype}, where changes below {PRECISION[weight.dtype]:.2g} of a number are "
                    "rounded away"
                ),
                evidence=(
                    *([Evidence("update-to-data ratio", float(np.median(ratios)))] if len(ratios) else []),
                    Evidence("precision of the type", PRECISION[weight.dtype]),
                ),
            )


def _unchanged(trace: Trace, weight: Site) -> Series:
    """Return (steps, % of the elements with a gradient that an update which changed some left as they were)."""
    steps, zeros = trace.series(weight, Role.UPDATE, "zeros")
    counts = trace.series(weight, Role.UPDATE, "count")[1]
    without = {
        step: zero / max(1.0, count)
        for step, zero, count in zip(
            *trace.series(weight, Role.GRADIENT, "zeros"), trace.series(weight, Role.GRADIENT, "count")[1], strict=True
        )
    }
    judged = np.array([z < n and without.get(s, 1.0) < 1 for s, z, n in zip(steps, zeros, counts, strict=True)], bool)
    steps, shares = steps[judged], (zeros / np.maximum(counts, 1))[judged]
    idle = np.array([without[step] for step in steps.tolist()], dtype=np.float64)
    return steps, 100 * np.maximum(0.0, shares - idle) / (1 - idle)
