"""L002. After https://karpathy.github.io/2019/04/25/recipe/ ("verify loss @ init", "input-independent baseline")."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding
from unstuck.rules.loss.unnormalised_log_probs import normalised_elsewhere
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MAX_SHARE = 0.5  # of the baseline; working programs of the zoo start at 0.79 of it or above, leaks below 0.04
MIN_AMONG_DATA = 0.99  # of a regression's targets; a series predicted from its past has its last value nowhere
MIN_DISTINCT = 0.5  # of the targets occur once: coarse numbers (8-bit pixels) are found in any data
MIN_REPEATED = 0.1  # of the rows of one batch are in another one too; examples drawn apart share none
MAX_IDENTITY = 0.5  # of the targets are the ids at the same place: what L018 judges
CLASSIFICATIONS = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")
REGRESSIONS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
HEADS = frozenset({Kind.SOFTMAX, Kind.ACTIVATION, Kind.DROPOUT})


class TooGoodStart(Rule):
    """The first loss is far below what an untrained network can reach: it is shown the answers.

    ## What it does
    Compares each loss at step 0 with the best that predictions can do which do not depend on the input: class
    frequencies, or the mean of each column of targets. It fires below half of that, where a learnt layer makes a
    classification's scores, or where the answers are found in the data of the same step: rows of one batch in another
    (neighbours that include the question itself), or all the targets of a regression among its inputs.

    ## Why is this bad
    A network that has learnt nothing can only be right by copying. What it will do without the answers is not learnt,
    and the loss says nothing about it.

    ## Evidence
    The loss at step 0, the baseline, and how much of the answers was found in the data.

    ## Stays silent on
    Runs that loaded weights; output biases set to the class frequencies; regressions that start from a good guess (a
    denoiser or forecast that adds to its input) without the targets themselves; views of one example that are compared
    with each other (each label occurs once); token sequences whose targets are their inputs, which are judged by L018;
    scores that the program normalises apart from the loss call.

    ## Example
        restored = images + net(torch.cat([images, mask], 1))  # the images were to be hidden where mask is 0
        loss = F.mse_loss(restored[mask == 0], images[mask == 0])

    ## Fix
    Look for the target among the inputs: a mask that was not applied, a column too many, examples that are compared
    with themselves.

    ## References
    - A Recipe for Training Neural Networks, https://karpathy.github.io/2019/04/25/recipe/
    - Kaufman et al. 2012, Leakage in Data Mining, https://doi.org/10.1145/2382577.2382579
    """

    code = "L002"
    name = "too-good-start"
    stage = Stage.LOSS
    needs = (Signal.START, Signal.LOSS_CALL)
    max_share = Threshold(MAX_SHARE, "of the baseline")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a loss at step 0 that the targets' averages can be put into."""
        if missing := super().lacking(trace):
            return missing
        judged = [site for site in trace.of_kind(Kind.LOSS) if _start(trace, site) is not None]
        return None if judged else "a loss with a known baseline at the first step"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each loss by the mean of its calls at step 0."""
        if trace.facts.weights_loaded:
            return
        for site in trace.of_kind(Kind.LOSS):
            start = _start(trace, site)
            if start is None or not start[0] < self.max_share * start[1]:
                continue
            reason = _reason(trace, site)
            if reason is not None:
                value, baseline = start
                yield self.finding(
                    site,
                    steps=(0, 0),
                    measured=value,
                    threshold=self.max_share * baseline,
                    unit="loss",
                    message=f"loss starts at {value:.3g}, where {baseline:.3g} is the best without looking at the input"
                    + reason[0],
                    evidence=(Evidence("baseline", baseline, "loss"), *reason[1]),
                )


def _start(trace: Trace, site: Site) -> tuple[float, float] | None:
    """Return the loss at step 0 and the lower of its two baselines."""
    if site.op not in (*CLASSIFICATIONS, *REGRESSIONS):
        return None
    pairs = [(c.value, c.baseline) for c in trace.loss_at_start() if c.site == site.index and c.baseline is not None]
    constant = trace.scalar(site, "constant_baseline")
    if not pairs or constant is None:
        return None
    value, baseline = (sum(numbers) / len(pairs) for numbers in zip(*pairs, strict=True))
    baseline = min(baseline, constant)
    return (value, baseline) if math.isfinite(value) and math.isfinite(baseline) and baseline > 0 else None


def _reason(trace: Trace, site: Site) -> tuple[str, tuple[Evidence, ...]] | None:
    """Return why so low a start is no good guess, as the end of a sentence and as evidence; None when it may be one."""
    if (trace.scalar(site, "identity_share") or 0.0) > MAX_IDENTITY or normalised_elsewhere(trace, site):
        return None
    repeated = trace.scalar(site, "rows_repeated") or 0.0
    if site.op in REGRESSIONS:
        among, distinct = trace.scalar(site, "target_among_data") or 0.0, trace.scalar(site, "target_distinct") or 0.0
        if among < MIN_AMONG_DATA or distinct < MIN_DISTINCT:
            return None
        text = f"; {among:.0%} of the targets are among the network's inputs"
        return text, (Evidence("targets among the inputs", 100 * among, "%"),)
    if repeated >= MIN_REPEATED:
        text = f"; {repeated:.0%} of the rows of one input are rows of another one too"
        return text, (Evidence("rows of one input in another", 100 * repeated, "%"),)
    return ("", ()) if _has_head(trace, site) and not _tells_examples_apart(trace, site) else None


def _has_head(trace: Trace, loss: Site) -> bool:
    """Tell whether a weight layer makes the scores, with at most a softmax, activation or dropout in between."""
    sources = trace.producers(loss)
    behind = [s for source in sources if source.kind in HEADS for s in trace.producers(source)]
    return any(site.kind is Kind.WEIGHT_LAYER for site in (*sources, *behind))


def _tells_examples_apart(trace: Trace, loss: Site) -> bool:
    """Tell whether the labels number the examples: each occurs once."""
    counts = [vector for step, vector in trace.vectors(loss, "label_counts") if step == 0]
    return any(float(np.max(vector)) <= 1.0 for vector in counts)
