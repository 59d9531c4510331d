"""L015. After https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html (`reduction`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.objective import HAND_WRITTEN, factors, is_scale_free, is_steady, main_loss
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough, span
from unstuck.trace import Kind, Signal, Site, Trace

MIN_FACTOR = 8.0  # terms (1); a smaller batch is as often summed on purpose
TERMS_SHARE = (0.6, 1.02)  # of the targets' elements (1): all but ignored ones; a sum over features has at most half
MAX_RATIO = 3.5e-2  # update-to-data ratio (1), as U001: below it a sum has been allowed for by the learning rate
FIRST_STEP = 1  # step; the first update starts momentum


class SumReduction(Rule):
    """The loss is a sum over the batch: gradients are larger than those of the mean by the number of its terms.

    ## What it does
    Divides the value on which backward is called by the mean loss per term of the known losses that made it. It fires
    when that factor is the number of the targets' elements (at least 8), when the optimizer's updates depend on the
    scale of the loss, and when they are oversized: the median update-to-data ratio of a weight (below the output
    layer, which learns fastest) is above 0.035, or the loss is no longer finite.

    ## Why is this bad
    The learning rate is multiplied by the size of the batch, and changes with it: the last, smaller batch of an epoch
    counts less. Rates that are usual for mean losses overshoot.

    ## Evidence
    The factor, and the largest median update-to-data ratio of a weight.

    ## Stays silent on
    Mean losses; sums over features or pixels with a mean over the batch; sums divided by something; Adam and its
    kind, whose updates do not depend on the scale of the loss; learning rates small enough for the sum; objectives with
    further terms.

    ## Example
        loss = F.cross_entropy(logits, y, reduction="sum")  # SGD, lr=0.1

    ## Fix
    `reduction="mean"`, or divide the learning rate by the size of the batch.

    ## References
    - torch.nn.CrossEntropyLoss, https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html
    """

    code = "L015"
    name = "sum-reduction"
    stage = Stage.LOSS
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.LOSS_CALL)
    explains = ("A001", "A002", "A003", "G002", "U001", "L011", "L012", "L013", "L014")
    min_factor = Threshold(MIN_FACTOR, "terms of the sum")
    max_ratio = Threshold(MAX_RATIO, "update-to-data ratio")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the objective as a whole: a sum of several losses has one factor."""
        loss = main_loss(trace)
        steps, values = factors(trace)
        if loss is None or loss.op == HAND_WRITTEN or is_scale_free(trace) or not seen_enough(trace, len(steps)):
            return
        elements = dict(trace.scalars(loss, "target_elements"))
        shares = np.array([f / elements[step] for step, f in zip(steps, values, strict=True) if elements.get(step)])
        if not len(shares):
            return
        factor, ratio = float(np.median(values)), _largest_ratio(trace)
        summed = is_steady(shares) and TERMS_SHARE[0] <= float(np.median(shares)) <= TERMS_SHARE[1]
        broken = any(not np.isfinite(value) for value in trace.objective.values())
        if not summed or factor < self.min_factor or not (broken or ratio > self.max_ratio):
            return
        yield self._report(loss, span(steps), factor, ratio)

    def _report(self, loss: Site, steps: tuple[int, int], factor: float, ratio: float) -> Finding:
        return self.finding(
            loss,
            steps=steps,
            measured=factor,
            threshold=self.min_factor,
            unit="times the mean loss",
            message=(
                f"backward is called on the sum of {factor:.3g} terms, whose gradient is {factor:.3g} times that of "
                f"their mean, and an update changes a weight by {ratio:.2g} of its values"
            ),
            evidence=(Evidence("largest median update-to-data ratio", ratio),),
        )


def _largest_ratio(trace: Trace) -> float:
    """Return the largest median update-to-data ratio of a weight matrix; 0 when none was measured often enough.

    Output layers, which start small and learn fastest, count where there are no others.
    """
    graph = Graph(trace)
    found: dict[bool, list[float]] = {False: [], True: []}
    for site in trace.of_kind(Kind.PARAMETER):
        steps, ratios = trace.update_to_data(site)
        ratios = ratios[steps >= FIRST_STEP]
        owner = trace.sites[site.owner] if site.owner is not None else None
        layer = owner is not None and owner.kind is Kind.WEIGHT_LAYER and site.slot == "weight"
        if owner is not None and layer and len(site.shape) > 1 and len(ratios) and seen_enough(trace, len(ratios) + 1):
            found[graph.is_output_layer(owner)].append(float(np.median(ratios)))
    return max(found[False] or found[True], default=0.0)
