"""D007. After https://docs.pytorch.org/docs/stable/data.html (shuffle) and https://arxiv.org/abs/1206.5533."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.inputs import heads
from unstuck.rules.labels import CLASS_LOSSES, Batch, labelled
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MIN_BATCHES = 8  # batches; eight ranges in order come about by chance once in 20,000 shuffled runs
MIN_NUMBER = 4  # labels in a batch; smaller ones are of one class by chance
PURE = 0.9  # share of the batches; those in between hold the end of one class and the beginning of the next
CHANCE = 0.5  # that a shuffled batch of these labels is of one class; above it one such batch says nothing
MAX_CHANGES = 1  # of two classes in the first ten batches; networks trained in turn go back and forth between them
MIN_RANGES = 4  # different ranges among batches in order; fewer are classes


class UnshuffledBatches(Rule):
    """The batches come in the order of their labels.

    ## What it does
    Fires when at least 8 batches were sampled, 9 of 10 hold labels of one class each, and the class differs from batch
    to batch over the run. It fires as well when the targets of at least 8 batches in a row lie in order: no target of
    a batch is below one of the batch before (or none above).

    ## Why is this bad
    The gradient of a batch stands for that of all data only when the batch is a random sample. Batches of one class
    each pull the network to that class and then to the next, which overwrites the one before; the loss within a class
    falls to nothing and says little about the whole.

    ## Evidence
    The number of batches, of classes in them, and the share of batches of one class.

    ## Stays silent on
    Batches of fewer than four labels; labels so uneven that shuffled batches would be of one class as well; two
    classes that alternate from step to step, as the real and the fake examples of a discriminator; a single class
    (D005); an order that was seen in fewer than 8 batches.

    ## Example
        loader = DataLoader(dataset, batch_size=50, shuffle=False)  # files sorted by class

    ## Fix
    Shuffle the training data anew each epoch: `DataLoader(..., shuffle=True)`, or `torch.randperm`.

    ## References
    - torch.utils.data, https://docs.pytorch.org/docs/stable/data.html
    - Practical recommendations for gradient-based training, https://arxiv.org/abs/1206.5533
    """

    code = "D007"
    name = "unshuffled-batches"
    stage = Stage.DATA
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    explains = ("A002", "L003", "L012", "L013", "L014", "N003", "U001")
    min_batches = Threshold(MIN_BATCHES, "batches")
    min_pure = Threshold(PURE, "of the batches, with labels of one class")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs targets of enough batches."""
        if missing := super().lacking(trace):
            return missing
        enough = any(len(trace.scalars(loss, "target_max")) >= self.min_batches for loss in trace.of_kind(Kind.LOSS))
        return None if enough else f"targets of a loss at {self.min_batches:g} sampled steps"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the classes of all sampled batches, and the order of those that follow each other."""
        by_class = {
            loss.index
            for loss, _, batches in labelled(trace)
            if _one_class_each(loss, batches, self.min_batches, self.min_pure)
        }
        for loss, _, batches in labelled(trace):
            if loss.index in by_class:
                yield self._of_one_class(loss, batches)
        for loss in trace.of_kind(Kind.LOSS):
            if (
                loss.index not in by_class
                and heads(trace, loss)
                and (run := _longest_order(trace, loss, self.min_batches))
            ):
                yield self.finding(
                    loss,
                    steps=(run[0], run[-1]),
                    measured=float(len(run)),
                    threshold=self.min_batches,
                    unit="batches",
                    message=(
                        f"the targets of {loss.op} lie in order from batch to batch, in all {len(run)} batches of "
                        f"steps {run[0]} to {run[-1]}"
                    ),
                    evidence=(Evidence("batches in order", float(len(run)), "batches"),),
                )

    def _of_one_class(self, loss: Site, batches: Sequence[Batch]) -> Finding:
        pure = [batch.only for batch in batches if batch.only is not None]
        share, classes = 100 * len(pure) / len(batches), len(set(pure))
        return self.finding(
            loss,
            steps=(batches[0].step, batches[-1].step),
            measured=share,
            threshold=100 * self.min_pure,
            unit="%",
            message=(
                f"{len(pure)} of {len(batches)} sampled batches hold labels of one class each, of {classes} different "
                "classes over the run"
            ),
            evidence=(
                Evidence("batches", float(len(batches)), "batches"),
                Evidence("classes in them", float(classes), "classes"),
            ),
        )


def _one_class_each(loss: Site, batches: Sequence[Batch], least: float, min_pure: float) -> bool:
    pure = [batch for batch in batches if batch.only is not None]
    number = float(np.median([batch.number for batch in batches]))
    if len(batches) < least or number < MIN_NUMBER or len(pure) < min_pure * len(batches):
        return False
    classes, counts = np.unique([batch.only for batch in pure], return_counts=True)
    if len(classes) < 2 or ((counts / counts.sum()) ** number).sum() > CHANCE:
        return False
    first = [batch for batch in pure if batch.step - pure[0].step < 10]
    changes = sum(a.only != b.only for a, b in pairwise(first))
    return changes <= MAX_CHANGES or (len(classes) > 2 and loss.op in CLASS_LOSSES)


def _longest_order(trace: Trace, loss: Site, least: float) -> list[int] | None:
    """Return the steps of the longest run of consecutive batches whose targets lie in order, if it is long enough."""
    low, high, number = (dict(trace.scalars(loss, f"target_{name}")) for name in ("min", "max", "elements"))
    if not low or np.median(list(number.values())) < MIN_NUMBER:
        return None
    best: list[int] = []
    for rising in (True, False):
        run: list[int] = []
        for step in sorted(low):
            before = step - 1
            follows = before in low and (high[before] <= low[step] if rising else low[before] >= high[step])
            run = [*run, step] if follows else [step]
            if len(run) > len(best) and len({(low[s], high[s]) for s in run}) >= MIN_RANGES:
                best = run
    return best if len(best) >= least else None
