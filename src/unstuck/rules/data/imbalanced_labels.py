"""D006. After He and Garcia 2009, https://doi.org/10.1109/TKDE.2008.239."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.inputs import heads, is_trained
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.stats.summary import FloatArray
from unstuck.trace import Kind, Signal, Site, Trace

MAX_RATIO = 50.0  # times (1), of class frequencies; from there on the rarest class gets under 2 % of the loss's terms
MAJORITY = 0.8  # share of all labels; a constant guess of a smaller class has other causes; 0.989 in the faulty program
CONSTANT = 0.999  # share of all predictions; 1 in the faulty program of the tuned half
MIN_LABELS = 1_000  # labels; a class with a share of 2 % then has 20, give or take 5
MIN_STEP = 100  # step; a network that has only begun to learn predicts the largest class anyhow
MIN_BATCHES = 4  # sampled batches in the second half of the run


class ImbalancedLabels(Rule):
    """One class outnumbers another by more than fifty to one, and nothing else is ever predicted.

    ## What it does
    Counts labels and predictions (the largest logit) of `cross_entropy` and `nll_loss` over the sampled steps. It fires
    when the most frequent class has more than 50 times as many labels as the rarest one that occurs, and at least 80 %
    of all, and in the second half of the run, from step 100 on, 99.9 % of the predictions are that class.

    ## Why is this bad
    Each label has the same weight in the mean, so that a rare class hardly moves it. A network that always answers
    with the common class has a low loss and a high accuracy, and is of no use for what the rare class stands for.

    ## Evidence
    The ratio, the shares of the largest and of the rarest class, the share of the constant prediction.

    ## Stays silent on
    Networks that predict other classes too; vocabularies, whose most frequent symbol is far from 80 %; labels that are
    ignored by the loss; runs of fewer than 100 steps or 1,000 labels (reported as not checked).

    ## Example
        loss = F.cross_entropy(model(x), stolen)  # one payment in a hundred is stolen

    ## Fix
    Weight the classes (`weight=` of the loss), draw them equally often (`WeightedRandomSampler`), or, where the
    probabilities are right and only the decision is not, move its threshold.

    ## References
    - Learning from Imbalanced Data, https://doi.org/10.1109/TKDE.2008.239
    - torch.utils.data.WeightedRandomSampler, https://docs.pytorch.org/docs/stable/data.html
    """

    code = "D006"
    name = "imbalanced-labels"
    stage = Stage.DATA
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    explains = ("L013",)
    max_ratio = Threshold(MAX_RATIO, "times, of class frequencies")
    min_share = Threshold(MAJORITY, "of all labels, of the largest class")
    min_constant = Threshold(CONSTANT, "of all predictions, of the largest class")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs enough labels, and a run long enough for predictions to differ."""
        if missing := super().lacking(trace):
            return missing
        if any(_judged(trace)):
            return None
        return f"{MIN_LABELS:,} labels of a classification and {MIN_BATCHES} sampled batches from step {MIN_STEP} on"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the labels of each loss by all sampled steps, its predictions by the later ones."""
        for loss, steps, labels, predicted in _judged(trace):
            seen = labels[labels > 0]
            largest = int(np.argmax(labels))
            ratio = float(seen.max() / seen.min())
            share, constant = float(seen.max() / seen.sum()), float(predicted[largest] / predicted.sum())
            if ratio <= self.max_ratio or share < self.min_share or constant < self.min_constant:
                continue
            if not all(is_trained(trace, head) for head in heads(trace, loss)):
                continue
            rarest = 100 * float(seen.min() / seen.sum())
            yield self.finding(
                loss,
                steps=steps,
                measured=ratio,
                threshold=self.max_ratio,
                unit="1",
                message=(
                    f"class {largest} has {100 * share:.1f} % of the labels, {ratio:.0f} times as many as the rarest "
                    f"class, and {100 * constant:.2f} % of the predictions in the second half of the run"
                ),
                evidence=(
                    Evidence("share of the largest class", 100 * share, "%"),
                    Evidence("share of the rarest class", rarest, "%"),
                    Evidence("share of the constant prediction", 100 * constant, "%"),
                ),
            )


def _judged(trace: Trace) -> Iterator[tuple[Site, tuple[int, int], FloatArray, FloatArray]]:
    """Yield losses with enough labels: the steps of the second half, all labels' and its predictions' counts."""
    for loss in trace.of_kind(Kind.LOSS):
        labels, predicted = trace.vectors(loss, "label_counts"), trace.vectors(loss, "predicted_counts")
        if not labels:
            continue
        classes, last = len(labels[-1][1]), labels[-1][0]
        later = [(s, counts) for s, counts in predicted if s >= max(MIN_STEP, last / 2) and len(counts) == classes]
        together = np.sum([counts for _, counts in labels if len(counts) == classes], axis=0)
        if len(later) >= MIN_BATCHES and together.sum() >= MIN_LABELS:
            yield loss, (labels[0][0], last), together, np.sum([counts for _, counts in later], axis=0)
